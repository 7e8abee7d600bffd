"""What soft-DTW refuses, and in which words: argument, item, value, remedy."""

import math

import torch
from torch import Tensor

from softscribe.alignment.steps import StepWeights


def checked_counts(
    cost: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None, gamma: int | float, weights: StepWeights
) -> tuple[Tensor, Tensor]:
    """Check all arguments of soft-DTW and return both counts as int64. Shape: (B,), (B,)

    Raises:
        ValueError: see `softscribe.alignment.soft_dtw`.

    >>> checked_counts(torch.zeros(2, 5, 3), None, torch.tensor([3, 1]), 1.0, StepWeights())
    (tensor([5, 5]), tensor([3, 1]))
    """
    check_parameters(gamma, weights)
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost: shape {tuple(cost.shape)}. Remedy: (B, N, M) with at least one frame and one target.")
    if not cost.is_floating_point():
        raise ValueError(f"cost: {cost.dtype} is not a floating type. Remedy: cost.float().")
    if cost.device.type != "cpu":
        raise ValueError(f"cost: on {cost.device}, where no kernel runs. Remedy: cost.cpu(); the gradient finds its way back.")
    batch, frames, targets = cost.shape
    frame_counts = _checked_count("frame_counts", frame_counts, batch, frames)
    target_counts = _checked_count("target_counts", target_counts, batch, targets)
    _check_finite(cost, frame_counts, target_counts)
    return frame_counts, target_counts


def check_parameters(gamma: int | float, weights: StepWeights) -> None:
    """Raise ValueError if gamma is not positive and finite, or the weights are not named.

    >>> check_parameters(0.0, StepWeights())
    Traceback (most recent call last):
    ValueError: gamma: 0.0 is not a positive number. Remedy: a temperature above 0, such as 1.0; a small one for nearly hard DTW.
    """
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < math.inf:
        raise ValueError(
            f"gamma: {gamma!r} is not a positive number. Remedy: a temperature above 0, such as 1.0; a small one for nearly hard DTW."
        )
    if not isinstance(weights, StepWeights):
        raise ValueError(f"weights: {weights!r}. Remedy: StepWeights(horizontal=..., vertical=..., diagonal=...).")


def check_paths(losses: Tensor, frame_counts: Tensor, target_counts: Tensor, weights: StepWeights) -> None:
    """Raise ValueError if a loss is infinite: no path leads through that item.

    >>> check_paths(torch.tensor([1.0, math.inf]), torch.tensor([2, 9]), torch.tensor([2, 3]), StepWeights(horizontal=math.inf))
    Traceback (most recent call last):
    ValueError: cost: item 1, 9 frames by 3 targets, has no path under StepWeights(horizontal=inf, vertical=1.0, diagonal=1.0). ...
    """
    reached = torch.isfinite(losses)
    if not reached.all():
        item = int(reached.int().argmin())
        raise ValueError(
            f"cost: item {item}, {int(frame_counts[item])} frames by {int(target_counts[item])} targets, has no path under {weights}. "
            "Remedy: leave the item out, or give a blocked step a finite weight."
        )


def _checked_count(name: str, counts: Tensor | None, batch: int, limit: int) -> Tensor:
    if counts is None:
        return torch.full((batch,), limit, dtype=torch.int64)
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise ValueError(f"{name}: {counts.dtype} does not count. Remedy: an integer type.")
    if counts.shape != (batch,):
        raise ValueError(f"{name}: shape {tuple(counts.shape)}, but the cost has {batch} items. Remedy: one count per item, ({batch},).")
    if counts.device.type != "cpu":
        raise ValueError(f"{name}: on {counts.device}, but the cost on a CPU. Remedy: {name}.cpu().")
    counts = counts.to(torch.int64).contiguous()
    inside = (counts >= 1) & (counts <= limit)
    if not inside.all():
        item = int(inside.int().argmin())
        raise ValueError(f"{name}: item {item} has {int(counts[item])}, outside [1, {limit}]. Remedy: the item's length without padding.")
    return counts


def _check_finite(cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> None:
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
