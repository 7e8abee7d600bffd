"""The soft-DTW divergence: soft-DTW without its bias, 0 between equal sequences.

Between equal sequences soft-DTW is below 0, and there are others for which it is lower still: minimised, it blurs. Subtracting what it
finds between each sequence and itself takes that away:

    D(x, y) = SDTW(x, y) - (SDTW(x, x) + SDTW(y, y)) / 2

It asks for a cost between vectors of one kind, symmetric, 0 between equals. What is known about it:

- D(x, x) = 0, D is symmetric, and its gradient is 0 at x = y: all this holds for every such cost, equal horizontal and vertical weights,
  and any gamma.
- D >= 0 is PROVEN for weights 1-1-1 where k / (1 + k) is a positive definite kernel, k = exp(-C / gamma). Then exp(-SDTW / gamma) is one
  as well, and D >= 0 is the Cauchy-Schwarz inequality. That is so for |x - y| of single numbers, and at gamma 1 for
  d + log(2 - exp(-d)) with d = |x - y|^2 / 2.
- `squared_error_cost` and `cosine_cost` have no such kernel. For them D >= 0 is experience for a diagonal weight of at least the horizontal
  one, as long as it is finite: neither random sequences nor descent on D found a counterexample. For smaller ones D may be NEGATIVE (-.07
  for x = 1, -2, 0 and y = 1, -1, 1 at gamma 1 with a diagonal weight of 0), and so it may without diagonals, where the way between equals
  is no longer free (-2.10 for x = 0, 3, 0 and y = 1 at gamma 1): these are refused.
- With `cosine_cost` sequences count as equal if their vectors have equal directions, and none may be zero.

It is no metric: there is no triangle inequality. Sources: M. Blondel, A. Mensch, J.-P. Vert, "Differentiable divergences between time
series", AISTATS 2021; M. Cuturi, J.-P. Vert, O. Birkenes, T. Matsui, "A kernel for time series based on global alignments", ICASSP 2007.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment import checks
from softscribe.alignment.arguments import FLOATING, check_tensors
from softscribe.alignment.costs import bce_cost, negative_log_probability_cost, squared_error_cost
from softscribe.alignment.problem import Problem
from softscribe.alignment.soft_dtw import soft_dtw
from softscribe.alignment.steps import EQUAL_WEIGHTS, StepWeights

TOLERANCE = 1e-4
"""By how much a cost may be unsymmetric, or differ from 0 between equals, relative to the largest cost + gamma: rounding."""


def soft_dtw_divergence(
    x: Float[Tensor, "B N K"],
    y: Float[Tensor, "B M K"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    cost_function: Callable[[Tensor, Tensor], Tensor] = squared_error_cost,
    gamma: int | float = 1.0,
    weights: StepWeights = EQUAL_WEIGHTS,
    validate: bool = False,
) -> Float[Tensor, " B"]:
    """Return the soft-DTW divergence of every pair of sequences, differentiable in both (once).

    Args:
        x: sequences of vectors.
        y: sequences of vectors of the same kind.
        frame_counts: vectors of every x, in [1, N]; what lies beyond never matters. None: N.
        target_counts: vectors of every y, in [1, M]. None: M.
        cost_function: of (B, N, K) and (B, M, K), returning (B, N, M); symmetric, and 0 between equals.
        gamma: as for `soft_dtw`.
        weights: of the classical steps, horizontal and vertical ones equal, the diagonal one finite and at least that.
        validate: as for `soft_dtw`.

    Returns:
        The divergences, in the unit of the cost: (B,). Soft-DTW is computed three times.

    Raises:
        ValueError: the divergence is not defined for such a cost or such weights, an argument has the wrong type, shape or device, or what
            `soft_dtw` and the cost refuse. Whether vectors are finite, and a cost symmetric and 0 between equals, is looked at on a GPU
            only if `validate`.

    Source: M. Blondel, A. Mensch, J.-P. Vert, "Differentiable divergences between time series", AISTATS 2021.

    >>> x, y = torch.tensor([[[0.0], [1.0], [3.0]]]), torch.tensor([[[0.0], [3.0]]])
    >>> soft_dtw_divergence(x, y), soft_dtw_divergence(y, y)
    (tensor([1.2316]), tensor([0.]))
    """
    _check_cost_function(cost_function)
    _check_weights(Problem(gamma=gamma, weights=weights).weights)
    check_tensors(x=(x, "B N K", FLOATING), y=(y, "B M K", FLOATING))
    frame_counts = checks.checked_count("frame_counts", frame_counts, "x", x, x.shape[1])
    target_counts = checks.checked_count("target_counts", target_counts, "y", y, y.shape[1])
    if x.device.type == "cpu" or validate:
        for name, vectors, counts in (("x", x, frame_counts), ("y", y, target_counts)):
            checks.check_finite(vectors, counts, None, name, ("vector", "output"))
    x, y = _without_padding(x, frame_counts), _without_padding(y, target_counts)
    options: dict[str, Any] = {"gamma": gamma, "weights": weights, "validate": validate}
    between = soft_dtw(_cost(cost_function, x, y), frame_counts, target_counts, **options)
    within = []
    for name, vectors, counts in (("x", x, frame_counts), ("y", y, target_counts)):
        cost = _cost(cost_function, vectors, vectors)
        if cost.device.type == "cpu" or validate:
            _check_symmetric(name, cost.detach(), counts, gamma)
        within.append(soft_dtw(cost, counts, counts, **options))
    return between - (within[0] + within[1]) / 2


def _cost(cost_function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    cost = cost_function(x, y)
    wanted = (len(x), x.shape[1], y.shape[1])
    if not isinstance(cost, Tensor) or cost.shape != wanted:
        found = f"shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else f"a {type(cost).__name__}"
        raise ValueError(
            f"cost_function: returned {found} for {tuple(x.shape)} and {tuple(y.shape)}. Remedy: a tensor (B, N, M), here {wanted}."
        )
    return cost


def _without_padding(vectors: Tensor, counts: Tensor) -> Tensor:
    """Put zeros there: NaN would come back as a gradient, through 0 x NaN."""
    inside = torch.arange(vectors.shape[1], device=vectors.device) < counts[:, None]
    return vectors.where(inside[:, :, None], 0)


def _check_cost_function(cost_function: Callable[[Tensor, Tensor], Tensor]) -> None:
    if not callable(cost_function):
        raise ValueError(f"cost_function: {cost_function!r} is no function. Remedy: one such as squared_error_cost.")
    for unlike, kinds in ((bce_cost, "logits and targets"), (negative_log_probability_cost, "log-probabilities and labels")):
        if cost_function is unlike:
            raise ValueError(
                f"cost_function: {unlike.__name__} compares {kinds}, so that no sequence has a cost with itself. "
                "Remedy: a symmetric cost that is 0 between equals, such as squared_error_cost."
            )


def _check_weights(weights: StepWeights) -> None:
    if weights.horizontal != weights.vertical:
        raise ValueError(
            f"weights: {weights} treats x and y differently, so that equals are not at the minimum. "
            "Remedy: equal horizontal and vertical weights."
        )
    if weights.diagonal == math.inf:
        raise ValueError(
            f"weights: {weights} blocks diagonals, so that even equals cost something and the divergence may be negative. "
            "Remedy: a finite diagonal weight."
        )
    if weights.diagonal < weights.horizontal:
        raise ValueError(
            f"weights: {weights} makes diagonals so cheap that the divergence may be negative. "
            "Remedy: a diagonal weight of at least the horizontal one."
        )


def _check_symmetric(name: str, cost: Tensor, counts: Tensor, gamma: float) -> None:
    """Raise ValueError if a sequence's cost with itself is not symmetric, or not 0 on the diagonal."""
    for item, count in enumerate(counts.tolist()):
        own = cost[item, :count, :count]
        tolerance = TOLERANCE * (float(own.abs().max()) + gamma)
        diagonal = own.diagonal()
        frame = int(diagonal.abs().argmax())
        if abs(diagonal[frame]) > tolerance:
            raise ValueError(
                f"cost_function: item {item} of {name} costs {float(diagonal[frame]):g} between vector {frame} and itself. "
                "Remedy: a cost that is 0 between equals (cosine_cost: without vectors of zeros)."
            )
        if (own - own.mT).abs().max() > tolerance:
            raise ValueError(f"cost_function: not symmetric for item {item} of {name}. Remedy: a symmetric cost, C(x, y) = C(y, x).")
