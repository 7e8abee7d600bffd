"""Differentiable alignment of two sequences by dynamic time warping: usable alone, knows no music.

    cost = bce_cost(logits, targets)                                            # (B, N, K), (B, M, K) -> (B, N, M)
    losses = soft_dtw(cost, gamma=1.0, weights=StepWeights(diagonal=2))         # (B,), differentiable
    result = align(cost, gamma=1.0, weights=StepWeights(diagonal=2))            # everything at once, not differentiable

A batch holds B items; an item is a matrix of what it costs to put frame n (of N) and target m (of M) together, frames before
targets, always. Items of unequal size are padded and come with `frame_counts` and `target_counts`.

The theory, with figures, is told in docs/alignment.md.
"""

from softscribe.alignment.backends import gpu_is_usable
from softscribe.alignment.boundaries import FIXED, BoundaryCell, BoundaryCells, Subsequence
from softscribe.alignment.costs import bce_cost
from softscribe.alignment.expectations import align, expected_alignment, hard_path
from softscribe.alignment.operators import minimum
from softscribe.alignment.results import Alignment
from softscribe.alignment.soft_dtw import SoftDTW, soft_dtw
from softscribe.alignment.steps import EQUAL_WEIGHTS, TWO_ONE_STEPS, Step, StepWeights

__all__ = [
    "EQUAL_WEIGHTS",
    "FIXED",
    "TWO_ONE_STEPS",
    "Alignment",
    "BoundaryCell",
    "BoundaryCells",
    "SoftDTW",
    "Step",
    "StepWeights",
    "Subsequence",
    "align",
    "bce_cost",
    "expected_alignment",
    "gpu_is_usable",
    "hard_path",
    "minimum",
    "soft_dtw",
]
