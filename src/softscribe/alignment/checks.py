"""What soft-DTW refuses, and in which words: argument, item, value, remedy."""

import math

import numpy as np
import torch
from torch import Tensor

from softscribe.alignment import cpu_kernels
from softscribe.alignment.boundaries import FIXED, BoundaryArrays, boundary_arrays
from softscribe.alignment.problem import Problem


def checked_counts(cost: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check shapes, types and devices, and return both counts as int64, their values not looked at. Shape: (B,), (B,)

    Raises:
        ValueError: see `softscribe.alignment.soft_dtw`.

    >>> checked_counts(torch.zeros(2, 5, 3), None, torch.tensor([3, 1]))
    (tensor([5, 5]), tensor([3, 1]))
    """
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost: shape {tuple(cost.shape)}. Remedy: (B, N, M) with at least one frame and one target.")
    if not cost.is_floating_point():
        raise ValueError(f"cost: {cost.dtype} is not a floating type. Remedy: cost.float().")
    if cost.device.type not in ("cpu", "cuda"):
        raise ValueError(f"cost: on {cost.device}, where no kernel runs. Remedy: cost.cpu(); the gradient finds its way back.")
    _, frames, targets = cost.shape
    return _checked_count("frame_counts", frame_counts, cost, frames), _checked_count("target_counts", target_counts, cost, targets)


def _checked_count(name: str, counts: Tensor | None, cost: Tensor, limit: int) -> Tensor:
    if counts is None:
        return torch.full((len(cost),), limit, dtype=torch.int64, device=cost.device)
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise ValueError(f"{name}: {counts.dtype} does not count. Remedy: an integer type.")
    if counts.shape != (len(cost),):
        raise ValueError(
            f"{name}: shape {tuple(counts.shape)}, but the cost has {len(cost)} items. Remedy: one count per item, ({len(cost)},)."
        )
    if counts.device != cost.device:
        raise ValueError(f"{name}: on {counts.device}, but the cost on {cost.device}. Remedy: move both to one device.")
    return counts.to(torch.int64).contiguous()


def check_count_values(cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> None:
    """Raise ValueError if a count is below 1 or beyond the cost's shape.

    >>> check_count_values(torch.zeros(2, 5, 3), torch.tensor([5, 6]), torch.tensor([3, 3]))
    Traceback (most recent call last):
    ValueError: frame_counts: item 1 has 6, outside [1, 5]. Remedy: the item's length without padding.
    """
    for name, counts, limit in (("frame_counts", frame_counts, cost.shape[1]), ("target_counts", target_counts, cost.shape[2])):
        inside = (counts >= 1) & (counts <= limit)
        if not inside.all():
            item = int(inside.int().argmin())
            raise ValueError(
                f"{name}: item {item} has {int(counts[item])}, outside [1, {limit}]. Remedy: the item's length without padding."
            )


def check_finite(cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> None:
    """Raise ValueError if a cost that is not padding is not finite.

    >>> check_finite(torch.tensor([[[1.0, float("nan")]]]), torch.tensor([1]), torch.tensor([2]))
    Traceback (most recent call last):
    ValueError: cost: item 0 holds nan at frame 0, target 1. Remedy: ...
    """
    if torch.isfinite(cost).all():
        return
    for item, (frames, targets) in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True)):
        broken = ~torch.isfinite(cost[item, :frames, :targets])
        if broken.any():
            frame, target = (int(position) for position in broken.nonzero()[0])
            value = float(cost[item, frame, target])
            raise ValueError(
                f"cost: item {item} holds {value} at frame {frame}, target {target}. "
                "Remedy: look for NaN or infinity in what the cost is made of; forbid a cell by a large finite cost."
            )


def check_reachable(frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> None:
    """Raise ValueError if an item has no path from a start to an end, whatever its cells cost, and say why. Before any recursion.

    >>> from softscribe.alignment import TWO_ONE_STEPS, soft_dtw
    >>> soft_dtw(torch.zeros(1, 9, 3), steps=TWO_ONE_STEPS)
    Traceback (most recent call last):
    ValueError: cost: item 0, 9 frames by 3 targets, has no path: its steps advance 0.5 to 2 frames per target, ... needs 4. Remedy: ...
    """
    if problem.is_classical and not math.isinf(problem.weights.horizontal) and not math.isinf(problem.weights.vertical):
        return
    open_steps = [(step.frames, step.targets) for step in problem.path_steps if not step.is_blocked]
    sizes = list(zip(frame_counts.tolist(), target_counts.tolist(), strict=True))
    for size in dict.fromkeys(sizes):
        starts, ends = boundary_arrays(problem.boundaries, [size[0]], [size[1]], problem.path_steps)
        if not cpu_kernels.reachable(*size, np.array(open_steps, np.int64).reshape(-1, 2), starts, ends):
            raise ValueError(
                f"cost: item {sizes.index(size)}, {size[0]} frames by {size[1]} targets, has no path: "
                f"{_reason(*size, problem, open_steps, starts, ends)}. "
                "Remedy: leave the item out, or allow further steps or boundaries."
            )


def _reason(
    frames: int, targets: int, problem: Problem, open_steps: list[tuple[int, int]], starts: BoundaryArrays, ends: BoundaryArrays
) -> str:
    for name, cells in (("start", starts), ("end", ends)):
        if not len(cells.frames):
            return f"no {name} cell of the boundaries lies inside it"
    if not open_steps:
        return "every step is blocked"
    if problem.boundaries == FIXED and targets > 1:
        rates = [step_frames / step_targets if step_targets else math.inf for step_frames, step_targets in open_steps]
        needed = (frames - 1) / (targets - 1)
        if not min(rates) <= needed <= max(rates):
            return f"its steps advance {min(rates):g} to {max(rates):g} frames per target, from the first cell to the last it needs {needed:g}"
    return f"no sum of its steps {open_steps}, as (frames, targets), leads from a start cell to an end cell"


def check_losses(losses: Tensor, problem: Problem) -> None:
    """Raise ValueError if a loss is not finite: paths are blocked, cell by cell, or numbers have become too large.

    >>> check_losses(torch.tensor([1.0, -float("inf")]), Problem())
    Traceback (most recent call last):
    ValueError: cost: item 1 has the loss -inf, beyond the range of torch.float32. Remedy: smaller costs, weights or gamma, ...
    """
    finite = torch.isfinite(losses)
    if finite.all():
        return
    item = int(finite.int().argmin())
    if losses[item] == math.inf and any(isinstance(value, Tensor) for step in problem.path_steps for value in (step.weight, step.cost)):
        raise ValueError(
            f"steps: item {item} has no path, for weights or costs of steps block cells on each (or are too large). "
            "Remedy: a large finite cost instead of infinity, or leave the item out."
        )
    raise ValueError(
        f"cost: item {item} has the loss {float(losses[item])}, beyond the range of {losses.dtype}. "
        "Remedy: smaller costs, weights or gamma, a larger gamma if it is tiny, or a float64 cost."
    )
