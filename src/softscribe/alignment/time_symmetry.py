"""Soft-DTW that treats both directions of time alike.

A step is charged at the cell it arrives at, so that under unequal weights time has a direction: with centred predictions the expected
alignment changes targets up to .2 frames late for 1-1-2, and 1 to 3 frames late for a horizontal weight of .1, while the targets that
frames learn from (`equivalent_targets`) change up to .7 frames EARLY for the latter. Backwards in time it is the other way round.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment.operators import Operator
from softscribe.alignment.problem import Problem
from softscribe.alignment.soft_dtw import soft_dtw
from softscribe.alignment.steps import EQUAL_WEIGHTS, Step, StepWeights


def time_symmetric_soft_dtw(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
    steps: Sequence[Step] | None = None,
    operator: Operator = "soft",
    validate: bool = False,
) -> Float[Tensor, " B"]:
    """Return the mean of soft-DTW forwards and backwards in time, differentiable in the costs (once).

    Its gradient is the mean of both: reversing an item reverses it. Lateness and earliness cancel, at the price of two recursions and of
    changes that are blurred by as many frames. With weights 1-1-1 both directions agree for softmin and the hard
    minimum, and the loss is that of `soft_dtw`.

    Arguments are those of `soft_dtw`, except boundaries, since only fixed ones are the same in both directions; weights and costs of steps
    have to be numbers.

    Returns:
        The losses, in the unit of the cost: (B,).

    Raises:
        ValueError: a step cannot be reversed, or what `soft_dtw` refuses.

    Source: our own, from figures in docs/alignment.md ("Lag").

    >>> cost, weights = torch.tensor([[[0.0, 4.0], [1.0, 3.0], [5.0, 2.0]]]), StepWeights(horizontal=0.1)
    >>> time_symmetric_soft_dtw(cost, weights=weights), time_symmetric_soft_dtw(cost.flip(1, 2), weights=weights)
    (tensor([1.3101]), tensor([1.3101]))
    """
    options: dict[str, Any] = {"gamma": gamma, "weights": weights, "steps": steps, "operator": operator}
    for index, step in enumerate(Problem(**options).path_steps):
        if isinstance(step.weight, Tensor) or isinstance(step.cost, Tensor):
            raise ValueError(
                f"steps[{index}]: its weight or cost depends on the cell of arrival, which another direction of time does not have. "
                "Remedy: numbers, or soft_dtw."
            )
    forwards = soft_dtw(cost, frame_counts, target_counts, validate=validate, **options)
    reverse = reversed_in_time(cost, frame_counts, target_counts)
    backwards = soft_dtw(reverse, frame_counts, target_counts, validate=validate, **options)
    return (forwards + backwards) / 2


def reversed_in_time(
    cost: Float[Tensor, "B N M"], frame_counts: Int[Tensor, " B"] | None = None, target_counts: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B N M"]:
    """Return the cost with every item's frames and targets in reverse order; padding stays where it is.

    >>> reversed_in_time(torch.tensor([[[1, 2, 0], [3, 4, 0]]]).float(), None, torch.tensor([2]))
    tensor([[[4., 3., 0.],
             [2., 1., 0.]]])
    """
    for dim, counts in ((1, frame_counts), (2, target_counts)):
        if counts is None:
            cost = cost.flip(dim)
        else:
            positions, counts = torch.arange(cost.shape[dim], device=cost.device), counts[:, None]
            order = torch.where(positions < counts, counts - 1 - positions, positions).clamp(max=cost.shape[dim] - 1)
            cost = cost.gather(dim, order.unsqueeze(3 - dim).expand(cost.shape))
    return cost
