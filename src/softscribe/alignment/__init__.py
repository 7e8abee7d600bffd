"""Differentiable alignment of two sequences by dynamic time warping: usable alone, knows no music.

    cost = bce_cost(logits, targets)                                            # (B, N, K), (B, M, K) -> (B, N, M)
    losses = soft_dtw(cost, gamma=1.0, weights=StepWeights(diagonal=2))         # (B,), differentiable
    result = align(cost, gamma=1.0, weights=StepWeights(diagonal=2))            # everything at once, not differentiable

A batch holds B items; an item is a matrix of what it costs to put frame n (of N) and target m (of M) together, frames before
targets, always. Items of unequal size are padded and come with `frame_counts` and `target_counts`.

The theory, with figures, is told in docs/alignment.md.
"""

from softscribe.alignment.backends import gpu_is_usable
from softscribe.alignment.boundaries import FIXED, Boundaries, BoundaryCell, BoundaryCells, Subsequence
from softscribe.alignment.costs import bce_cost, cosine_cost, negative_log_probability_cost, squared_error_cost
from softscribe.alignment.ctc import ctc_loss, multi_label_ctc_loss
from softscribe.alignment.ctc_graph import CTCGraph, ctc_graph
from softscribe.alignment.divergence import soft_dtw_divergence
from softscribe.alignment.equivalent_targets import EquivalentTargets, equivalent_targets
from softscribe.alignment.expectations import align, expected_alignment, hard_path
from softscribe.alignment.operators import minimum
from softscribe.alignment.results import Alignment
from softscribe.alignment.soft_dtw import SoftDTW, soft_dtw
from softscribe.alignment.steps import EQUAL_WEIGHTS, TWO_ONE_STEPS, Step, StepWeights
from softscribe.alignment.time_symmetry import time_symmetric_soft_dtw

__all__ = [
    "EQUAL_WEIGHTS",
    "FIXED",
    "TWO_ONE_STEPS",
    "Alignment",
    "Boundaries",
    "BoundaryCell",
    "BoundaryCells",
    "CTCGraph",
    "EquivalentTargets",
    "SoftDTW",
    "Step",
    "StepWeights",
    "Subsequence",
    "align",
    "bce_cost",
    "cosine_cost",
    "ctc_graph",
    "ctc_loss",
    "equivalent_targets",
    "expected_alignment",
    "gpu_is_usable",
    "hard_path",
    "minimum",
    "multi_label_ctc_loss",
    "negative_log_probability_cost",
    "soft_dtw",
    "soft_dtw_divergence",
    "squared_error_cost",
    "time_symmetric_soft_dtw",
]
