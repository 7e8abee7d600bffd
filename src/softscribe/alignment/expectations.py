"""What the paths of an alignment look like: their mean, their spread, and the best one.

All of these are values: no gradient flows through them. Options and errors are those of `soft_dtw`.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment import backends, checks
from softscribe.alignment.boundaries import FIXED, Boundaries
from softscribe.alignment.operators import Operator
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment
from softscribe.alignment.steps import EQUAL_WEIGHTS, Step, StepWeights


def align(
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
) -> Alignment:
    """Return loss, gradient, expected alignment, expected path cost and path entropy from one pass.

    The results are float64 for a float64 cost, else float32. Arguments and errors are those of `soft_dtw`.

    Sources: M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML 2017 (the gradient as an expectation
    over paths); A. Mensch, M. Blondel, "Differentiable dynamic programming for structured prediction and attention", ICML 2018 (any step
    and operator).

    >>> import torch
    >>> result = align(torch.zeros(1, 2, 2))
    >>> result.expected_alignment  # three paths, of which one passes each corner
    tensor([[[1.0000, 0.3333],
             [0.3333, 1.0000]]])
    >>> result.path_entropy  # log 3
    tensor([1.0986])

    >>> align(torch.ones(1, 3, 2), weights=StepWeights(diagonal=2)).expected_path_cost  # every path costs N + M - 1
    tensor([4.])
    """
    problem = Problem(gamma=gamma, weights=weights, steps=steps, boundaries=boundaries, operator=operator)
    frame_counts, target_counts = checks.checked_counts(cost, frame_counts, target_counts)
    return backends.align(cost, frame_counts, target_counts, problem, validate=validate)


def expected_alignment(
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
) -> Float[Tensor, "B N M"]:
    """Return E, the probability that a path passes a cell, 0 in padding: a part of what `align` returns, with its options and source.

    With the classical steps every frame and every target of an item is passed: each of its rows and columns sums to at least 1.

    >>> import torch
    >>> expected_alignment(torch.tensor([[[0.0, 9.0], [0.0, 0.0]]]), gamma=0.1)
    tensor([[[1.0000, 0.0000],
             [0.5000, 1.0000]]])
    """
    options: dict[str, Any] = {"gamma": gamma, "weights": weights, "steps": steps, "boundaries": boundaries, "operator": operator}
    return align(cost, frame_counts, target_counts, validate=validate, **options).expected_alignment


def hard_path(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    weights: StepWeights = EQUAL_WEIGHTS,
    steps: Sequence[Step] | None = None,
    boundaries: Boundaries = FIXED,
) -> list[Int[Tensor, "L 2"]]:
    """Return the cheapest path of every item, classical DTW's: the (frame, target) of its cells, from start to end.

    Among equally cheap ways into a cell the first step counts: horizontal, vertical, diagonal. On a GPU this waits for the device, and so
    looks at values there, too.

    Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978.

    >>> import torch
    >>> hard_path(torch.tensor([[[0.0, 9.0], [0.0, 9.0], [9.0, 0.0]]]))[0].tolist()
    [[0, 0], [1, 0], [2, 1]]
    """
    options: dict[str, Any] = {"weights": weights, "steps": steps, "boundaries": boundaries}
    result = align(cost, frame_counts, target_counts, operator="hard", validate=True, **options)
    return [item.nonzero() for item in result.expected_alignment]  # by frame, then target: as a path goes
