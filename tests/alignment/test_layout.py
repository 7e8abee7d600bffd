"""How problems are laid out for kernels: every item's own cells in order, and on a GPU without looking at a single value there.

PyTorch's meta device has shapes and no values: whatever looks at one, and so would wait for a GPU, raises there.
"""

import dataclasses
import itertools
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from softscribe.alignment import (
    FIXED,
    TWO_ONE_STEPS,
    BoundaryCell,
    BoundaryCells,
    Step,
    StepWeights,
    Subsequence,
    costs,
    ctc,
    ctc_loss,
    layout,
    multi_label_ctc_loss,
)
from softscribe.alignment.layout import lay_out
from softscribe.alignment.problem import Problem

STEPS = StepWeights(horizontal=0.5, vertical=2).steps()
SIDES = [None, "start", "end", "both"]
BOUNDARIES = {
    "fixed": FIXED,
    "equal cells, and some outside": BoundaryCells(
        start=(
            BoundaryCell(1, 0, 2.0),
            BoundaryCell(0, 0, 1.0, 0.5),
            BoundaryCell(-3, 0, 7.0),
            BoundaryCell(0, 4, 1.0),
            BoundaryCell(0, 0, 9.0),
        ),
        end=(BoundaryCell(-1, -1, 0.5), BoundaryCell(3, 1, 3.0), BoundaryCell(-2, -2, 1.0, -4.0), BoundaryCell(9, 9, 1.0)),
    ),
    **{
        f"frames {frames}, targets {targets}, compensated {compensated}": Subsequence(
            frames=frames, targets=targets, compensated=compensated
        )
        for frames, targets, compensated in itertools.product(SIDES, SIDES, [False, True])
        if frames or targets
    },
}
SHAPE = (5, 6, 4)
COUNTS = torch.tensor([6, 4, 2, 1, 3]), torch.tensor([4, 2, 1, 3, 3])


class Listed:
    """Boundaries of a user's own, which know nothing but `cells`."""

    def __init__(self, boundaries: BoundaryCells | Subsequence) -> None:
        self.cells = boundaries.cells


def rows(arrays: layout.BoundaryArrays, item: int) -> list[tuple[float, ...]]:
    inside = slice(int(arrays.begins[item]), int(arrays.stops[item]))
    return list(zip(*(values[inside].tolist() for values in arrays[2:]), strict=True))


@pytest.mark.parametrize("name", BOUNDARIES)
def test_every_item_has_its_own_cells_along_the_anti_diagonals(name: str) -> None:
    boundaries = BOUNDARIES[name]
    problem = Problem(steps=STEPS, boundaries=boundaries)
    arrays = lay_out(problem, SHAPE, *COUNTS)
    of_a_user = lay_out(Problem(steps=STEPS, boundaries=Listed(boundaries)), SHAPE, *COUNTS)
    for item, (frames, targets) in enumerate(torch.stack(COUNTS, dim=1).tolist()):
        for side, cells in enumerate(boundaries.cells(frames, targets, STEPS)):
            expected = sorted(
                ((cell.frame, cell.target, cell.weight, cell.cost) for cell in cells), key=lambda row: (row[0] + row[1], row[0])
            )
            assert rows(arrays[1 + side], item) == expected
            assert rows(of_a_user[1 + side], item) == expected


def test_subsequence_says_where_paths_may_start_and_end() -> None:
    start, end = Subsequence(frames="both", targets="end").cells(3, 2, STEPS)
    assert {(cell.frame, cell.target): cell.weight for cell in start} == {(0, 0): 1, (1, 0): 1.5, (2, 0): 2}
    assert {(cell.frame, cell.target): cell.weight for cell in end} == {(2, 1): 0, (1, 1): 0.5, (0, 1): 1, (2, 0): 2}


def test_an_item_that_is_left_out_has_no_cells() -> None:
    nothing = torch.zeros(1, dtype=torch.int64)
    for boundaries in BOUNDARIES.values():
        arrays = lay_out(Problem(steps=STEPS, boundaries=boundaries), (1, 6, 4), nothing, nothing)
        assert rows(arrays.starts, 0) == rows(arrays.ends, 0) == []


def test_cells_of_a_subclass_are_its_own() -> None:
    class LastTarget(Subsequence):
        def cells(self, frames, targets, steps):
            start, _ = super().cells(frames, targets, steps)
            return start, [BoundaryCell(frames - 1, targets - 1, weight=5.0)]

    arrays = lay_out(Problem(boundaries=LastTarget(frames="both")), SHAPE, *COUNTS)
    assert rows(arrays.ends, 0) == [(5, 3, 5.0, 0.0)]


PER_CELL = torch.rand(SHAPE)
STEP_SETS = {
    "classical": STEPS,
    "2-1 and a blocked one": (*TWO_ONE_STEPS, Step(1, 0, math.inf)),
    "tensors": (Step(1, 0, PER_CELL), Step(0, 1, cost=PER_CELL[0].double()), Step(1, 1, PER_CELL[0, 0], PER_CELL[:, :, :1])),
}


@pytest.fixture
def valueless(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device as a GPU is to Python that does not wait: without values, and without a copy but by `sent`, which alone does not wait."""
    monkeypatch.setattr(layout, "sent", lambda tensor, device: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
    return torch.device("meta")


class NoCopies(TorchDispatchMode):
    """Refuse whatever makes something on the device of something on the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = [argument for argument in tree_leaves((args, kwargs)) if isinstance(argument, Tensor)]
        made = [result for result in tree_leaves(found) if isinstance(result, Tensor)]
        if any(tensor.is_cpu for tensor in given) and any(tensor.is_meta for tensor in (*given, *made)):
            raise RuntimeError(f"{func}: a copy from the CPU")
        return found


def moved(step: Step, device: torch.device) -> Step:
    return Step(
        step.frames, step.targets, *(value.to(device) if isinstance(value, Tensor) else value for value in (step.weight, step.cost))
    )


@pytest.mark.parametrize("tensors_on_gpu", [False, True])
@pytest.mark.parametrize(
    "problem",
    [
        *(Problem(steps=steps) for steps in STEP_SETS.values()),
        *(Problem(steps=STEPS, boundaries=BOUNDARIES[name]) for name in ("fixed", "equal cells, and some outside")),
        Problem(steps=STEPS, boundaries=Subsequence(frames="both", targets="end")),
    ],
    ids=[*STEP_SETS, "fixed", "cells", "subsequence"],
)
def test_no_value_on_a_gpu_is_looked_at(problem: Problem, tensors_on_gpu: bool, valueless: torch.device) -> None:
    on_cpu = lay_out(problem, SHAPE, *COUNTS)
    if tensors_on_gpu:
        problem = dataclasses.replace(problem, steps=[moved(step, valueless) for step in problem.path_steps])
    counts = [count.to(valueless) for count in COUNTS]
    with NoCopies():
        arrays = lay_out(problem, SHAPE, *counts)
    for found, wanted in zip(itertools.chain(*arrays), itertools.chain(*on_cpu), strict=True):
        assert (found.device, found.shape, found.dtype) == (valueless, wanted.shape, wanted.dtype)


def test_the_stand_in_would_notice() -> None:
    with pytest.raises(RuntimeError):
        lay_out(Problem(boundaries=Listed(FIXED)), SHAPE, *(counts.to("meta") for counts in COUNTS))
    for copy in (lambda: torch.ones(1).to("meta"), lambda: torch.ones(2, device="meta") * torch.ones(2)):
        with NoCopies(), pytest.raises(RuntimeError):
            copy()


@pytest.mark.parametrize("blank_weight", [1.0, 2.0, math.inf])
def test_ctc_looks_at_no_value_on_a_gpu(blank_weight: float, valueless: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = []

    def soft_dtw(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, *, validate: bool, **options) -> Tensor:
        assert not validate
        laid_out.append(lay_out(Problem(**options), tuple(cost.shape), frame_counts, target_counts))
        return cost.sum(dim=(1, 2))

    monkeypatch.setattr(ctc, "soft_dtw", soft_dtw)
    monkeypatch.setattr(costs, "_full_precision", lambda device: nullcontext())  # there is no autocast of meta tensors
    logits = torch.zeros(2, 9, 4, device=valueless, requires_grad=True)
    labels, multi_hot = torch.zeros(2, 3, dtype=torch.int64, device=valueless), torch.zeros(2, 3, 4, device=valueless)
    counts = [torch.zeros(2, dtype=torch.int64, device=valueless) for _ in range(2)]
    with NoCopies():
        ctc_loss(logits, labels, *counts, blank_weight=blank_weight).sum().backward()
        multi_label_ctc_loss(logits, logits[:, :, 0], multi_hot, *counts, blank_weight=blank_weight).sum().backward()
    assert len(laid_out) == 2


def test_tensors_of_steps_broadcast() -> None:
    """What a kernel finds for a cell by the strides is what broadcasting says."""
    arrays = lay_out(Problem(steps=STEP_SETS["tensors"]), SHAPE, *COUNTS).steps
    values, strides = arrays.cell_values.numpy(), arrays.cell_strides.numpy()
    for row, tensor in enumerate((PER_CELL, PER_CELL[0, 0], PER_CELL[0], PER_CELL[:, :, :1])):
        for cell in np.ndindex(*SHAPE):
            assert values[strides[row, 0] + np.dot(strides[row, 1:], cell)] == float(tensor.expand(SHAPE)[cell])
