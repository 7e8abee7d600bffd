"""Steps, weights and boundaries that are refused, and items that no path leads through: always in words, before the recursion."""

import math

import numpy as np
import pytest
import torch

from softscribe.alignment import (
    TWO_ONE_STEPS,
    BoundaryCell,
    BoundaryCells,
    Step,
    StepWeights,
    Subsequence,
    align,
    expected_alignment,
    hard_path,
    minimum,
    soft_dtw,
)
from softscribe.alignment.cpu import backend

pytestmark = pytest.mark.usefixtures("without_shape_types")
COST = torch.zeros(2, 5, 4)
FUNCTIONS = (soft_dtw, align, expected_alignment, hard_path)
NUMPY_FLOATS = (np.float16, np.float32, np.float64)
KEEPING = (Step(1, 0), Step(0, 1))


def changed(value: float, *index: int, shape: tuple[int, ...] = (2, 5, 4)) -> torch.Tensor:
    tensor = torch.ones(shape)
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0), "frames, targets: 0 and 0.*Remedy"),
        ((-1, 1), "frames: -1.*Remedy"),
        ((1, -1), "targets: -1.*Remedy"),
        ((1.0, 1), "frames: 1.0.*Remedy"),
        ((1, True), "targets: True.*Remedy"),
        (("1", 1), "frames: '1'.*Remedy"),
        ((np.float64(1), 1), "frames: .*1.0.*Remedy"),
        ((1, np.bool_(True)), "targets: .*True.*Remedy"),
        ((1, 10**30), "targets: 10+[.].*Remedy"),
        ((1, 1, -1), "weight: -1.*Remedy"),
        ((1, 1, math.nan), "weight: nan.*Remedy"),
        ((1, 1, -math.inf), "weight: -inf.*Remedy"),
        ((1, 1, np.float32(-1)), "weight: .*-1.*Remedy"),
        ((1, 1, np.float64(math.nan)), "weight: .*nan.*Remedy"),
        ((1, 1, np.bool_(True)), "weight: .*True.*Remedy"),
        ((1, 1, np.ones(1)), "weight: array.*Remedy"),
        *(((1, 1, kind(-math.inf)), "weight: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *(((1, 1, 1, kind(-math.inf)), "cost: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *(((1, 1, 1, kind(math.nan)), "cost: .*nan.*Remedy") for kind in NUMPY_FLOATS),
        ((1, 1, "1"), "weight: '1'.*Remedy"),
        ((1, 1, None), "weight: None.*Remedy"),
        ((1, 1, True), "weight: True.*Remedy"),
        ((1, 1, 1, math.nan), "cost: nan.*Remedy"),
        ((1, 1, 1, -math.inf), "cost: -inf.*Remedy"),
        ((1, 1, torch.tensor(1)), "weight: torch.int64.*Remedy"),
        ((1, 1, torch.tensor(True)), "weight: torch.bool.*Remedy"),
        ((1, 1, 1, torch.tensor(1j)), "cost: torch.complex64.*Remedy"),
        ((1, 1, 1, torch.tensor(1.0, dtype=torch.float8_e5m2)), "cost: torch.float8_e5m2.*Remedy"),
        ((1, 1, torch.tensor(1.0, requires_grad=True)), r"weight: requires a gradient.*Remedy: weight.detach\(\)"),
    ],
)
def test_steps(arguments, words):
    with pytest.raises(ValueError, match=words):
        Step(*arguments)


@pytest.mark.parametrize("shape", [(3,), (2,), (5,), (4, 1), (5, 3), (3, 1, 1), (3, 5, 4), (1, 2, 5, 4), (0,)])
@pytest.mark.parametrize("place", ["weight", "cost"])
def test_tensors_of_cells_that_do_not_fit(shape, place):
    with pytest.raises(ValueError, match=rf"steps\[2\].{place}: shape .* does not broadcast to the cost's \(2, 5, 4\).*Remedy"):
        soft_dtw(COST, steps=(*KEEPING, Step(1, 1, **{place: torch.ones(shape)})))


@pytest.mark.parametrize(
    ("place", "tensor", "words"),
    [
        ("weight", changed(-0.5, 1, 2, 3), "item 1 has -0.5 at frame 2, target 3"),
        ("weight", changed(math.nan, 2, shape=(4,)), "item 0 has nan at frame 0, target 2"),
        ("weight", torch.tensor(-math.inf), "item 0 has -inf"),
        ("cost", changed(math.nan, 1, 2, 3), "item 1 has nan at frame 2, target 3"),
        ("cost", changed(-math.inf, 4, 0, shape=(5, 1)), "item 0 has -inf at frame 4, target 0"),
        ("cost", torch.ones(4, device="meta"), "on meta"),
        ("weight", torch.ones(4, device="meta"), "on meta"),
    ],
)
def test_tensors_of_cells_with_bad_values(place, tensor, words):
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match=rf"steps\[1\].{place}: {words}.*Remedy"):
            function(COST, steps=(Step(1, 0), Step(1, 1, **{place: tensor}), Step(0, 1)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BoundaryCell(0.0, 0, weight=1), "frame: 0.0.*Remedy"),
        (lambda: BoundaryCell(0, None, weight=1), "target: None.*Remedy"),
        (lambda: BoundaryCell(True, 0, weight=1), "frame: True.*Remedy"),
        *((lambda bad=bad: BoundaryCell(0, 0, weight=bad), "weight: .*Remedy") for bad in (-1, math.nan, math.inf, None, "1", True)),
        *((lambda bad=bad: BoundaryCell(0, 0, weight=1, cost=bad), "cost: .*Remedy") for bad in (math.nan, math.inf, -math.inf, None, "1")),
        *((lambda kind=kind: BoundaryCell(0, 0, weight=1, cost=kind(-math.inf)), "cost: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *((lambda kind=kind: BoundaryCell(0, 0, weight=kind(math.inf)), "weight: .*inf.*Remedy") for kind in NUMPY_FLOATS),
        *((lambda kind=kind: StepWeights(diagonal=kind(-math.inf)), "diagonal: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        (lambda: StepWeights(diagonal=np.float32(math.nan)), "diagonal: .*nan.*Remedy"),
        (lambda: BoundaryCells(start=()), "start: .*Remedy"),
        (lambda: BoundaryCells(end=()), "end: .*Remedy"),
        (lambda: BoundaryCells(start=((0, 0),)), "start: .*Remedy"),
        (lambda: BoundaryCells(end=BoundaryCell(0, 0, weight=1)), "end: .*Remedy"),
        (lambda: Subsequence(), "frames, targets: nothing may be left out.*Remedy"),
        (lambda: Subsequence(frames="begin"), "frames: 'begin'.*Remedy"),
        (lambda: Subsequence(targets=True), "targets: True.*Remedy"),
        (lambda: Subsequence(frames="both", compensated=None), "compensated: None.*Remedy"),
        (lambda: StepWeights(diagonal="2"), "diagonal: .*Remedy"),
        (lambda: StepWeights(vertical=None), "vertical: .*Remedy"),
    ],
)
def test_boundaries_and_weights(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("weight", [-0.5, math.nan, -math.inf])
@pytest.mark.parametrize("step", ["horizontal", "vertical", "diagonal"])
def test_weights_that_are_refused(step, weight):
    with pytest.raises(ValueError, match=rf"{step}: the weight {weight}.*Remedy"):
        StepWeights(**{step: weight})


def test_whole_numbers_may_be_those_of_numpy():
    assert Step(np.int64(1), np.uint8(2)) == Step(1, 2)
    assert BoundaryCell(np.int32(-1), np.int64(0), weight=1) == BoundaryCell(-1, 0, weight=1)
    assert minimum(COST, dim=np.int64(1)).shape == (2, 4)


class OwnBoundaries:
    """As a user may write them."""

    def __init__(self, start: object, end: object) -> None:
        self.found = start, end

    def cells(self, frames: int, targets: int, steps: object) -> tuple:
        return self.found


FIRST, LAST = [BoundaryCell(0, 0, weight=1)], [BoundaryCell(4, 3, weight=0)]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (FIRST, LAST, None),
        ([BoundaryCell(-1, 0, weight=1)], LAST, r"start cell .*frame=-1.* for item 0, 5 frames by 4 targets"),
        (FIRST, [BoundaryCell(55, 0, weight=0)], "end cell .*frame=55"),
        (FIRST, [BoundaryCell(0, 4, weight=0)], "end cell .*target=4"),
        (2 * FIRST, LAST, "start cell"),
        ([(0, 0)], LAST, r"start cell \(0, 0\)"),
        (5, LAST, r"\(5, "),
    ],
)
def test_boundaries_of_a_users_own(start, end, words):
    for dtype in (torch.float32, torch.float64):
        if words is None:
            assert torch.equal(soft_dtw(COST.to(dtype), boundaries=OwnBoundaries(start, end)), soft_dtw(COST.to(dtype)))
        else:
            with pytest.raises(ValueError, match=f"boundaries: OwnBoundaries has .*{words}.*Remedy"):
                soft_dtw(COST.to(dtype), boundaries=OwnBoundaries(start, end))


@pytest.mark.parametrize("steps", [TWO_ONE_STEPS, (Step(1, 0, math.inf), *KEEPING[1:]), (Step(1, 0, torch.ones(4)), *KEEPING[1:])])
def test_compensation_needs_to_know_what_a_frame_costs(steps):
    with pytest.raises(ValueError, match=r"boundaries: compensation needs a step \(1, 0\).*Remedy"):
        soft_dtw(torch.zeros(1, 4, 4), steps=steps, boundaries=Subsequence(frames="end"))
    with pytest.raises(ValueError, match=r"boundaries: compensation needs a step \(0, 1\).*Remedy"):
        soft_dtw(torch.zeros(1, 4, 4), steps=(Step(1, 0), Step(1, 1)), boundaries=Subsequence(frames="both", targets="start"))


EVERYWHERE = torch.full((4,), math.inf)
IN_ITEM_1 = torch.where(torch.arange(2)[:, None, None] == 1, math.inf, 1.0)
WALL = changed(math.inf, 1, slice(None), 2)  # the third target of item 1: none goes round it


@pytest.mark.parametrize(
    ("options", "item", "reason"),
    [
        ({"steps": TWO_ONE_STEPS}, 1, r"0\.5 to 2 frames per target.*needs"),
        ({"steps": (Step(1, 0), Step(1, 1))}, 1, "frames per target"),
        ({"steps": (Step(1, 1, math.inf), Step(1, 0, 1.0, math.inf))}, 0, "every step is blocked"),
        ({"steps": (Step(2, 2), Step(1, 2), Step(2, 0))}, 0, "no sum of its steps"),
        ({"steps": (Step(1, 0, EVERYWHERE), Step(0, 1, cost=EVERYWHERE), Step(1, 1, EVERYWHERE))}, 0, "block"),
        ({"steps": (Step(1, 0, IN_ITEM_1), Step(0, 1, cost=IN_ITEM_1), Step(1, 1, IN_ITEM_1))}, 1, "block"),
        ({"steps": (Step(1, 0, WALL), Step(0, 1, cost=WALL), Step(1, 1, WALL))}, 1, "block"),
        ({"boundaries": BoundaryCells(start=(BoundaryCell(4, 0, weight=1),))}, 1, "no start cell.*inside"),
        ({"boundaries": BoundaryCells(end=(BoundaryCell(-3, 0, weight=1),))}, 1, "no end cell.*inside"),
        ({"boundaries": BoundaryCells(start=(BoundaryCell(1, 0, weight=1),), end=(BoundaryCell(0, -1, weight=0),))}, 0, "start cell"),
        ({"weights": StepWeights(horizontal=math.inf), "boundaries": Subsequence(targets="both")}, 0, "no sum of its steps"),
        ({"weights": StepWeights(horizontal=math.inf)}, 0, "0 to 1 frames per target"),  # with softmin these two are the fast kernel's
        ({"weights": StepWeights(vertical=math.inf)}, 1, "1 to inf frames per target"),
    ],
)
@pytest.mark.parametrize("operator", ["soft", "hard", "sparse", "smooth"])
def test_items_without_a_path_are_found_before_the_recursion(options, item, reason, operator, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("the recursion was started")

    monkeypatch.setattr(backend, "_on_torch_threads", forbidden)
    counts = torch.tensor([5, 2]), torch.tensor([4, 4])
    for function in (soft_dtw, align):
        with pytest.raises(ValueError, match=rf"cost: item {item}, \d frames by 4 targets, has no path: .*{reason}.*Remedy"):
            function(COST, *counts, operator=operator, **options)
