"""Where alignment paths may start and end, and what that costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from softscribe.alignment.arguments import number_or_nan, whole_number
from softscribe.alignment.steps import Step

Ends = Literal["start", "end", "both"] | None


class RelativeCells(NamedTuple):
    """Start cells, or end cells, of items of any size; a negative index counts from an item's end.

    Shape: frames, targets (K,) int64; weights, costs (K,) float64
    """

    frames: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    costs: np.ndarray


@dataclass(frozen=True)
class BoundaryCell:
    """A cell at which paths may start, or end.

    A path that starts there pays weight x C + cost for it (classically 1 x C). A path that ends there pays weight x C + cost on top
    (classically nothing).

    Args:
        frame: counted from 0, or from an item's end if negative: -1 is its last frame.
        target: likewise.
        weight: finite, >= 0.
        cost: a penalty, finite, in the unit of the cost matrix: -gamma log p gives the cell the prior probability p.

    Raises:
        ValueError: an argument is not of its kind or out of range.

    Source: J. Zeitler, M. Mueller, "A unified perspective on CTC and SDTW using differentiable DTW", 2025 (boundary conditions).

    >>> BoundaryCell(-1, -1, weight=0, cost=0.5)
    BoundaryCell(frame=-1, target=-1, weight=0, cost=0.5)
    """

    frame: int
    target: int
    weight: int | float
    cost: int | float = 0.0

    def __post_init__(self) -> None:
        for name in ("frame", "target"):
            index = whole_number(getattr(self, name))
            if index is None or not -(2**31) <= index < 2**31:
                raise ValueError(f"{name}: {getattr(self, name)!r}. Remedy: an integer of 32 bits, negative to count from the item's end.")
            object.__setattr__(self, name, index)  # NumPy's, too
        for name, lowest in (("weight", 0.0), ("cost", -math.inf)):
            value = getattr(self, name)
            if not lowest <= number_or_nan(value) < math.inf or value == -math.inf:
                raise ValueError(f"{name}: {value!r}. Remedy: a finite number{', at least 0' if name == 'weight' else ''}.")
            if not isinstance(value, int | float):
                object.__setattr__(self, name, float(value))  # of NumPy, say


@runtime_checkable
class Boundaries(Protocol):
    """What `soft_dtw` asks of its boundaries: a class of your own will do.

    >>> class FirstThird:
    ...     def cells(self, frames, targets, steps):
    ...         return [BoundaryCell(n, 0, weight=1) for n in range(frames // 3 + 1)], [BoundaryCell(frames - 1, targets - 1, weight=0)]
    >>> isinstance(FirstThird(), Boundaries)
    True
    """

    def cells(self, frames: int, targets: int, steps: Sequence[Step]) -> tuple[list[BoundaryCell], list[BoundaryCell]]:
        """Return the start cells and the end cells of an item of this size: inside it, without negative indices, each cell once."""


@dataclass(frozen=True)
class BoundaryCells:
    """Any set of start cells and any set of end cells. Without arguments: the first cell and the last.

    Args:
        start: cells to start at.
        end: cells to end at.

    Cells that an item is too small for are left out; of two entries for one cell the first counts.

    Raises:
        ValueError: a set is empty or holds something else.

    Paths that may begin with the first or the second target, and have to end with the last one:

    >>> boundaries = BoundaryCells(start=(BoundaryCell(0, 0, weight=1), BoundaryCell(0, 1, weight=1)))
    """

    start: tuple[BoundaryCell, ...] = (BoundaryCell(0, 0, weight=1.0),)
    end: tuple[BoundaryCell, ...] = (BoundaryCell(-1, -1, weight=0.0),)

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            cells = getattr(self, name)
            if not isinstance(cells, tuple) or not cells or not all(isinstance(cell, BoundaryCell) for cell in cells):
                raise ValueError(f"{name}: {cells!r}. Remedy: a tuple of at least one BoundaryCell.")

    def cells(self, frames: int, targets: int, steps: Sequence[Step]) -> tuple[list[BoundaryCell], list[BoundaryCell]]:
        """Return the start cells and the end cells of an item of this size, without negative indices.

        >>> BoundaryCells().cells(9, 4, ())[1]
        [BoundaryCell(frame=8, target=3, weight=0.0, cost=0.0)]
        """
        return self._inside(self.start, frames, targets), self._inside(self.end, frames, targets)

    def relative(self, frames: int, targets: int, steps: Sequence[Step]) -> tuple[RelativeCells, RelativeCells]:
        """Return the start cells and the end cells of items up to this size."""
        start, end = (
            RelativeCells(
                np.array([cell.frame for cell in cells], np.int64),
                np.array([cell.target for cell in cells], np.int64),
                np.array([cell.weight for cell in cells], np.float64),
                np.array([cell.cost for cell in cells], np.float64),
            )
            for cells in (self.start, self.end)
        )
        return start, end

    @staticmethod
    def _inside(cells: tuple[BoundaryCell, ...], frames: int, targets: int) -> list[BoundaryCell]:
        inside: dict[tuple[int, int], BoundaryCell] = {}
        for cell in cells:
            frame = cell.frame + frames * (cell.frame < 0)
            target = cell.target + targets * (cell.target < 0)
            if 0 <= frame < frames and 0 <= target < targets:
                inside.setdefault((frame, target), BoundaryCell(frame, target, cell.weight, cell.cost))
        return list(inside.values())


FIXED = BoundaryCells()
"""From the first cell to the last: every frame and every target takes part."""


@dataclass(frozen=True, kw_only=True)
class Subsequence:
    """Paths that may leave out frames, or targets, at their start or end.

    Args:
        frames: "start": paths may begin at any frame (with the first target); "end": they may end at any frame (with the last target);
            "both"; None: neither.
        targets: likewise at any target (with the first frame, with the last frame).
        compensated: charge what is left out as if the boundary cell's cost were repeated over it: a path that starts at frame n pays
            1 + n x (weight of the step to the next frame) times C there, one that ends at frame n pays (N - 1 - n) x that weight on top.
            Without it every cell less is a cost less, and the alignment collapses to the shortest path.

    Compensation needs a step to the next frame, or target, with a finite weight that is the same everywhere.

    Source: J. Zeitler, M. Mueller, "Subsequence SDTW: a framework for differentiable alignment with flexible boundary conditions",
    ICASSP 2026. Unlike in ddtw 0.1.2, the compensation's weights enter the gradient, and the cells (N, 1) and (1, M) count as well.

    Raises:
        ValueError: an argument is none of these, or nothing may be left out.

    >>> from softscribe.alignment import StepWeights
    >>> starts, ends = Subsequence(frames="both").cells(3, 2, StepWeights(horizontal=0.5).steps())
    >>> [(cell.frame, cell.target, cell.weight) for cell in starts]
    [(0, 0, 1.0), (1, 0, 1.5), (2, 0, 2.0)]
    """

    frames: Ends = None
    targets: Ends = None
    compensated: bool = True

    def __post_init__(self) -> None:
        for name in ("frames", "targets"):
            if getattr(self, name) not in ("start", "end", "both", None):
                raise ValueError(f'{name}: {getattr(self, name)!r}. Remedy: "start", "end", "both" or None.')
        if not isinstance(self.compensated, bool):
            raise ValueError(f"compensated: {self.compensated!r}. Remedy: True or False.")
        if self.frames is None and self.targets is None:
            raise ValueError("frames, targets: nothing may be left out. Remedy: name one of them, or use FIXED.")

    def cells(self, frames: int, targets: int, steps: Sequence[Step]) -> tuple[list[BoundaryCell], list[BoundaryCell]]:
        """Return the start cells and the end cells of an item of this size.

        Raises:
            ValueError: compensation is wanted, but no step says what a frame, or target, costs that is left out.
        """
        start, end = (
            list(map(BoundaryCell, (cells.frames % frames).tolist(), (cells.targets % targets).tolist(), cells.weights.tolist()))
            for cells in self.relative(frames, targets, steps)
        )
        return start, end

    def relative(self, frames: int, targets: int, steps: Sequence[Step]) -> tuple[RelativeCells, RelativeCells]:
        """Return the start cells and the end cells of items up to this size.

        Raises:
            ValueError: as `cells`.
        """
        frame_weight = self._repetition_weight(steps, Step(1, 0)) if self.frames else 0.0
        target_weight = self._repetition_weight(steps, Step(0, 1)) if self.targets else 0.0

        def left_out(side: Ends) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """How many frames, and how many targets, are left out, and what that weighs."""
            skipped_frames = np.arange(1, frames if self.frames in (side, "both") else 1)
            skipped_targets = np.arange(1, targets if self.targets in (side, "both") else 1)
            return (
                np.concatenate(([0], skipped_frames, 0 * skipped_targets)),
                np.concatenate(([0], 0 * skipped_frames, skipped_targets)),
                np.concatenate(([0.0], frame_weight * skipped_frames, target_weight * skipped_targets)),
            )

        at_start, at_end = left_out("start"), left_out("end")
        return (
            RelativeCells(at_start[0], at_start[1], 1 + at_start[2], 0 * at_start[2]),
            RelativeCells(-1 - at_end[0], -1 - at_end[1], at_end[2], 0 * at_end[2]),
        )

    def _repetition_weight(self, steps: Sequence[Step], repetition: Step) -> float:
        """The weight of the step that advances as `repetition` does; 0 without compensation."""
        if not self.compensated:
            return 0.0
        for step in steps:
            if (step.frames, step.targets) == (repetition.frames, repetition.targets):
                if isinstance(step.weight, int | float) and math.isfinite(step.weight):
                    return float(step.weight)
                break
        raise ValueError(
            f"boundaries: compensation needs a step ({repetition.frames}, {repetition.targets}) with one finite weight for all cells. "
            "Remedy: Subsequence(..., compensated=False), or BoundaryCells with weights of your own."
        )
