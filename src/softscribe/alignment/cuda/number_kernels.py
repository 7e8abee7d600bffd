"""The numbers of the GPU's soft-DTW.

A cell's Z = exp(-D / gamma) is kept as a mantissa (float32, 0 or in [1, 2)) and an exponent of 2 (int64). So the recursion needs no
logarithm, its only exponential is that of a cell's own cost, and nothing over- or underflows whatever the gamma and the length.

For the two forms of `fused` and `reciprocal`, which their callers hand in, see `lane_kernels`.
"""

import math

import numpy as np
from numba import cuda

ZERO, ONE, NAN = np.float32(0), np.float32(1), np.float32(math.nan)
LOWEST = np.int64(-(1 << 62))  # exponent of the number 0
BLOCKED = np.int64(-(1 << 60))  # exponent of the factor 0: lower than any path's, and added to LOWEST still an int64
LARGEST_EXPONENT = np.float64(1 << 38)  # of one cell's factor, so that the sum over any path is far above BLOCKED
LARGEST_IN_FLOAT32 = np.float32(1 << 21)  # of one cell's factor; beyond it float32 has too few bits for the fraction
SMALLEST_NORMAL = np.float32(1.1754944e-38)

# Added to a float32 of magnitude up to 2^22, this leaves the nearest integer in the lowest bits.
ROUNDING = np.float32(1.5 * 2**23)
ROUNDING_BITS = np.int32(0x4B400000)
MANTISSA_BITS = np.int32(23)
EXPONENT_MASK = np.int32(0x7F800000)
EXPONENT_BIAS = np.int32(127)
TWICE_BIAS = np.int32(254 << 23)

# 2^f = 1 + f (C1 + f (C2 + ...)) for |f| <= 5/8, interpolated at Chebyshev's points; a relative error of 4e-9.
_points = 0.625 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
_fit = np.polynomial.Polynomial.fit(_points, np.expm1(_points * math.log(2)) / _points, 5, domain=[-1, 1])
C1, C2, C3, C4, C5, C6 = (np.float32(coefficient) for coefficient in _fit.coef)


@cuda.jit(device=True)
def factor_of(fused, cost: float, scale: tuple[float, float, float]) -> tuple[float, int]:
    """Return exp(-weight cost / gamma) = 2^(cost (high + low)) as a factor in (0.6, 1.6) and an exponent.

    `scale` is (high, low, blocked): -weight log2(e) / gamma in two float32, and whether the step is blocked, 1 or 0, which it is whatever
    the cost. A factor beyond the format is NaN, never a wrong number.
    """
    high, low, blocked = scale
    shifted = fused(cost, high, ROUNDING)
    rounded = np.float32(shifted - ROUNDING)
    fraction = fused(cost, low, fused(cost, high, -rounded))
    exponent = np.int64(np.int32(np.float32(shifted).view(np.int32) - ROUNDING_BITS))
    if not abs(rounded) <= LARGEST_IN_FLOAT32:
        exact = np.float64(cost) * (np.float64(high) + np.float64(low))
        bounded = exact if abs(exact) < LARGEST_EXPONENT else np.float64(0)
        whole = math.floor(bounded + 0.5)
        fraction = np.float32(bounded - whole) if abs(exact) < LARGEST_EXPONENT else NAN
        exponent = np.int64(whole)
    factor = fused(fraction, fused(fraction, fused(fraction, fused(fraction, fused(fraction, C6, C5), C4), C3), C2), C1)
    factor = fused(fraction, factor, ONE)
    if blocked > ZERO:
        factor, exponent = ZERO, BLOCKED
    return factor, exponent


@cuda.jit(device=True)
def power_of_two(exponent: int) -> float:
    """Return 2^exponent for an exponent <= 0, 0 below 2^-126."""
    bounded = np.int32(max(exponent, np.int64(-127)))
    return np.int32((bounded + EXPONENT_BIAS) << MANTISSA_BITS).view(np.float32)


@cuda.jit(device=True)
def normalised(value: float, exponent: int) -> tuple[float, int]:
    """Return value 2^exponent with a mantissa in [1, 2), for a value >= 0 that is no denormal. NaN remains NaN."""
    bits = np.float32(value).view(np.int32)
    reciprocal = np.int32(TWICE_BIAS - np.int32(bits & EXPONENT_MASK)).view(np.float32)
    mantissa = np.float32(value * reciprocal)
    exponent += np.int64(np.int32(np.int32(bits >> MANTISSA_BITS) - EXPONENT_BIAS))
    if value == ZERO:
        exponent = LOWEST
    return mantissa, exponent


@cuda.jit(device=True)
def quotient(fused, numerator: float, denominator: float, reciprocal: float) -> float:
    """Return numerator / denominator from the reciprocal, corrected by the exact remainder: x / x is 1, so that no probability leaks."""
    estimate = np.float32(numerator * reciprocal)
    return fused(fused(-denominator, estimate, numerator), reciprocal, estimate)
