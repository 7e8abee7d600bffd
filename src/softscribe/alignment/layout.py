"""An alignment problem as kernels take it, laid out on the counts' device.

On a GPU no value is looked at there, so that Python never waits: where a boundary cell lies is worked out on the GPU itself. Boundaries of
a user's own are the exception, whose code takes the counts as numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softscribe.alignment.boundaries import Boundaries, BoundaryCell, BoundaryCells, RelativeCells, Subsequence
from softscribe.alignment.problem import Problem
from softscribe.alignment.steps import Step

Array = Any
"""A tensor; for kernels what NumPy or Numba's CUDA make of it."""


class StepArrays(NamedTuple):
    """Steps as a kernel takes them. A weight or cost is a number, or, where its row is >= 0, that row of `cell_strides`.

    Shape: frames, targets, weights, costs, weight_rows, cost_rows (S,); cell_values (V,); cell_strides (R, 4)
    """

    frames: Array
    targets: Array
    weights: Array
    """Finite; 0 for a blocked step, so that infinity never meets a cost of 0."""
    costs: Array
    """Infinite for a blocked step."""
    weight_rows: Array
    cost_rows: Array
    cell_values: Array
    """Of all tensors, one after the other, each as small as it came. float64 if one of them is, else float32."""
    cell_strides: Array
    """Where a tensor begins, and how far its values of the next item, frame and target are: 0 if they are the same."""


class BoundaryArrays(NamedTuple):
    """Start cells, or end cells, of every item of a batch, each item's along the anti-diagonals.

    Those of item b stand at begins[b] to stops[b]. Shape: begins, stops (B,); frames, targets, weights, costs (places,)
    """

    begins: Array
    stops: Array
    frames: Array
    targets: Array
    weights: Array
    costs: Array


class ProblemArrays(NamedTuple):
    """All of a problem."""

    steps: StepArrays
    starts: BoundaryArrays
    ends: BoundaryArrays

    def converted(self, convert: Callable[[Array], Array]) -> "ProblemArrays":
        """Return the same of other arrays."""
        steps, starts, ends = self
        return ProblemArrays(StepArrays(*map(convert, steps)), BoundaryArrays(*map(convert, starts)), BoundaryArrays(*map(convert, ends)))


def lay_out(problem: Problem, shape: tuple[int, ...], frame_counts: Tensor, target_counts: Tensor) -> ProblemArrays:
    """Lay out a problem for a cost matrix of `shape` (B, N, M) with items of these sizes.

    An item of no frame and no target, as a GPU's backend makes of one with a count out of range, has no boundary cell but what boundaries
    of a user's own say for an item of one cell.

    Raises:
        ValueError: see `step_arrays`, `boundary_arrays`.

    >>> frame_counts = torch.tensor([9, 7])
    >>> lay_out(Problem(), (2, 9, 4), frame_counts, torch.tensor([4, 4])).ends.frames
    tensor([8, 6])
    """
    return ProblemArrays(
        step_arrays(problem.path_steps, shape, frame_counts, target_counts),
        *boundary_arrays(problem.boundaries, shape, frame_counts, target_counts, problem.path_steps),
    )


def step_arrays(steps: Sequence[Step], shape: tuple[int, ...], frame_counts: Tensor, target_counts: Tensor) -> StepArrays:
    """Lay out `steps` for a cost matrix of `shape` (B, N, M) with items of these sizes.

    Raises:
        ValueError: a weight or cost does not broadcast to `shape`, is on another GPU, or, if it is on the CPU, has values out of range.

    >>> counts = torch.tensor([4]), torch.tensor([3])
    >>> arrays = step_arrays((Step(1, 0, math.inf), Step(1, 1, torch.tensor([1.0, 2.0, 3.0]))), (1, 4, 3), *counts)
    >>> arrays.costs, arrays.cell_strides
    (tensor([inf, 0.], dtype=torch.float64), tensor([[0, 0, 0, 1]]))
    """
    device = frame_counts.device
    values: list[Tensor] = []

    def number_and_row(number: int | float | Tensor, label: str, lowest: float) -> tuple[float, int]:
        if not isinstance(number, Tensor):
            return float(number), -1
        check_cells(number, label, lowest, shape, frame_counts, target_counts)
        values.append(number)
        return 0.0, len(values) - 1

    weights = [number_and_row(step.weight, f"steps[{index}].weight", 0.0) for index, step in enumerate(steps)]
    costs = [number_and_row(step.cost, f"steps[{index}].cost", -math.inf) for index, step in enumerate(steps)]
    blocked = [step.is_blocked for step in steps]
    cell_values, cell_strides = _flattened(values, device)
    integers = torch.tensor(
        [
            [min(step.frames, shape[1]) for step in steps],  # what is longer never fits either
            [min(step.targets, shape[2]) for step in steps],
            [row for _, row in weights],
            [-1 if is_blocked else row for (_, row), is_blocked in zip(costs, blocked, strict=True)],
        ],
        device="cpu",
    )
    numbers = [
        [0.0 if is_blocked else weight for (weight, _), is_blocked in zip(weights, blocked, strict=True)],
        [math.inf if is_blocked else cost for (cost, _), is_blocked in zip(costs, blocked, strict=True)],
    ]
    frames, targets, weight_rows, cost_rows = sent(integers, device)
    step_weights, step_costs = sent(torch.tensor(numbers, dtype=torch.float64, device="cpu"), device)
    return StepArrays(frames, targets, step_weights, step_costs, weight_rows, cost_rows, cell_values, cell_strides)


def _flattened(tensors: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return `cell_values` and `cell_strides`."""
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    if not tensors:
        return torch.empty(0, dtype=dtype, device=device), torch.empty(0, 4, dtype=torch.int64, device=device)
    rows, begin = [], 0
    for tensor in tensors:
        strides = [0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        rows.append([begin, *[0] * (3 - len(strides)), *strides])
        begin += tensor.numel()
    values = torch.cat([sent(tensor.flatten(), device).to(dtype) for tensor in tensors])
    return values, sent(torch.tensor(rows, device="cpu"), device)


def check_cells(value: Tensor, label: str, lowest: float, shape: tuple[int, ...], frame_counts: Tensor, target_counts: Tensor) -> None:
    """Check a step's weight or cost against the cost matrix's shape and, on the CPU, its values; padding may hold anything.

    >>> check_cells(torch.tensor([1.0, -2.0]), "steps[0].weight", 0.0, (1, 5, 2), torch.tensor([5]), torch.tensor([2]))
    Traceback (most recent call last):
    ValueError: steps[0].weight: item 0 has -2.0 at frame 0, target 1. Remedy: values of at least 0, or infinity to block.
    """
    try:
        value.expand(shape)
    except RuntimeError:
        given = tuple(value.shape)
        raise ValueError(f"{label}: shape {given} does not broadcast to the cost's {shape}. Remedy: (M,), (N, 1) or (B, N, M).") from None
    if value.device.type != "cpu":
        if value.device != frame_counts.device:
            raise ValueError(f"{label}: on {value.device}, the cost on {frame_counts.device}. Remedy: the cost's device, or {label}.cpu().")
        return
    smallest = float(value.amin()) if value.numel() else math.inf  # of NaN and anything it is NaN
    if not smallest >= lowest or smallest == -math.inf:
        outside = ~(value >= lowest) | (value == -math.inf)
        for item, (frames, targets) in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True)):
            wrong = outside.expand(shape)[item, :frames, :targets].nonzero()
            if len(wrong):
                frame, target = wrong[0].tolist()
                found = float(value.expand(shape)[item, frame, target])
                remedy = "values of at least 0" if lowest == 0 else "finite values"
                raise ValueError(
                    f"{label}: item {item} has {found} at frame {frame}, target {target}. Remedy: {remedy}, or infinity to block."
                )


def boundary_arrays(
    boundaries: Boundaries, shape: tuple[int, ...], frame_counts: Tensor, target_counts: Tensor, steps: Sequence[Step]
) -> tuple[BoundaryArrays, BoundaryArrays]:
    """Lay out the start cells and the end cells of all items.

    Raises:
        ValueError: see `Subsequence.cells`; or boundaries of a user's own returned something else than cells that lie inside the item.

    >>> from softscribe.alignment import FIXED
    >>> starts, ends = boundary_arrays(FIXED, (2, 9, 4), torch.tensor([9, 7]), torch.tensor([4, 4]), ())
    >>> ends.frames, ends.begins, ends.stops
    (tensor([8, 6]), tensor([0, 1]), tensor([1, 2]))
    """
    if type(boundaries) is BoundaryCells or type(boundaries) is Subsequence:  # not a subclass, which may have other cells
        start, end = boundaries.relative(shape[1], shape[2], steps)
        return _placed(start, shape, frame_counts, target_counts), _placed(end, shape, frame_counts, target_counts)
    sizes = [(max(frames, 1), max(targets, 1)) for frames, targets in torch.stack((frame_counts, target_counts), dim=1).tolist()]
    known = {size: _checked_cells(boundaries, sizes.index(size), size, steps) for size in dict.fromkeys(sizes)}
    device = frame_counts.device
    return _listed([known[size][0] for size in sizes], device), _listed([known[size][1] for size in sizes], device)


def _placed(cells: RelativeCells, shape: tuple[int, ...], frame_counts: Tensor, target_counts: Tensor) -> BoundaryArrays:
    """Place cells in every item, in rows of equal length, without those that an item is too small for; of equals the first counts."""
    device = frame_counts.device
    (batch, frames, targets), count = shape, len(cells.frames)
    frame, target = sent(torch.from_numpy(np.stack((cells.frames, cells.targets))), device)
    weights_and_costs = sent(torch.from_numpy(np.stack((cells.weights, cells.costs))), device)
    frame = frame + (frame < 0) * frame_counts[:, None]
    target = target + (target < 0) * target_counts[:, None]
    inside = (frame >= 0) & (frame < frame_counts[:, None]) & (target >= 0) & (target < target_counts[:, None])
    # Along the anti-diagonals, equals in their order; what does not count comes last.
    last = (frames + targets) * frames
    keys, order = ((frame + target) * frames + frame).where(inside, last).sort(dim=1, stable=True)
    is_first = torch.cat((torch.ones_like(inside[:, :1]), keys[:, 1:] != keys[:, :-1]), dim=1)
    keys, moves = keys.where(is_first, last).sort(dim=1, stable=True)  # closes the gaps that the others leave
    chosen = order.gather(1, moves)
    begins = torch.arange(batch, device=device) * count
    return BoundaryArrays(
        begins,
        begins + (keys < last).sum(dim=1),
        *(places.gather(1, chosen).flatten() for places in (frame, target)),
        *weights_and_costs[:, chosen].flatten(1),
    )


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


def _listed(items: list[Sequence[BoundaryCell]], device: torch.device) -> BoundaryArrays:
    """Lay out each item's own cells."""
    cells = [cell for item in items for cell in sorted(item, key=lambda cell: (cell.frame + cell.target, cell.frame))]
    stops = torch.tensor([len(item) for item in items], dtype=torch.int64, device="cpu").cumsum(dim=0)
    places = torch.tensor([[cell.frame for cell in cells], [cell.target for cell in cells]], dtype=torch.int64, device="cpu")
    values = torch.tensor([[cell.weight for cell in cells], [cell.cost for cell in cells]], dtype=torch.float64, device="cpu")
    begins = torch.cat((stops.new_zeros(1), stops))[: len(items)]
    return BoundaryArrays(*sent(torch.stack((begins, stops)), device), *sent(places, device), *sent(values, device))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device without waiting, which takes memory that the GPU reads by itself. torch keeps it until it has.

    >>> sent(torch.ones(1), torch.device("cpu"))
    tensor([1.])
    """
    return tensor if tensor.device == device else tensor.pin_memory().to(device, non_blocking=True)
