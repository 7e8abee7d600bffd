"""Soft dynamic time warping, differentiable.

A path leads from a start cell to an end cell by steps. Classically it leads from cell (1, 1) to cell (N, M) by the three steps of
`StepWeights`. It costs C at its first cell, and at every further one the weight of the step by which it arrives there, times C.
Over the costs of all paths

    SDTW = -gamma log(sum over paths of exp(-cost of the path / gamma)),

by the recursion D(n, m) = softmin over the steps of (D(cell before) + weight C(n, m)). A path then has the probability
exp((SDTW - its cost) / gamma), and these quantities follow:

- H = dSDTW/dC, the gradient: how often a path passes a cell, on average, each time counted with the weight of the step it came by;
- E, the expected alignment: the probability that a path passes a cell. H and E are equal for unit weights only;
- <C, H> = sum over cells of C H, the expected path cost (steps and boundaries with costs of their own add theirs), which is comparable
  between values of gamma as SDTW is not;
- (expected path cost - SDTW) / gamma, the path entropy in nats: 0 if only one path counts.

SDTW is negative where gamma x path entropy exceeds the expected path cost: that is no mistake. It is no distance either; for one that is
0 between equals see `soft_dtw_divergence`.

With another minimum operator the recursion is the definition. E is then the derivative in a cost that every path through the cell pays.

Sources: M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML 2017 (value and gradient);
J. Zeitler, M. Krause, M. Mueller, "Soft dynamic time warping with variable step weights", ICASSP 2024 (weights); A. Mensch, M. Blondel,
"Differentiable dynamic programming for structured prediction and attention", ICML 2018 (operators).

Differences to others: in weightedSDTW, its authors' code, the start cell is entered by a diagonal step and costs its weight times C;
here, as in ddtw, it costs 1 x C. Losses are per item and not divided by a number of frames.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment import backends, checks
from softscribe.alignment.boundaries import FIXED, Boundaries
from softscribe.alignment.operators import Operator
from softscribe.alignment.problem import Problem
from softscribe.alignment.steps import EQUAL_WEIGHTS, Step, StepWeights


def soft_dtw(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
    steps: Sequence[Step] | None = None,
    boundaries: Boundaries = FIXED,
    operator: Operator = "soft",
    validate: bool = False,
) -> Float[Tensor, " B"]:
    """Return the soft-DTW of every item, differentiable in the costs (once; by autograd, not by the transforms of `torch.func`).

    Args:
        cost: cost of every pair of frame and target, on a CPU or a GPU. float32 and float64 are computed as such, float16 and bfloat16 as
            float32; the gradient comes back in the type of the cost. Autocast changes nothing.
        frame_counts: frames of every item, in [1, N]; what lies beyond is padding and never matters, NaN included. None: N.
        target_counts: targets of every item, in [1, M]. None: M.
        gamma: temperature of the minimum, > 0, in the unit of the cost. Towards 0 the loss becomes ordinary DTW; the larger it is, the
            more the gradient spreads over all paths.
        weights: of the three classical steps.
        steps: any other steps, instead of `weights`.
        boundaries: where paths start and end: FIXED, `Subsequence` or `BoundaryCells`.
        operator: the minimum: "soft", "hard" (classical DTW), "sparse" or "smooth"; see `operators.py`.
        validate: look at values on a GPU, too, which makes it wait. On a CPU they are always looked at. Without it, on a GPU, an item with
            a cost that is not finite where paths pass, or with a count out of range, has the loss NaN, one without a path infinity.

    The classical steps with softmin from the first cell to the last take a faster kernel in float32.

    Returns:
        The losses, in the unit of the cost, neither averaged nor divided by lengths: (B,).

    Raises:
        ValueError: an argument has the wrong type, shape or device; a cost that is not padding is not finite; a count or gamma is out of
            range; or an item has no admissible path. The text names argument, item and remedy.

    Source: M. Cuturi, M. Blondel, "Soft-DTW", ICML 2017; for weights and operators see the head of `soft_dtw.py`.

    >>> cost = torch.tensor([[[0.0, 2.0], [2.0, 1.0]]], requires_grad=True)
    >>> losses = soft_dtw(cost, gamma=0.1)
    >>> losses
    tensor([1.], grad_fn=<...>)
    >>> losses.sum().backward()
    >>> cost.grad.round(decimals=3)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    problem = Problem(gamma=gamma, weights=weights, steps=steps, boundaries=boundaries, operator=operator)
    counts = checks.checked_counts(cost, frame_counts, target_counts)
    return _apply(cost, *counts, problem, validate)


class SoftDTW(torch.nn.Module):
    """`soft_dtw` as a module; its options are those of the function. `gamma` may be set anew, as a schedule does.

    Shape: cost (B, N, M), frame_counts and target_counts (B,) or None -> losses (B,)

    >>> SoftDTW(gamma=0.5, weights=StepWeights(diagonal=2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        *,
        gamma: int | float = 1.0,
        weights: StepWeights = EQUAL_WEIGHTS,
        steps: Sequence[Step] | None = None,
        boundaries: Boundaries = FIXED,
        operator: Operator = "soft",
        validate: bool = False,
    ) -> None:
        super().__init__()
        backends.check_flag(validate)
        self.validate = validate
        self.problem = Problem(gamma=gamma, weights=weights, steps=steps, boundaries=boundaries, operator=operator)

    @property
    def gamma(self) -> int | float:
        """Temperature of the minimum."""
        return self.problem.gamma

    @gamma.setter
    def gamma(self, gamma: int | float) -> None:
        self.problem = replace(self.problem, gamma=gamma)

    def forward(
        self,
        cost: Float[Tensor, "B N M"],
        frame_counts: Int[Tensor, " B"] | None = None,
        target_counts: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, " B"]:
        return _apply(cost, *checks.checked_counts(cost, frame_counts, target_counts), self.problem, self.validate)

    def extra_repr(self) -> str:
        return repr(self.problem)


def _apply(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, validate: bool) -> Tensor:
    gradient_wanted = torch.is_grad_enabled() and cost.requires_grad  # inside, a leaf under no_grad() looks as if it needed one
    return _SoftDTWFunction.apply(cost, frame_counts, target_counts, problem, validate, gradient_wanted)


class _SoftDTWFunction(torch.autograd.Function):
    """The gradient is computed along with the value, while the step probabilities are at hand: H and the cost are kept for the way back.

    There H is scaled in place and given away, since fresh memory costs as much time as a sweep. Whoever goes back twice (retain_graph)
    has it computed anew.
    """

    @staticmethod
    def forward(
        ctx: Any, cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, validate: bool, gradient_wanted: bool
    ) -> Tensor:
        losses, gradient = backends.losses_and_gradient(
            cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted, validate=validate
        )
        ctx.save_for_backward(cost, frame_counts, target_counts)
        ctx.problem, ctx.gradient = problem, gradient
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        cost, frame_counts, target_counts = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            _, gradient = backends.losses_and_gradient(
                cost.detach(), frame_counts, target_counts, ctx.problem, gradient_wanted=True, validate=False
            )
        gradient.mul_(gradients[0].detach()[:, None, None])
        return _DifferentiableOnce.apply(gradient.to(cost.dtype), cost, *gradients), None, None, None, None, None


class _DifferentiableOnce(torch.autograd.Function):
    """Pass a gradient on as something that depends on its origins: to differentiate it is an error, which would else be a silent 0."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, cost: Tensor, loss_gradients: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        raise ValueError(
            "soft_dtw: second derivatives are not supported; this one would go through the gradient of its losses. "
            "Remedy: leave out create_graph=True, or softscribe.alignment.reference, which is slow."
        )
