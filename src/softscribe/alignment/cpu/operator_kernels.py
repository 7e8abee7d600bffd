"""The minimum operators of `operators.py` for compiled code, at gamma 1: values and gradients, column by column of a matrix.

Infinite arguments take no part: their weights are 0. If all are infinite so is the minimum.
"""

import math

import numpy as np
from numba import njit

from softscribe.alignment.operators import OPERATORS

SOFT, HARD, SPARSE, SMOOTH = (OPERATORS.index(name) for name in ("soft", "hard", "sparse", "smooth"))
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
# exp(-80) = 2e-35 is nothing beside 1 in float64, and yet not denormal (that is: slow) in float32.
NEGLIGIBLE_EXCESS = 80.0
SQUARE_ROOT_OF_2 = math.sqrt(2)
LN_2 = math.log(2)
LN_2_HIGH = round(LN_2 * 2**32) / 2**32  # few enough bits for exact products with small integers
LN_2_LOW = LN_2 - LN_2_HIGH


@njit(**OPTIONS)
def weigh_all(arguments: np.ndarray, rows: int, columns: int, operator: int, minima: np.ndarray) -> None:
    """Put the operator's minimum of each of the first columns into `minima`, and its gradient in place of the arguments.

    Shape: arguments (>= rows, >= columns), of which `rows` >= 1 count; minima (columns,)
    """
    minima[:] = arguments[0, :columns]
    for s in range(1, rows):
        lower(minima, arguments[s, :columns])
    if operator == SOFT:
        soften(arguments, rows, columns, minima)
    elif operator == SPARSE:
        project(arguments, rows, columns, minima)
    elif operator == SMOOTH:
        average(arguments, rows, columns, minima)
    else:
        still_open = np.ones(columns)
        for s in range(rows):
            choose(arguments[s, :columns], minima, still_open)


@njit(**OPTIONS)
def lower(minima: np.ndarray, values: np.ndarray) -> None:
    """Lower `minima` to `values` where these are smaller."""
    for i in range(len(minima)):
        minima[i] = min(minima[i], values[i])


@njit(**OPTIONS)
def exponential(excess: float) -> float:
    """Return exp(-excess) for an excess >= 0, 0 where that is negligible beside 1 or the excess NaN, to 2e-16.

    exp(-x) = 2^-k exp(r) with r = k ln 2 - x in [-ln 2 / 2, ln 2 / 2], by Taylor's series. Unlike the library's function it has neither
    branch nor call, so that loops over it use vector registers: with 32 bits for k, since few processors convert to 64 otherwise than
    one by one.
    """
    x = excess if excess < NEGLIGIBLE_EXCESS else NEGLIGIBLE_EXCESS
    k = np.int32(x * (1 / LN_2) + 0.5)
    r = (np.float64(k) * LN_2_HIGH - x) + np.float64(k) * LN_2_LOW
    high = (1 / 40320) + r * ((1 / 362880) + r * ((1 / 3628800) + r * ((1 / 39916800) + r * (1 / 479001600))))
    series = 1 + r * (1 + r * ((1 / 2) + r * ((1 / 6) + r * ((1 / 24) + r * ((1 / 120) + r * ((1 / 720) + r * ((1 / 5040) + r * high)))))))
    power = np.int64(np.int64(np.int32(1023 - k)) << 52).view(np.float64)
    return series * power if excess < NEGLIGIBLE_EXCESS else 0.0


@njit(**OPTIONS)
def soften(arguments: np.ndarray, rows: int, columns: int, minima: np.ndarray) -> None:
    """Replace arguments by softmax(-arguments), and `minima`, which hold the lowest of each column, by softmin."""
    totals = np.zeros(columns)
    for s in range(rows):
        add_exponentials(arguments[s, :columns], minima, totals)
    for i in range(columns):
        minima[i] -= logarithm(max(totals[i], 1.0))  # less than 1 if all arguments are infinite
    invert(totals)
    for s in range(rows):
        scale(arguments[s, :columns], totals)


@njit(**OPTIONS)
def logarithm(number: float) -> float:
    """Return ln of a normal number >= 1, to 2e-16.

    With number = 2^k f, f in [sqrt(1/2), sqrt(2)], it is k ln 2 + 2 artanh((f - 1) / (f + 1)), by the latter's series. As `exponential`
    without branch or call.
    """
    bits = np.float64(number).view(np.int64)
    k = np.int32(bits >> 52) - np.int32(1023)
    mantissa = np.int64((bits & ((1 << 52) - 1)) | (1023 << 52)).view(np.float64)
    is_upper = mantissa > SQUARE_ROOT_OF_2
    f = 0.5 * mantissa if is_upper else mantissa
    k = k + np.int32(1) if is_upper else k
    s = (f - 1) / (f + 1)
    z = s * s
    high = (1 / 11) + z * ((1 / 13) + z * ((1 / 15) + z * ((1 / 17) + z * (1 / 19))))
    series = 1 + z * ((1 / 3) + z * ((1 / 5) + z * ((1 / 7) + z * ((1 / 9) + z * high))))
    return np.float64(k) * LN_2_HIGH + (2 * s * series + np.float64(k) * LN_2_LOW)


@njit(**OPTIONS)
def add_exponentials(arguments: np.ndarray, minima: np.ndarray, totals: np.ndarray) -> None:
    """Replace arguments by exp(minimum - argument), and add them to `totals`. Shape: all (columns,)"""
    for i in range(len(arguments)):
        weight = exponential(arguments[i] - minima[i])
        arguments[i] = weight
        totals[i] += weight


@njit(**OPTIONS)
def invert(totals: np.ndarray) -> None:
    """Replace totals by what to multiply with so that they become 1. 0, of nothing at all, stays."""
    for i in range(len(totals)):
        totals[i] = 1 / totals[i] if totals[i] > 0 else 0.0


@njit(**OPTIONS)
def scale(values: np.ndarray, factors: np.ndarray) -> None:
    """Multiply `values` by `factors`. Shape: both (columns,)"""
    for i in range(len(values)):
        values[i] *= factors[i]


@njit(**OPTIONS)
def average(arguments: np.ndarray, rows: int, columns: int, minima: np.ndarray) -> None:
    """Replace arguments by the gradient of their mean under softmax(-arguments), and `minima`, the lowest of each column, by that mean."""
    totals, means = np.zeros(columns), np.zeros(columns)
    for s in range(rows):
        add_moments(arguments[s, :columns], minima, totals, means)
    invert(totals)
    scale(means, totals)
    for s in range(rows):
        differentiate_mean(arguments[s, :columns], minima, totals, means)
    for i in range(columns):
        minima[i] += means[i]


@njit(**OPTIONS)
def add_moments(arguments: np.ndarray, minima: np.ndarray, totals: np.ndarray, means: np.ndarray) -> None:
    """Add exp(-excess), and that times the excess over the minimum, to `totals` and `means`. Shape: all (columns,)"""
    for i in range(len(arguments)):
        excess = arguments[i] - minima[i]
        weight = exponential(excess)
        totals[i] += weight
        means[i] += weight * excess if weight > 0 else 0.0


@njit(**OPTIONS)
def differentiate_mean(arguments: np.ndarray, minima: np.ndarray, scales: np.ndarray, means: np.ndarray) -> None:
    """Replace arguments by the derivative of the mean in them. Shape: all (columns,)"""
    for i in range(len(arguments)):
        excess = arguments[i] - minima[i]
        weight = exponential(excess) * scales[i]
        arguments[i] = weight * (1 + means[i] - excess) if weight > 0 else 0.0


@njit(**OPTIONS)
def choose(arguments: np.ndarray, lowest: np.ndarray, still_open: np.ndarray) -> None:
    """Replace arguments by 1 where they are the lowest and no other was chosen before, else by 0. Shape: all (columns,)

    `still_open` is 1 where nothing was chosen yet, else 0.
    """
    for i in range(len(arguments)):
        chosen = still_open[i] if arguments[i] == lowest[i] and lowest[i] < np.inf else 0.0
        arguments[i] = chosen
        still_open[i] -= chosen


@njit(**OPTIONS)
def project(arguments: np.ndarray, rows: int, columns: int, minima: np.ndarray) -> None:
    """Replace arguments by the point of the simplex nearest to -arguments, and `minima`, the lowest of each column, by sparsemin.

    That point is max(0, level - excess over the lowest). The level at which it sums to 1 is found by leaving out what lies above it until
    nothing does, which is after `rows` rounds at the latest.
    """
    levels, counts, totals = np.full(columns, np.inf), np.empty(columns), np.empty(columns)
    for _ in range(rows):
        counts[:], totals[:] = 0.0, 1.0
        for s in range(rows):
            add_members(arguments[s, :columns], minima, levels, counts, totals)
        for i in range(columns):
            levels[i] = totals[i] / counts[i]
    totals[:] = -0.5
    for s in range(rows):
        add_shares(arguments[s, :columns], minima, levels, totals)
    for i in range(columns):
        minima[i] += totals[i]


@njit(**OPTIONS)
def add_members(arguments: np.ndarray, lowest: np.ndarray, levels: np.ndarray, counts: np.ndarray, totals: np.ndarray) -> None:
    """Add 1 and the excess over the lowest to `counts` and `totals` where that excess is below the level. Shape: all (columns,)"""
    for i in range(len(arguments)):
        excess = arguments[i] - lowest[i]
        counts[i] += 1.0 if excess < levels[i] else 0.0
        totals[i] += excess if excess < levels[i] else 0.0


@njit(**OPTIONS)
def add_shares(arguments: np.ndarray, lowest: np.ndarray, levels: np.ndarray, totals: np.ndarray) -> None:
    """Replace arguments by their weights q, and add to `totals` what they add to sparsemin, q excess + q^2 / 2. Shape: all (columns,)"""
    for i in range(len(arguments)):
        excess = arguments[i] - lowest[i]
        takes_part = excess < levels[i]
        weight = levels[i] - excess if takes_part else 0.0
        arguments[i] = weight
        totals[i] += weight * excess + 0.5 * weight * weight if takes_part else 0.0


@njit(**OPTIONS)
def information(probability: float) -> float:
    """Return -p ln p, in nats; 0 outside (0, 1): for rounding, and for smoothmin, whose weights are no probabilities."""
    return -probability * math.log(probability) if 0 < probability < 1 else 0.0
