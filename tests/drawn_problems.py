"""Alignment problems of every kind drawn at random, and what the documentation says that they mean, as graphs of `all_paths`."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import Tensor

from all_paths import Cell, Graph
from softscribe.alignment import FIXED, Alignment, BoundaryCell, BoundaryCells, Step, StepWeights, Subsequence, align

CLASSICAL_WEIGHTS = [
    StepWeights(),
    StepWeights(diagonal=2),
    StepWeights(horizontal=0.1),
    StepWeights(horizontal=0, vertical=0.5, diagonal=1.7),
    StepWeights(horizontal=0, vertical=0, diagonal=0),
    StepWeights(horizontal=math.inf, diagonal=2),
    StepWeights(vertical=math.inf),
    StepWeights(diagonal=math.inf),
    StepWeights(vertical=math.inf, diagonal=0),
]

STEP_SETS: dict[str, list[tuple[int, int]]] = {
    "classical": [(1, 0), (0, 1), (1, 1)],
    "2-1": [(1, 1), (2, 1), (1, 2)],
    "frame skipping": [(1, 0), (1, 1), (2, 0), (2, 1)],
    "target skipping": [(1, 0), (0, 1), (1, 1), (0, 2), (1, 2)],
    "CTC": [(1, 0), (1, 1), (1, 2)],
    "far": [(0, 1), (3, 1), (1, 0), (2, 3)],
}
BOUNDARIES = {
    "fixed": FIXED,
    **{
        f"{frames} of frames, {targets} of targets, {'compensated' if compensated else 'plain'}": Subsequence(
            frames=frames, targets=targets, compensated=compensated
        )
        for frames, targets in itertools.product((None, "start", "end", "both"), repeat=2)
        for compensated in (True, False)
        if frames or targets
    },
    "cells": BoundaryCells(
        start=(BoundaryCell(0, 0, weight=1), BoundaryCell(0, 1, weight=0, cost=0.5), BoundaryCell(1, 1, weight=2.5, cost=-0.3)),
        end=(BoundaryCell(-1, -1, weight=0), BoundaryCell(-2, -1, weight=1.5, cost=0.2), BoundaryCell(3, -2, weight=0, cost=-0.1)),
    ),
    "crossing cells": BoundaryCells(
        start=(BoundaryCell(-3, 0, weight=0.5), BoundaryCell(0, 0, weight=1), BoundaryCell(0, 0, weight=9, cost=9)),
        end=(BoundaryCell(0, 0, weight=1, cost=1), BoundaryCell(-1, -1, weight=0.7), BoundaryCell(-1, 2, weight=0)),
    ),
}


class DrawnProblem(NamedTuple):
    """A batch, padded with NaN, and the options it is aligned with. `weights`, if any, say what `steps` say, for the fast kernels."""

    cost: Tensor
    frame_counts: Tensor
    target_counts: Tensor
    steps: tuple[Step, ...]
    boundaries: Any
    operator: str
    gamma: float
    weights: StepWeights | None = None

    @property
    def options(self) -> dict[str, Any]:
        steps = {"steps": self.steps} if self.weights is None else {"weights": self.weights}
        return {"gamma": self.gamma, **steps, "boundaries": self.boundaries, "operator": self.operator}

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.cost, self.frame_counts, self.target_counts

    def sizes(self) -> list[tuple[int, int]]:
        return list(zip(self.frame_counts.tolist(), self.target_counts.tolist(), strict=True))

    def graph(self, item: int) -> Graph:
        frames, targets = self.sizes()[item]
        starts, ends = boundary_cells(self.boundaries, frames, targets, self.steps)
        return Graph(
            self.cost[item, :frames, :targets].numpy(),
            [
                (step.frames, step.targets, *(self._of_item(value, item)[:frames, :targets].numpy() for value in (step.weight, step.cost)))
                for step in self.steps
            ],
            starts,
            ends,
        )

    def _of_item(self, value: float | Tensor, item: int) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64).expand(self.cost.shape)[item]


def solved(problem: DrawnProblem) -> Alignment:
    """Align, and pass over what has no path."""
    try:
        return align(*problem.arguments, **problem.options)
    except ValueError as error:
        if "has no path" not in str(error):
            raise
        return reject()


def boundary_cells(boundaries: Any, frames: int, targets: int, steps: Sequence[Step]) -> tuple[dict[Cell, tuple], dict[Cell, tuple]]:
    """Weight and cost of every start cell and every end cell."""
    if isinstance(boundaries, BoundaryCells):
        starts, ends = ({}, {})
        for found, cells in ((starts, boundaries.start), (ends, boundaries.end)):
            for cell in cells:
                frame, target = cell.frame + frames * (cell.frame < 0), cell.target + targets * (cell.target < 0)
                if 0 <= frame < frames and 0 <= target < targets:
                    found.setdefault((frame, target), (cell.weight, cell.cost))
    else:
        advances = {(step.frames, step.targets): step.weight for step in steps}
        per_frame = advances[1, 0] if boundaries.compensated and boundaries.frames else 0.0
        per_target = advances[0, 1] if boundaries.compensated and boundaries.targets else 0.0
        starts, ends = {(0, 0): (1.0, 0.0)}, {(frames - 1, targets - 1): (0.0, 0.0)}
        if boundaries.frames in ("start", "both"):
            starts |= {(n, 0): (1.0 + n * per_frame, 0.0) for n in range(frames)}
        if boundaries.targets in ("start", "both"):
            starts |= {(0, m): (1.0 + m * per_target, 0.0) for m in range(targets)}
        if boundaries.frames in ("end", "both"):
            ends |= {(n, targets - 1): ((frames - 1 - n) * per_frame, 0.0) for n in range(frames)}
        if boundaries.targets in ("end", "both"):
            ends |= {(frames - 1, m): ((targets - 1 - m) * per_target, 0.0) for m in range(targets)}
    return starts, dict(sorted(ends.items(), key=lambda item: (sum(item[0]), item[0])))


def fits(steps: Sequence[Step], boundaries: Any) -> bool:
    """Whether the steps say what is to be paid for what a subsequence leaves out."""
    if not isinstance(boundaries, Subsequence) or not boundaries.compensated:
        return True
    plain = {(step.frames, step.targets) for step in steps if not isinstance(step.weight, Tensor) and step.weight < float("inf")}
    return (not boundaries.frames or (1, 0) in plain) and (not boundaries.targets or (0, 1) in plain)


def per_cell(shape: tuple[int, ...], low: float, high: float, seed: int, blocked: float = 0.0) -> Tensor:
    """Random values of cells, a share of them infinite."""
    generator = torch.Generator().manual_seed(seed)
    values = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    return values.masked_fill(torch.rand(shape, generator=generator) < blocked, float("inf"))


def random_costs(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def padded_costs(draw, most: int, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Draw the costs of up to three items, NaN where they are padding, and how many frames and targets the items have."""
    sizes = st.integers(1, most)
    counts = draw(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3))
    shape = len(counts), max(n for n, _ in counts) + draw(st.integers(0, 1)), max(m for _, m in counts)
    cost = random_costs(*shape, seed=draw(st.integers(0, 999)), scale=scale)
    for item, (frames, targets) in enumerate(counts):
        cost[item, frames:] = torch.nan
        cost[item, :, targets:] = torch.nan
    return cost, [torch.tensor(axis) for axis in zip(*counts, strict=True)]


@st.composite
def problems(draw, most: int = 4, operators=("soft", "hard", "sparse", "smooth"), infinities: bool = True, weights=None) -> DrawnProblem:
    """Draw everything; a problem may turn out to have no path unless nothing is infinite, and even then.

    `weights` is a strategy of numbers, instead of weights and costs of all kinds.
    """
    cost, counts = draw(padded_costs(most, scale=2.0))
    shape = cost.shape
    part = st.sampled_from(list(itertools.product(*({1, size} for size in shape))))
    cut = part.flatmap(lambda full: st.sampled_from([full[drop:] for drop in range(4) if all(size == 1 for size in full[:drop])]))
    seeds = st.integers(0, 999)
    numbers = [0.0, 0.5, 1.0, 2.0, *([float("inf")] if infinities else [])]
    blocked = st.sampled_from([0.0, 0.1] if infinities else [0.0])
    weight = weights or st.one_of(st.sampled_from(numbers), st.builds(per_cell, cut, st.just(0.0), st.just(2.0), seeds, blocked))
    added = st.just(0.0) if weights else st.one_of(st.floats(-1, 1), st.builds(per_cell, cut, st.just(-1.0), st.just(1.0), seeds, blocked))
    steps = tuple(Step(*advance, draw(weight), draw(added)) for advance in STEP_SETS[draw(st.sampled_from(list(STEP_SETS)))])
    fitting = [name for name, boundaries in BOUNDARIES.items() if fits(steps, boundaries)]
    boundaries = BOUNDARIES[draw(st.sampled_from(fitting))]
    return DrawnProblem(cost, *counts, steps, boundaries, draw(st.sampled_from(operators)), draw(st.sampled_from([0.1, 1.0, 5.0])))


@st.composite
def classical_problems(draw, most: int = 30, scale: float = 5.0, gammas=(0.01, 0.3, 1.0, 10.0, 100.0)) -> DrawnProblem:
    """Draw softmin over the three classical steps, given by their weights: in float32 these take the fast kernels. All have a path."""
    cost, counts = draw(padded_costs(most, scale))
    weight = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0.05, 3.0))
    weights = StepWeights(horizontal=draw(weight), vertical=draw(weight), diagonal=draw(st.one_of(weight, st.just(float("inf")))))
    return DrawnProblem(cost, *counts, weights.steps(), FIXED, "soft", draw(st.sampled_from(gammas)), weights)
