"""Alignment in plain torch and float64: slow, obvious, and the truth that every kernel is tested against.

Nothing here has a derivative written by hand: autograd finds them all. Options are those of `soft_dtw`.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment.boundaries import BoundaryCell
from softscribe.alignment.operators import minimum
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment


def reference_soft_dtw(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    cell_costs: Float[Tensor, "B N M"] | None = None,
    **options: Any,
) -> Float[Tensor, " B"]:
    """Return the soft-DTW of every item in float64, infinite where there is no path, differentiable as often as wanted.

    `cell_costs` are added to a path at every cell that it passes, whatever the step: the derivative in them is E.

    >>> cost = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    >>> loss = reference_soft_dtw(cost)  # -log 3
    >>> loss.item(), torch.autograd.grad(loss, cost)[0].tolist()
    (-1.0986..., [[[1.0, 0.333...], [0.333..., 1.0]]])
    """
    problem = Problem(**options)
    cost = cost.double()
    batch, frames, targets = cost.shape
    cell_costs = torch.zeros_like(cost) if cell_costs is None else cell_costs
    frame_list = [frames] * batch if frame_counts is None else frame_counts.tolist()
    target_list = [targets] * batch if target_counts is None else target_counts.tolist()
    losses = [
        _one_item(cost[b, : frame_list[b], : target_list[b]], cell_costs[b, : frame_list[b], : target_list[b]], cost.shape, b, problem)
        for b in range(batch)
    ]
    return torch.stack(losses) if losses else cost.new_zeros(0)


def reference_align(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    **options: Any,
) -> Alignment:
    """Return what `softscribe.alignment.align` returns, in float64 and by autograd.

    The last two, <C, H> and (<C, H> - SDTW) / gamma, are what they are called for softmin without costs of steps and boundaries.

    >>> reference_align(torch.zeros(1, 2, 2)).path_entropy.exp().item()
    3.0000...
    """
    cost = cost.detach().double().requires_grad_()
    cell_costs = torch.zeros_like(cost, requires_grad=True)
    losses = reference_soft_dtw(cost, frame_counts, target_counts, cell_costs=cell_costs, **options)
    gradient, expected = torch.autograd.grad(losses.sum(), (cost, cell_costs))
    path_cost = torch.where(gradient == 0, 0.0, cost * gradient).sum(dim=(1, 2)).detach()
    losses = losses.detach()
    return Alignment(losses, gradient, expected, path_cost, (path_cost - losses) / options.get("gamma", 1.0))


def _one_item(cost: Tensor, cell_costs: Tensor, batch_shape: torch.Size, item: int, problem: Problem) -> Tensor:
    """The minimum over the end cells of D, along the anti-diagonals n + m = t: the cells of one depend on those before only.

    An anti-diagonal is a vector over n, with elements in front for n < 0, and infinity wherever there is no cell or no path.
    """
    frames, targets = cost.shape
    steps = problem.path_steps
    starts, ends = problem.boundaries.cells(frames, targets, steps)
    terms = [tuple(_of_item(value, batch_shape, item) for value in (step.weight, step.cost)) for step in steps]
    entry_weights, entry_costs = _tables(starts, frames, targets)
    margin = max(step.frames for step in steps)
    infinity = cost.new_full((margin + frames,), torch.inf)
    diagonals = [infinity] * max(step.frames + step.targets for step in steps)  # of t - 1, t - 2, ...
    ending = {(cell.frame, cell.target): cell for cell in ends}
    end_values = []
    for t in range(frames + targets - 1):
        n = torch.arange(max(0, t - targets + 1), min(frames, t + 1))
        m = t - n
        arrivals = [entry_weights[n, m] * cost[n, m] + entry_costs[n, m]]
        for step, (weight, step_cost) in zip(steps, terms, strict=True):
            open_ = ~torch.isinf(weight[n, m]) & ~torch.isinf(step_cost[n, m])
            before = diagonals[step.frames + step.targets - 1][n - step.frames + margin]
            charge = weight[n, m].where(open_, 0.0) * cost[n, m] + step_cost[n, m].where(open_, 0.0)
            arrivals.append((before + charge).where(open_, torch.inf))
        entered = minimum(torch.stack([*arrivals[1:], arrivals[0]]), problem.operator, problem.gamma) + cell_costs[n, m]
        diagonals = [infinity.index_put((n + margin,), entered), *diagonals[:-1]]
        for frame in n.tolist():
            if (frame, t - frame) in ending:
                cell = ending[frame, t - frame]
                end_values.append(diagonals[0][frame + margin] + cell.weight * cost[frame, t - frame] + cell.cost)
    return minimum(torch.stack(end_values), problem.operator, problem.gamma) if end_values else cost.new_tensor(torch.inf)


def _of_item(value: int | float | Tensor, batch_shape: torch.Size, item: int) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).expand(batch_shape)[item]


def _tables(cells: list[BoundaryCell], frames: int, targets: int) -> tuple[Tensor, Tensor]:
    """Weights and costs of the start cells as matrices; the cost is infinite where no path starts."""
    weights, costs = torch.zeros(frames, targets, dtype=torch.float64), torch.full((frames, targets), torch.inf, dtype=torch.float64)
    for cell in cells:
        weights[cell.frame, cell.target], costs[cell.frame, cell.target] = cell.weight, cell.cost
    return weights, costs
