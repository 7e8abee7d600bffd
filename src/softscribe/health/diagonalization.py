"""Does the alignment follow the recording, or the diagonal? Answered by counterfactuals on the same costs.

A steady performance IS diagonal, so closeness to the diagonal proves nothing. What does:

- **Neutral weights.** Weights 1-1-1 pay for two steps round a corner what 1-1-2 pays for the diagonal through it, so that they pull towards
  the diagonal, and a diagonal prior holds it. If E leaves the diagonal under 1-1-2 and without the prior, on the same costs, but not under
  what the training aligns with, it was that which held it.
- **Re-warping.** Stretched targets are spread evenly, which is a guess. Another guess, the same targets spread at random, has to lead to
  the same onsets if the costs say where they are. If the onsets move along with the guess, E follows the guess.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment import StepWeights, align
from softscribe.health.alignment_health import counted, entries, frame_shares, passed_frames, target_groups

NEUTRAL = StepWeights(diagonal=2)
EVEN = 0.01
"""A distance from even timing, in shares of the item, of which a part says nothing."""
COLLAPSED = 0.5
"""A target's share of the frames beyond which it is no longer the recording that leads E away from the diagonal."""
LARGEST_WARP = 2.0
"""A re-warped target is given up to this many times as many rows as it had, or as few."""


class Diagonalization(NamedTuple):
    """Numbers about each item of a batch. Shape: all (B,)"""

    neutral_distance_ratio: Float[Tensor, " B"]
    """Distance of E from even timing under the given weights and prior, divided by that under 1-1-2 alone: near 0, these hold it.

    NaN where even the latter is below a hundredth of the item: the performance is even, and there is nothing to hold; or where the latter
    gives one target more than half of the frames: a collapse is no way to leave the diagonal.
    """
    rewarp_following: Float[Tensor, " B"]
    """How far the onsets move when the targets are re-warped, as a share of how far the guess moved: 0 follows the costs, 1 the guess.

    NaN where there is a single target, or nothing was repeated.
    """


def diagonalization(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    targets: Float[Tensor, "B M K"],
    prior: Float[Tensor, "B N M"] | None = None,
    seed: int,
    **options: Any,
) -> Diagonalization:
    """Return what becomes of a batch's alignments under neutral weights, and under targets that are spread at random.

    Args:
        cost: what frames cost with targets, WITHOUT a prior: columns change places with their targets, and a prior stays.
        frame_counts, target_counts: as for `softscribe.alignment.soft_dtw`.
        targets: what the cost compares frames with; rows that repeat their neighbour are one target.
        prior: what the training adds to the cost for a cell's place alone, whatever the targets.
        seed: decides the new spread.
        options: `gamma`, `weights` and others of `softscribe.alignment.align`, as in the training.

    Raises:
        ValueError: see `soft_dtw`; or targets or the prior do not fit the cost, or the seed is no whole number from 0.

    Costs that know nothing leave everything to the guess; the ratio is that of 1-1-1's narrow ridge to 1-1-2's:

    >>> targets = torch.eye(4).repeat_interleave(10, dim=0)[None]
    >>> ignorant = torch.full((1, 40, 40), 5.0)
    >>> result = diagonalization(ignorant, targets=targets, seed=0, weights=StepWeights(), gamma=1.0)
    >>> bool(result.rewarp_following > 0.9)
    True
    >>> certain = 20 * (1 - targets @ targets.mT)
    >>> bool(diagonalization(certain, targets=targets, seed=0, weights=NEUTRAL, gamma=1.0).rewarp_following < 0.1)
    True
    """
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: {seed!r}. Remedy: a whole number from 0.")
    cost, frame_counts, target_counts = counted(cost, frame_counts, target_counts)
    groups = target_groups(cost, target_counts, targets)
    if prior is None:
        prior = torch.zeros_like(cost)
    if not isinstance(prior, Tensor) or prior.shape != cost.shape:
        given = f"shape {tuple(prior.shape)}" if isinstance(prior, Tensor) else repr(prior)
        raise ValueError(f"prior: {given} for costs of {tuple(cost.shape)}. Remedy: a tensor with a number per cell.")
    prior = prior.to(cost)
    source = rewarped_rows(groups, target_counts, seed)
    warped_cost = cost.gather(2, source[:, None].expand(cost.shape))
    neutrally = {name: value for name, value in options.items() if name != "steps"} | {"weights": NEUTRAL}
    own, neutral, warped = (
        align(matrix, frame_counts, target_counts, **each).expected_alignment
        for matrix, each in ((cost + prior, options), (cost, neutrally), (warped_cost + prior, options))
    )
    distances = [_diagonal_distance(expected, frame_counts, target_counts) for expected in (own, neutral)]
    onsets = [mean_onset_frames(own, groups), mean_onset_frames(warped, groups.gather(1, source))]
    guesses = [_first_rows(rows) / target_counts[:, None] * frame_counts[:, None] for rows in (groups, groups.gather(1, source))]
    moved, guessed = onsets[1] - onsets[0], guesses[1] - guesses[0]
    largest_share = frame_shares(neutral, groups).sum(dim=1).amax(dim=1) / passed_frames(neutral).sum(dim=1)
    ratio = distances[0] / distances[1].where((distances[1] > EVEN) & (largest_share <= COLLAPSED), torch.nan)
    return Diagonalization(ratio, (moved * guessed).sum(dim=1) / guessed.square().sum(dim=1))


def rewarped_rows(groups: Int[Tensor, "B M"], target_counts: Int[Tensor, " B"], seed: int) -> Int[Tensor, "B M"]:
    """Return which row takes the place of each row, so that every target is there as before, but has other numbers of rows.

    Padding keeps its rows, and what becomes of an item depends on its place in the batch, not on the others.

    >>> groups = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    >>> groups.gather(1, rewarped_rows(groups, torch.tensor([8]), seed=0))
    tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    """
    source = torch.arange(groups.shape[1]).repeat(len(groups), 1)
    for item, count in enumerate(target_counts.tolist()):
        rows = np.bincount(groups[item, :count].numpy())
        weights = rows * LARGEST_WARP ** np.random.default_rng([seed, item]).uniform(-1, 1, len(rows))
        # One row each, and the others in proportion, rounded so that none is lost.
        extra = np.diff(np.round(np.cumsum(weights) / weights.sum() * (count - len(rows))), prepend=0).astype(np.int64)
        firsts = np.concatenate([[0], np.cumsum(rows)[:-1]])
        source[item, :count] = torch.from_numpy(np.repeat(firsts, extra + 1))
    return source


def _diagonal_distance(
    expected: Float[Tensor, "B N M"], frame_counts: Int[Tensor, " B"], target_counts: Int[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """The root mean square distance of E from even timing over the frames that paths pass, as a share of all frames.

    Even timing gives each row its share of the frames, in all of which a path may hold it: there the distance is 0.
    """
    rows, frames = torch.arange(expected.shape[2]) + 0.5, torch.arange(expected.shape[1]) + 0.5
    passed = passed_frames(expected)
    positions = (expected @ rows.double()) / expected.sum(dim=2).where(passed, 1.0) / target_counts[:, None]
    beside = (positions - frames / frame_counts[:, None]).abs() - 0.5 / target_counts[:, None]
    squares = beside.clamp(min=0).square().where(passed, 0.0)
    return (squares.sum(dim=1) / passed.sum(dim=1)).sqrt()


def mean_onset_frames(expected: Float[Tensor, "B N M"], groups: Int[Tensor, "B M"]) -> Float[Tensor, "B U"]:
    """The mean frame at which each target is entered: that before which the path is not in it or behind.

    What was entered stays so in frames that long steps leave out; those after the last that is passed are behind all targets.
    """
    entered = entries(frame_shares(expected, groups)).cummax(dim=1).values
    until_the_end = passed_frames(expected).flip(1).cummax(dim=1).values.flip(1)
    return ((1 - entered) * until_the_end[:, :, None]).sum(dim=1)


def _first_rows(groups: Int[Tensor, "B M"]) -> Float[Tensor, "B U"]:
    """The first row of each target."""
    targets = torch.arange(int(groups.max()) + 1)
    return (groups[:, :, None] < targets).sum(dim=1).double()
