"""What soft-DTW refuses, and in which words: argument, item, value, remedy."""

import math

import torch
from torch import Tensor

from softscribe.alignment.boundaries import FIXED
from softscribe.alignment.cpu import common_kernels
from softscribe.alignment.problem import Problem, ProblemArrays


def checked_counts(cost: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check shapes, types and devices, and return both counts as int64, their values not looked at. Shape: (B,), (B,)

    Raises:
        ValueError: see `softscribe.alignment.soft_dtw`.

    >>> checked_counts(torch.zeros(2, 5, 3), None, torch.tensor([3, 1]))
    (tensor([5, 5]), tensor([3, 1]))
    """
    if not isinstance(cost, Tensor):
        raise ValueError(f"cost: a {type(cost).__name__}. Remedy: torch.as_tensor(cost).")
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost: shape {tuple(cost.shape)}. Remedy: (B, N, M) with at least one frame and one target.")
    if cost.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64) or cost.layout != torch.strided:
        raise ValueError(f"cost: {cost.dtype}, {cost.layout} is not computed with. Remedy: cost.float(), cost.to_dense().")
    if cost.device.type not in ("cpu", "cuda"):
        raise ValueError(f"cost: on {cost.device}, where no kernel runs. Remedy: cost.cpu(); the gradient finds its way back.")
    _, frames, targets = cost.shape
    return _checked_count("frame_counts", frame_counts, cost, frames), _checked_count("target_counts", target_counts, cost, targets)


def _checked_count(name: str, counts: Tensor | None, cost: Tensor, limit: int) -> Tensor:
    if counts is None:
        return torch.full((len(cost),), limit, dtype=torch.int64, device=cost.device)
    if not isinstance(counts, Tensor):
        raise ValueError(f"{name}: a {type(counts).__name__}. Remedy: torch.as_tensor({name}).")
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


def check_reachable(frame_counts: Tensor, target_counts: Tensor, problem: Problem, arrays: ProblemArrays) -> None:
    """Raise ValueError if an item has no path from a start to an end, whatever its cells cost, and say why. Before any recursion.

    >>> from softscribe.alignment import TWO_ONE_STEPS, soft_dtw
    >>> soft_dtw(torch.zeros(1, 9, 3), steps=TWO_ONE_STEPS)
    Traceback (most recent call last):
    ValueError: cost: item 0, 9 frames by 3 targets, has no path: its steps advance 0.5 to 2 frames per target, ... needs 4. Remedy: ...
    """
    if problem.always_has_path:
        return
    seen: set[tuple[int, int]] = set()
    for item, size in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True)):
        if size not in seen and not common_kernels.reachable(item, *size, *arrays):
            raise ValueError(
                f"cost: item {item}, {size[0]} frames by {size[1]} targets, has no path: {_reason(item, *size, problem, arrays)}. "
                "Remedy: leave the item out, or allow further steps or boundaries."
            )
        if not arrays.steps.cell_values.size:  # else items of one size may differ
            seen.add(size)


def _reason(item: int, frames: int, targets: int, problem: Problem, arrays: ProblemArrays) -> str:
    for name, cells in (("start", arrays.starts), ("end", arrays.ends)):
        if cells.offsets[item] == cells.offsets[item + 1]:
            return f"no {name} cell of the boundaries lies inside it"
    open_steps = [(step.frames, step.targets) for step in problem.path_steps if not step.is_blocked]
    if not open_steps:
        return "every step is blocked"
    if problem.boundaries == FIXED and targets > 1:
        rates = [step_frames / step_targets if step_targets else math.inf for step_frames, step_targets in open_steps]
        needed = (frames - 1) / (targets - 1)
        if not min(rates) <= needed <= max(rates):
            return (
                f"its steps advance {min(rates):g} to {max(rates):g} frames per target, from the first cell to the last it needs {needed:g}"
            )
    blocks = " where their weights and costs do not block them," if arrays.steps.cell_values.size else ""
    return f"no sum of its steps {open_steps}, as (frames, targets),{blocks} leads from a start cell to an end cell"


def check_losses(losses: Tensor) -> None:
    """Raise ValueError if a loss is not finite: numbers have become too large.

    >>> check_losses(torch.tensor([1.0, -float("inf")]))
    Traceback (most recent call last):
    ValueError: cost: item 1 has the loss -inf, beyond the range of torch.float32. Remedy: smaller costs, weights or gamma, ...
    """
    finite = torch.isfinite(losses)
    if not finite.all():
        item = int(finite.int().argmin())
        raise ValueError(
            f"cost: item {item} has the loss {float(losses[item])}, beyond the range of {losses.dtype}. "
            "Remedy: smaller costs, weights or gamma, a larger gamma if it is tiny, or a float64 cost."
        )
