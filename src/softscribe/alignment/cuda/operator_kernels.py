"""The minimum operators of `operators.py` for a thread of a GPU, at gamma 1: values and gradients.

Infinite arguments take no part: their weights are 0. If all are infinite so is the minimum. If one is NaN so is the minimum.
"""

import math

import numpy as np
from numba import cuda

from softscribe.alignment.operators import OPERATORS

SOFT, HARD, SPARSE, SMOOTH = (OPERATORS.index(name) for name in ("soft", "hard", "sparse", "smooth"))


@cuda.jit(device=True)
def weigh(values: np.ndarray, count: int, operator: int) -> float:
    """Return the operator's minimum of the first values, at least one, and put its gradient in place of these."""
    lowest = values[0]
    for s in range(1, count):
        if values[s] < lowest or values[s] != values[s]:  # min() may pass over NaN
            lowest = values[s]
    if lowest == math.inf:
        for s in range(count):
            values[s] = 0.0
        return lowest
    if operator == SOFT:
        return lowest - soften(values, count, lowest)
    if operator == HARD:
        choose(values, count, lowest)
        return lowest
    if operator == SPARSE:
        return lowest + project(values, count, lowest)
    return lowest + average(values, count, lowest)


@cuda.jit(device=True)
def soften(values: np.ndarray, count: int, lowest: float) -> float:
    """Replace values by softmax(-values); return lowest - softmin."""
    total = 0.0
    for s in range(count):
        values[s] = math.exp(lowest - values[s])
        total += values[s]
    for s in range(count):
        values[s] /= total
    return math.log(total)


@cuda.jit(device=True)
def choose(values: np.ndarray, count: int, lowest: float) -> None:
    """Replace values by 1 for the first of the smallest, 0 for the others."""
    chosen = False
    for s in range(count):
        is_lowest = values[s] == lowest and not chosen
        values[s] = 1.0 if is_lowest else 0.0
        chosen = chosen or is_lowest


@cuda.jit(device=True)
def project(values: np.ndarray, count: int, lowest: float) -> float:
    """Replace values by the point of the simplex that is nearest to -values; return sparsemin - lowest.

    That point is max(0, level - excess). The level at which it sums to 1 is found by leaving out what lies above it until nothing does,
    which is after `count` rounds at the latest.
    """
    level = math.inf
    for _ in range(count):
        members, total = 0, 0.0
        for s in range(count):
            if values[s] - lowest < level:
                members, total = members + 1, total + (values[s] - lowest)
        level = (1.0 + total) / max(members, 1)
    minimum = -0.5
    for s in range(count):
        excess = values[s] - lowest
        values[s] = max(0.0, level - excess)
        if values[s] > 0.0:
            minimum += values[s] * excess + values[s] * values[s] / 2
    return minimum


@cuda.jit(device=True)
def average(values: np.ndarray, count: int, lowest: float) -> float:
    """Replace values by the gradient of their mean under softmax(-values); return that mean - lowest."""
    total = mean_excess = 0.0
    for s in range(count):
        weight = math.exp(lowest - values[s])
        total += weight
        if weight > 0.0:
            mean_excess += weight * (values[s] - lowest)
    mean_excess /= total
    for s in range(count):
        weight = math.exp(lowest - values[s]) / total
        values[s] = weight * (1.0 + mean_excess - (values[s] - lowest)) if weight > 0.0 else 0.0
    return mean_excess


@cuda.jit(device=True)
def information(probability: float) -> float:
    """Return -p ln p, in nats; 0 outside (0, 1): for rounding, and for smoothmin, whose weights are no probabilities."""
    return -probability * math.log(probability) if probability > 0.0 and probability < 1.0 else 0.0
