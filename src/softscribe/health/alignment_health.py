"""What an alignment shows of its own health, without any label.

Everything is read from E, the expected alignment, and from the path entropy. H, the gradient, would mislead: the sum of H over all cells is
N + M - 1 for weights 1-1-2 whatever the path, and its sums by frame depend on the weights more than on the path.

**Grouping.** Targets that are repeated to fill the frames (stretched targets) are one target here: neighbouring rows that are equal.

**Entering.** F_u(n) is the share of frame n that paths spend in target u or a later one. It rises from 0 to 1 where u is entered. While
paths hold one target in each frame it is the probability that u has been entered; a frame that a path shares among several targets counts
as if it were not known which of them it holds, a spread of up to half a frame for each.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softscribe.alignment import align

HARDLY_PASSED = 1e-3
"""A frame that fewer paths than this pass is left out: free ends leave out some, long steps others."""


class AlignmentHealth(NamedTuple):
    """Numbers about each item of a batch. Shape: all (B,)

    For scale: in a performance that is in order, the longest of U targets lasts some times N / U frames, and a frame holds one target.
    """

    largest_target_share: Float[Tensor, " B"]
    """Frames of the target that has most, as a share of the frames that are passed, in (0, 1]. Near 1: collapse."""
    target_gini: Float[Tensor, " B"]
    """Gini coefficient of the frames per target, in [0, 1): 0 if all have as many, towards 1 if one has all."""
    largest_frame_share: Float[Tensor, " B"]
    """Rows of the cost that the most crowded frame passes, as a share of all rows. Near 1: collapse."""
    entry_spread_frames: Float[Tensor, " B"]
    """How far apart two random paths enter a target, mean over the targets. Large: blurring. NaN for more targets than frames."""
    entry_spread_share: Float[Tensor, " B"]
    """The same as a share of what it is for costs of 0. Near 0: sharp; from near 1 on: nothing but blur. NaN for a single target, too,
    or where the costs of steps leave one path."""
    path_entropy_share: Float[Tensor, " B"]
    """Entropy of the distribution over paths, as a share of what it is for costs of 0: the logarithm of their number. Near 0: one path.
    NaN where there is a single one, or the costs of steps leave one."""


def alignment_health(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    targets: Float[Tensor, "B M K"] | None = None,
    **options: Any,
) -> AlignmentHealth:
    """Align a batch and return the health of its alignments, in float64 on the CPU. No gradient flows.

    Args:
        cost: what the loss aligns, prior included.
        frame_counts, target_counts: as for `softscribe.alignment.soft_dtw`. None: no padding.
        targets: what the cost compares frames with, to group neighbours that are equal; None takes every row for a target of its own.
        options: `gamma`, `weights` and others of `softscribe.alignment.align`.

    Raises:
        ValueError: see `soft_dtw`; or targets do not fit the cost.

    >>> cost = torch.tensor([[[0.0, 9.0, 9.0], [0.0, 9.0, 9.0], [0.0, 9.0, 9.0], [9.0, 5.0, 0.0]]])
    >>> health = alignment_health(cost, gamma=0.1)  # the first target has three frames, the last frame two targets
    >>> [round(float(value), 2) for value in (health.largest_target_share, health.largest_frame_share)]
    [0.75, 0.67]
    """
    cost, frame_counts, target_counts = counted(cost, frame_counts, target_counts)
    result = align(cost, frame_counts, target_counts, **options)
    ignorant = align(torch.zeros_like(cost), frame_counts, target_counts, **options | {"operator": "soft"})
    expected = result.expected_alignment
    groups = target_groups(cost, target_counts, targets)
    shares = frame_shares(expected, groups)
    group_counts = groups.amax(dim=1) + 1
    spread, widest = (_entry_spread(frame_shares(each.expected_alignment, groups), group_counts) for each in (result, ignorant))
    spread = spread.where(group_counts <= frame_counts, torch.nan)  # crowded for want of frames
    frames, rows = passed_frames(expected).sum(dim=1), target_counts.double()
    return AlignmentHealth(
        largest_target_share=shares.sum(dim=1).amax(dim=1) / frames,
        target_gini=_gini(shares.sum(dim=1), group_counts),
        largest_frame_share=expected.sum(dim=2).amax(dim=1) / rows,
        entry_spread_frames=spread,
        entry_spread_share=spread / widest.where(widest > 1e-3, torch.nan),  # else the costs of steps leave one path
        path_entropy_share=result.path_entropy / ignorant.path_entropy.where(ignorant.path_entropy > 1e-3, torch.nan),
    )


def counted(
    cost: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None
) -> tuple[Float[Tensor, "B N M"], Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Return the cost as float64 on the CPU, without a gradient, and counts that are never None.

    Raises:
        ValueError: the cost is no batch of matrices, or counts are not one per item, within it.
    """
    if not isinstance(cost, Tensor) or cost.ndim != 3 or not cost.numel():
        given = f"shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else f"a {type(cost).__name__}"
        raise ValueError(f"cost: {given}. Remedy: a tensor of shape (B, N, M), none of them 0.")
    cost = cost.detach().double().cpu()
    counts = item_counts("frame_counts", frame_counts, *cost.shape[:2]), item_counts("target_counts", target_counts, *cost.shape[::2])
    return cost, *counts


def item_counts(name: str, counts: Tensor | None, items: int, longest: int) -> Int[Tensor, " B"]:
    """Return how many frames or targets each item has, on the CPU: `longest` if that is not said.

    Raises:
        ValueError: they are not one whole number per item, from 1 to `longest`.

    >>> item_counts("frame_counts", None, items=2, longest=9)
    tensor([9, 9])
    """
    if counts is None:
        return torch.full((items,), longest)
    if not isinstance(counts, Tensor) or counts.is_floating_point() or counts.shape != (items,):
        raise ValueError(f"{name}: {counts!r}. Remedy: a tensor of {items} whole numbers, one per item.")
    counts = counts.cpu()
    if not ((counts >= 1) & (counts <= longest)).all():
        raise ValueError(f"{name}: {counts.tolist()}. Remedy: from 1 to {longest}, the length of what they count.")
    return counts


def target_groups(cost: Float[Tensor, "B N M"], target_counts: Int[Tensor, " B"], targets: Tensor | None) -> Int[Tensor, "B M"]:
    """Return which target each row shows, from 0 and never falling; rows of padding belong to the last one.

    Raises:
        ValueError: targets do not fit the cost.

    >>> target_groups(torch.zeros(1, 9, 4), torch.tensor([4]), torch.tensor([[[1], [1], [0], [1]]]))
    tensor([[0, 0, 1, 2]])
    """
    rows = torch.arange(cost.shape[2])
    if targets is None:
        changes = torch.ones(cost.shape[0], cost.shape[2], dtype=torch.bool)
    elif targets.ndim != 3 or tuple(targets.shape[:2]) != (cost.shape[0], cost.shape[2]):
        raise ValueError(f"targets: shape {tuple(targets.shape)} for a cost of shape {tuple(cost.shape)}. Remedy: (B, M, K) for (B, N, M).")
    else:
        changes = torch.ones(targets.shape[:2], dtype=torch.bool)
        changes[:, 1:] = (targets[:, 1:] != targets[:, :-1]).any(dim=2).cpu()
    changes = changes & (rows > 0) & (rows < target_counts[:, None])
    return changes.long().cumsum(dim=1)


def frame_shares(expected: Float[Tensor, "B N M"], groups: Int[Tensor, "B M"]) -> Float[Tensor, "B N U"]:
    """Return the probability of each target at each frame, 0 where paths do not pass: the share that its rows have of the frame's E."""
    shares = expected.new_zeros(*expected.shape[:2], int(groups.max()) + 1)
    shares.scatter_add_(2, groups[:, None].expand(expected.shape), expected)
    return shares / expected.sum(dim=2, keepdim=True).where(passed_frames(expected)[:, :, None], torch.inf)


def passed_frames(expected: Float[Tensor, "B N M"]) -> Bool[Tensor, "B N"]:
    """Return which frames paths pass: none of padding, nor of what free ends or long steps leave out."""
    return expected.sum(dim=2) > HARDLY_PASSED


def entries(shares: Float[Tensor, "B N U"]) -> Float[Tensor, "B N U"]:
    """Return F, the share of a frame that paths spend in a target or later ones. Shape: as `shares`"""
    return shares.flip(2).cumsum(dim=2).flip(2)


def _gini(values: Float[Tensor, "B U"], counts: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Gini coefficient of each item's first values, of which the others are 0, and so come first in order."""
    ordered = values.sort(dim=1).values
    ranks = torch.arange(1, values.shape[1] + 1) - (values.shape[1] - counts[:, None])
    weighted = ((2 * ranks - counts[:, None] - 1) * ordered).sum(dim=1)
    return weighted / (counts * values.sum(dim=1))


def _entry_spread(shares: Float[Tensor, "B N U"], counts: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Mean over the targets but the first of E|T - T'|, the distance of two independent entry times: 2 sum F (1 - F)."""
    entered = entries(shares)[:, :, 1:]
    distances = 2 * (entered * (1 - entered).clamp(min=0)).sum(dim=1)
    present = torch.arange(1, shares.shape[2]) < counts[:, None]
    return (distances * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
