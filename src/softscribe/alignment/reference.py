"""Soft-DTW in plain torch and float64: slow, obvious, and the truth that every kernel is tested against.

Nothing here has a derivative written by hand: autograd finds them all.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment.soft_dtw import Alignment
from softscribe.alignment.steps import EQUAL_WEIGHTS, StepWeights


def reference_soft_dtw(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
    cell_costs: Float[Tensor, "B N M"] | None = None,
) -> Float[Tensor, " B"]:
    """Return the soft-DTW of every item in float64, infinite where there is no path, differentiable as often as wanted.

    `cell_costs` are added to a path at every cell that it passes, whatever the step: the derivative in them is E.

    >>> cost = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    >>> loss = reference_soft_dtw(cost)  # -log 3
    >>> loss.item(), torch.autograd.grad(loss, cost)[0].tolist()
    (-1.0986..., [[[1.0, 0.333...], [0.333..., 1.0]]])
    """
    cost = cost.double()
    batch, frames, targets = cost.shape
    cell_costs = torch.zeros_like(cost) if cell_costs is None else cell_costs
    frame_list = [frames] * batch if frame_counts is None else frame_counts.tolist()
    target_list = [targets] * batch if target_counts is None else target_counts.tolist()
    losses = [
        _one_item(cost[b, : frame_list[b], : target_list[b]], cell_costs[b, : frame_list[b], : target_list[b]], gamma, weights)
        for b in range(batch)
    ]
    return torch.stack(losses) if losses else cost.new_zeros(0)


def reference_align(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Alignment:
    """Return what `softscribe.alignment.align` returns, in float64 and by autograd.

    >>> reference_align(torch.zeros(1, 2, 2)).path_entropy.exp().item()
    3.0000...
    """
    cost = cost.detach().double().requires_grad_()
    cell_costs = torch.zeros_like(cost, requires_grad=True)
    losses = reference_soft_dtw(cost, frame_counts, target_counts, gamma=gamma, weights=weights, cell_costs=cell_costs)
    gradient, expected = torch.autograd.grad(losses.sum(), (cost, cell_costs))
    path_cost = torch.where(gradient == 0, 0.0, cost * gradient).sum(dim=(1, 2)).detach()
    losses = losses.detach()
    return Alignment(losses, gradient, expected, path_cost, (path_cost - losses) / gamma)


def _one_item(cost: Tensor, cell_costs: Tensor, gamma: int | float, weights: StepWeights) -> Tensor:
    """D of the last cell, along the anti-diagonals n + m = t: the cells of one depend on the two before only.

    An anti-diagonal is a vector over n, with an element in front for n = -1 and infinity wherever there is no cell or no path.
    """
    frames, targets = cost.shape
    factors, step_costs = weights.factors_and_costs()
    infinity = cost.new_full((frames + 1,), torch.inf)
    before_last, last = infinity, infinity
    for t in range(frames + targets - 1):
        n = torch.arange(max(0, t - targets + 1), min(frames, t + 1))
        c = cost[n, t - n]
        if t == 0:
            entered = c
        else:
            steps = (last[n], last[n + 1], before_last[n])  # horizontal from (n-1, m), vertical from (n, m-1), diagonal
            arrivals = [d + factor * c + step_cost for d, factor, step_cost in zip(steps, factors, step_costs, strict=True)]
            entered = _softmin(torch.stack(arrivals), gamma)
        before_last, last = last, infinity.index_put((n + 1,), entered + cell_costs[n, t - n])
    return last[frames]


def _softmin(values: Tensor, gamma: int | float) -> Tensor:
    """-gamma log sum exp(-values / gamma) over the first axis; infinite, with gradient 0, where all values are."""
    reached = torch.isfinite(values).any(dim=0)
    safe = torch.where(reached, values, 0.0)
    return torch.where(reached, -gamma * torch.logsumexp(-safe / gamma, dim=0), torch.inf)
