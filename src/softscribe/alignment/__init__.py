"""Differentiable alignment of two sequences by dynamic time warping with a soft minimum: usable alone, knows no music.

    cost = bce_cost(logits, targets)                                            # (B, N, K), (B, M, K) -> (B, N, M)
    losses = soft_dtw(cost, gamma=1.0, weights=StepWeights(diagonal=2))         # (B,), differentiable
    result = align(cost, gamma=1.0, weights=StepWeights(diagonal=2))            # everything at once, not differentiable

A batch holds B items; an item is a matrix of what it costs to put frame n (of N) and target m (of M) together, frames before
targets, always. Items of unequal size are padded and come with `frame_counts` and `target_counts`.
"""

from softscribe.alignment.costs import bce_cost
from softscribe.alignment.soft_dtw import Alignment, SoftDTW, align, expected_alignment, expected_path_cost, path_entropy, soft_dtw
from softscribe.alignment.steps import EQUAL_WEIGHTS, StepWeights

__all__ = [
    "EQUAL_WEIGHTS",
    "Alignment",
    "SoftDTW",
    "StepWeights",
    "align",
    "bce_cost",
    "expected_alignment",
    "expected_path_cost",
    "path_entropy",
    "soft_dtw",
]
