"""The minimum operators of `operators.py` for compiled code, at gamma 1: values and gradients, column by column of a matrix.

Infinite arguments take no part: their weights are 0. If all are infinite so is the minimum.
"""

import math

import numpy as np
from numba import njit

from softscribe.alignment.operators import OPERATORS

SOFT, HARD, SPARSE, SMOOTH = (OPERATORS.index(name) for name in ("soft", "hard", "sparse", "smooth"))
NEGLIGIBLE_EXCESS = 80.0  # exp(-80) = 2e-35, beside 1 nothing in float64, and yet not denormal (that is: slow) in float32
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def weigh_all(arguments: np.ndarray, first: int, last: int, operator: int, minima: np.ndarray) -> None:
    """Put the operator's minimum of each of the columns `first` to `last` into `minima`, and its gradient in place of the arguments.

    Shape: arguments (S, columns), S >= 1; minima (columns,)
    """
    for column in range(first, last + 1):
        lowest = arguments[0, column]
        for s in range(1, len(arguments)):
            lowest = min(lowest, arguments[s, column])
        minima[column] = lowest
    for column in range(first, last + 1):
        if minima[column] == np.inf:
            arguments[:, column] = 0.0
        elif operator == SOFT:
            minima[column] -= math.log(exponentiate(arguments, column, minima[column]))
        elif operator == HARD:
            choose(arguments, column, minima[column])
        elif operator == SPARSE:
            minima[column] += project(arguments, column, minima[column])
        else:
            minima[column] += average(arguments, column, minima[column])


@njit(**OPTIONS)
def exponentiate(arguments: np.ndarray, column: int, lowest: float) -> float:
    """Replace arguments by softmax(-arguments); return the sum of exp(lowest - argument)."""
    total = 0.0
    for s in range(len(arguments)):
        excess = arguments[s, column] - lowest
        weight = math.exp(-excess) if excess < NEGLIGIBLE_EXCESS else 0.0
        arguments[s, column] = weight
        total += weight
    for s in range(len(arguments)):
        arguments[s, column] /= total
    return total


@njit(**OPTIONS)
def choose(arguments: np.ndarray, column: int, lowest: float) -> None:
    """Replace arguments by 1 for the first of the smallest, 0 for the others."""
    chosen = False
    for s in range(len(arguments)):
        is_lowest = arguments[s, column] == lowest and not chosen
        arguments[s, column] = 1.0 if is_lowest else 0.0
        chosen |= is_lowest


@njit(**OPTIONS)
def project(arguments: np.ndarray, column: int, lowest: float) -> float:
    """Replace arguments by the point of the simplex that is nearest to -arguments; return sparsemin of arguments - lowest.

    That point is max(0, level - excess). The level at which it sums to 1 is found by leaving out what lies above it until nothing does.
    """
    level, members = np.inf, -1
    while True:
        count, total = 0, 0.0
        for s in range(len(arguments)):
            excess = arguments[s, column] - lowest
            if excess < level:
                count, total = count + 1, total + excess
        if count == members:
            break
        members, level = count, (1 + total) / count
    minimum = -0.5
    for s in range(len(arguments)):
        excess = arguments[s, column] - lowest
        weight = max(0.0, level - excess)
        arguments[s, column] = weight
        if weight > 0:
            minimum += weight * excess + weight**2 / 2
    return minimum


@njit(**OPTIONS)
def average(arguments: np.ndarray, column: int, lowest: float) -> float:
    """Replace arguments by the gradient of their mean under softmax(-arguments); return the mean of arguments - lowest."""
    total = mean_excess = 0.0
    for s in range(len(arguments)):
        excess = arguments[s, column] - lowest
        if excess < NEGLIGIBLE_EXCESS:
            total += math.exp(-excess)
            mean_excess += math.exp(-excess) * excess
    mean_excess /= total
    for s in range(len(arguments)):
        excess = arguments[s, column] - lowest
        negligible = excess >= NEGLIGIBLE_EXCESS
        arguments[s, column] = 0.0 if negligible else math.exp(-excess) / total * (1 + mean_excess - excess)
    return mean_excess


@njit(**OPTIONS)
def information(probability: float) -> float:
    """Return -p ln p, in nats; 0 outside (0, 1): for rounding, and for smoothmin, whose weights are no probabilities."""
    return -probability * math.log(probability) if 0 < probability < 1 else 0.0
