"""What the network's output shows of its health, without any label."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softscribe.health.alignment_health import item_counts


class ActivationHealth(NamedTuple):
    """Numbers about each item of a batch. Shape: all (B,)"""

    density_ratio: Float[Tensor, " B"]
    """Mean activation divided by the targets' mean: near 0 the network has fallen silent, far above 1 it says everything. NaN where
    the targets are silent."""
    change_width_frames: Float[Tensor, " B"]
    """How many frames an output takes to go on or off: 1 for a change from 0 to 1 at once, w for w equal steps. Large: blurring. NaN
    where nothing changes."""


def activation_health(
    logits: Float[Tensor, "B N K"],
    targets: Shaped[Tensor, "B M K"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
) -> ActivationHealth:
    """Return the health of a network's outputs. No gradient flows.

    Widths are sum |d| / sum d^2 over all changes d from frame to frame, so that large changes count more than ripples.

    Args:
        logits: before the sigmoid.
        targets: what the loss aligns them with, in [0, 1].
        frame_counts, target_counts: as for `softscribe.alignment.soft_dtw`. None: no padding.

    Raises:
        ValueError: shapes or counts do not fit.

    >>> ramp = torch.tensor([[[0.01], [0.25], [0.5], [0.75], [0.99]]]).logit()
    >>> activation_health(ramp, torch.tensor([[[0], [1]]]))
    ActivationHealth(density_ratio=tensor([1.0000], dtype=torch.float64), change_width_frames=tensor([4.0...], dtype=torch.float64))
    """
    if logits.ndim != 3 or not len(logits) or targets.ndim != 3 or (len(logits), logits.shape[2]) != (len(targets), targets.shape[2]):
        raise ValueError(
            f"logits, targets: shapes {tuple(logits.shape)} and {tuple(targets.shape)} do not fit. Remedy: (B, N, K) and (B, M, K)."
        )
    activations, targets = logits.detach().double().cpu().sigmoid(), targets.detach().double().cpu()
    sounding, frames = _inside(activations, "frame_counts", frame_counts)
    written, rows = _inside(targets, "target_counts", target_counts)
    density = written.sum(dim=(1, 2)) / rows
    changes = (activations[:, 1:] - activations[:, :-1]).abs()
    changes = changes.where((torch.arange(1, activations.shape[1]) < frames[:, None])[:, :, None], 0.0)
    squares = changes.square().sum(dim=(1, 2))
    return ActivationHealth(
        density_ratio=sounding.sum(dim=(1, 2)) / frames / density.where(density > 0, torch.nan),
        change_width_frames=changes.sum(dim=(1, 2)) / squares.where(squares > 0, torch.nan),
    )


def _inside(sequence: Tensor, name: str, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a sequence with zeros for padding, and its counts."""
    counts = item_counts(name, counts, *sequence.shape[:2])
    inside = torch.arange(sequence.shape[1]) < counts[:, None]
    return sequence.where(inside[:, :, None], 0.0), counts
