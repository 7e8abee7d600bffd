"""Soft dynamic time warping, its gradient, and the alignment that it expects.

A path leads from cell (1, 1) to cell (N, M) by the three steps of `StepWeights`. It costs C at its first cell, and at every further
one the weight of the step by which it arrives there, times C. Over the costs of all paths

    SDTW = -gamma log(sum over paths of exp(-cost of the path / gamma)),

by the recursion D(n, m) = softmin over the steps of (D(cell before) + weight C(n, m)). A path then has the probability
exp((SDTW - its cost) / gamma), and these quantities follow:

- H = dSDTW/dC, the gradient: how often a path passes a cell, on average, each time counted with the weight of the step it came by;
- E, the expected alignment: the probability that a path passes a cell. H and E are equal for unit weights only;
- <C, H> = sum over cells of C H, the expected path cost, which is comparable between values of gamma as SDTW is not;
- (<C, H> - SDTW) / gamma, the path entropy in nats: 0 if only one path counts.

Sources: M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML 2017 (value and gradient);
J. Zeitler, M. Krause, M. Mueller, "Soft dynamic time warping with variable step weights", ICASSP 2024 (weights).

Differences to others: in weightedSDTW, its authors' code, the start cell is entered by a diagonal step and costs its weight times C;
here, as in ddtw, it costs 1 x C. Losses are per item and not divided by a number of frames.
"""

import threading
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from softscribe.alignment import checks, cpu_kernels
from softscribe.alignment.steps import EQUAL_WEIGHTS, StepWeights

# Where Numba finds neither TBB nor OpenMP, its thread pool ends the process if two threads call it at once. A call uses all cores anyway.
_kernel_lock = threading.Lock()


class Alignment(NamedTuple):
    """Everything that soft-DTW knows about a batch, without a way back through autograd. The formulas stand at the head of this module.

    Shape: losses, expected_path_cost, path_entropy (B,); gradient, expected_alignment (B, N, M)
    """

    losses: Float[Tensor, " B"]
    """SDTW of every item."""
    gradient: Float[Tensor, "B N M"]
    """H, the derivative of an item's loss in its costs; 0 in padding."""
    expected_alignment: Float[Tensor, "B N M"]
    """E, the probability that a path passes a cell; 0 in padding."""
    expected_path_cost: Float[Tensor, " B"]
    """<C, H>."""
    path_entropy: Float[Tensor, " B"]
    """(<C, H> - SDTW) / gamma, in nats, >= 0."""


def soft_dtw(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Float[Tensor, " B"]:
    """Return the soft-DTW of every item, differentiable in the costs (once).

    Args:
        cost: cost of every pair of frame and target, on a CPU. float32 and float64 are computed as such (float64 inside, float32 steps),
            float16 and bfloat16 as float32; the gradient comes back in the type of the cost. Autocast changes nothing.
        frame_counts: frames of every item, in [1, N]; what lies beyond is padding and never matters, NaN included. None: N.
        target_counts: targets of every item, in [1, M]. None: M.
        gamma: temperature of the soft minimum, > 0, in the unit of the cost. Towards 0 the loss becomes ordinary DTW; the larger it is, the
            more the gradient spreads over all paths.
        weights: of the steps.

    Returns:
        The losses, in the unit of the cost, neither averaged nor divided by lengths: (B,).

    Raises:
        ValueError: an argument has the wrong type, shape or device; a cost that is not padding is not finite; a count or gamma is out of
            range; or an item has no admissible path. The text names argument, item and remedy.

    >>> cost = torch.tensor([[[0.0, 2.0], [2.0, 1.0]]], requires_grad=True)
    >>> losses = soft_dtw(cost, gamma=0.1)
    >>> losses
    tensor([1.], grad_fn=<...>)
    >>> losses.sum().backward()
    >>> cost.grad.round(decimals=3)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    counts = checks.checked_counts(cost, frame_counts, target_counts, gamma, weights)
    return _SoftDTWFunction.apply(cost, *counts, float(gamma), weights)


class SoftDTW(torch.nn.Module):
    """`soft_dtw` as a module.

    Args:
        gamma: temperature of the soft minimum, > 0, in the unit of the cost.
        weights: of the steps.

    Shape: cost (B, N, M), frame_counts and target_counts (B,) or None -> losses (B,)

    >>> SoftDTW(gamma=0.5, weights=StepWeights(diagonal=2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3])
    """

    def __init__(self, *, gamma: int | float = 1.0, weights: StepWeights = EQUAL_WEIGHTS) -> None:
        super().__init__()
        checks.check_parameters(gamma, weights)
        self.gamma = gamma
        self.weights = weights

    def forward(
        self,
        cost: Float[Tensor, "B N M"],
        frame_counts: Int[Tensor, " B"] | None = None,
        target_counts: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, " B"]:
        return soft_dtw(cost, frame_counts, target_counts, gamma=self.gamma, weights=self.weights)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, weights={self.weights}"


def align(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Alignment:
    """Return loss, gradient, expected alignment, expected path cost and path entropy from one pass. Arguments and errors: `soft_dtw`.

    The results are values: no gradient flows through them. They are float64 for a float64 cost, else float32.

    >>> result = align(torch.zeros(1, 2, 2))
    >>> result.expected_alignment  # three paths, of which one passes each corner
    tensor([[[1.0000, 0.3333],
             [0.3333, 1.0000]]])
    >>> result.path_entropy  # log 3
    tensor([1.0986])
    """
    counts = checks.checked_counts(cost, frame_counts, target_counts, gamma, weights)
    return _align(cost.detach(), *counts, float(gamma), weights, gradient_wanted=True, statistics_wanted=True)


def expected_alignment(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Float[Tensor, "B N M"]:
    """Return E, the probability that a path passes a cell, 0 in padding. Arguments and errors: `soft_dtw`. No gradient flows through it.

    Every frame and every target of an item is passed, so each of its rows and columns sums to at least 1.

    >>> expected_alignment(torch.tensor([[[0.0, 9.0], [0.0, 0.0]]]), gamma=0.1)
    tensor([[[1.0000, 0.0000],
             [0.5000, 1.0000]]])
    """
    return align(cost, frame_counts, target_counts, gamma=gamma, weights=weights).expected_alignment


def expected_path_cost(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Float[Tensor, " B"]:
    """Return <C, H>, the mean over the paths of their (weighted) cost. Arguments and errors: `soft_dtw`. No gradient flows through it.

    Runs with different gamma are to be compared by it, not by the loss, which falls as gamma rises.

    >>> expected_path_cost(torch.ones(1, 3, 2), weights=StepWeights(diagonal=2))  # every path costs N + M - 1
    tensor([4.])
    """
    return align(cost, frame_counts, target_counts, gamma=gamma, weights=weights).expected_path_cost


def path_entropy(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
) -> Float[Tensor, " B"]:
    """Return (<C, H> - SDTW) / gamma, the entropy of the paths in nats. Arguments and errors: `soft_dtw`. No gradient flows through it.

    exp of it is the number of equally probable paths that would be as uncertain.

    >>> path_entropy(torch.zeros(1, 2, 2)).exp()
    tensor([3.])
    """
    return align(cost, frame_counts, target_counts, gamma=gamma, weights=weights).path_entropy


class _SoftDTWFunction(torch.autograd.Function):
    """The gradient is computed along with the value, while the step probabilities are at hand: only H is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, frame_counts: Tensor, target_counts: Tensor, gamma: float, weights: StepWeights) -> Tensor:
        result = _align(cost, frame_counts, target_counts, gamma, weights, gradient_wanted=ctx.needs_input_grad[0], statistics_wanted=False)
        ctx.cost_dtype = cost.dtype
        ctx.save_for_backward(result.gradient)
        return result.losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradients[0][:, None, None] * gradient).to(ctx.cost_dtype), None, None, None, None


def _align(
    cost: Tensor,
    frame_counts: Tensor,
    target_counts: Tensor,
    gamma: float,
    weights: StepWeights,
    *,
    gradient_wanted: bool,
    statistics_wanted: bool,
) -> Alignment:
    """Run the kernel on checked arguments. What is not wanted has no cells."""
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32)).contiguous()
    batch = len(cost)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_zeros(batch, 0, 0)
    expected = torch.zeros_like(cost) if statistics_wanted else cost.new_zeros(batch, 0, 0)
    losses, entropies = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, dtype=torch.float64)
    factors, step_costs = weights.factors_and_costs()
    tensors = (losses, gradient, expected, entropies)
    with _kernel_lock:
        threads = numba.get_num_threads()
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        try:
            cpu_kernels.align_batch(
                cost.detach().numpy(),
                frame_counts.numpy(),
                target_counts.numpy(),
                gamma,
                np.array(factors),
                np.array(step_costs),
                *(tensor.numpy() for tensor in tensors),
            )
        finally:
            numba.set_num_threads(threads)
    checks.check_paths(losses, frame_counts, target_counts, weights)
    path_cost = losses + gamma * entropies  # better conditioned than the sum over C H, and equal to it
    return Alignment(losses.to(cost.dtype), gradient, expected, path_cost.to(cost.dtype), entropies.to(cost.dtype))
