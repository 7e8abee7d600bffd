"""Where alignment paths may start and end, and what that costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from softscribe.alignment.arguments import number_or_nan, whole_number
from softscribe.alignment.steps import Step

Ends = Literal["start", "end", "both"] | None


class BoundaryArrays(NamedTuple):
    """Start cells, or end cells, of every item of a batch, one item after the other, each item's along the anti-diagonals.

    Those of item b stand at offsets[b] to offsets[b + 1]. Shape: offsets (B + 1,); frames, targets, weights, costs (cells,)
    """

    offsets: np.ndarray
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
            if index is None:
                raise ValueError(f"{name}: {getattr(self, name)!r}. Remedy: an integer, negative to count from the item's end.")
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
        frame_weight = self._repetition_weight(steps, Step(1, 0)) if self.frames else 0.0
        target_weight = self._repetition_weight(steps, Step(0, 1)) if self.targets else 0.0
        start = {(0, 0): 1.0}
        end = {(frames - 1, targets - 1): 0.0}
        if self.frames in ("start", "both"):
            start |= {(frame, 0): 1 + frame * frame_weight for frame in range(frames)}
        if self.targets in ("start", "both"):
            start |= {(0, target): 1 + target * target_weight for target in range(targets)}
        if self.frames in ("end", "both"):
            end |= {(frame, targets - 1): (frames - 1 - frame) * frame_weight for frame in range(frames)}
        if self.targets in ("end", "both"):
            end |= {(frames - 1, target): (targets - 1 - target) * target_weight for target in range(targets)}
        return [BoundaryCell(*cell, weight) for cell, weight in start.items()], [
            BoundaryCell(*cell, weight) for cell, weight in end.items()
        ]

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


def boundary_arrays(
    boundaries: Boundaries, frame_counts: Sequence[int], target_counts: Sequence[int], steps: Sequence[Step]
) -> tuple[BoundaryArrays, BoundaryArrays]:
    """Lay out the start cells and the end cells of all items.

    Raises:
        ValueError: see `Subsequence.cells`; or boundaries of a user's own returned something else than cells that lie inside the item.

    >>> starts, ends = boundary_arrays(FIXED, [9, 7], [4, 4], ())
    >>> ends.frames, ends.offsets
    (array([8, 6]), array([0, 1, 2]))
    """
    sizes = list(zip(frame_counts, target_counts, strict=True))
    known = {size: _checked_cells(boundaries, sizes.index(size), size, steps) for size in dict.fromkeys(sizes)}
    return _laid_out([known[size][0] for size in sizes]), _laid_out([known[size][1] for size in sizes])


def _checked_cells(
    boundaries: Boundaries, item: int, size: tuple[int, int], steps: Sequence[Step]
) -> tuple[Sequence[BoundaryCell], Sequence[BoundaryCell]]:
    """Return the cells of an item of this size: kernels read and write where they say, so they are looked at."""
    found = boundaries.cells(*size, steps)
    remedy = "Remedy: cells(frames, targets, steps) returns two lists of BoundaryCell inside the item, each cell once."
    if not isinstance(found, tuple | list) or len(found) != 2 or not all(isinstance(cells, tuple | list) for cells in found):
        raise ValueError(f"boundaries: {type(boundaries).__name__} has {found!r} for item {item}. {remedy}")
    for name, cells in zip(("start", "end"), found, strict=True):
        seen: set[tuple[int, int]] = set()
        for cell in cells:
            if (
                not isinstance(cell, BoundaryCell)
                or not (0 <= cell.frame < size[0] and 0 <= cell.target < size[1])
                or (cell.frame, cell.target) in seen
            ):
                raise ValueError(
                    f"boundaries: {type(boundaries).__name__} has the {name} cell {cell!r} for item {item}, "
                    f"{size[0]} frames by {size[1]} targets. {remedy}"
                )
            seen.add((cell.frame, cell.target))
    return found[0], found[1]


def _laid_out(items: list[Sequence[BoundaryCell]]) -> BoundaryArrays:
    cells = [cell for item in items for cell in sorted(item, key=lambda cell: (cell.frame + cell.target, cell.frame))]
    return BoundaryArrays(
        offsets=np.cumsum([0, *(len(item) for item in items)], dtype=np.int64),
        frames=np.array([cell.frame for cell in cells], np.int64),
        targets=np.array([cell.target for cell in cells], np.int64),
        weights=np.array([cell.weight for cell in cells], np.float64),
        costs=np.array([cell.cost for cell in cells], np.float64),
    )
