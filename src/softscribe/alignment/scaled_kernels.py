"""Positive numbers of any size: a mantissa in [1, 2), float32, times two to the power of an int32 exponent.

Soft-DTW's recursion is a sum of products in Z = exp(-D / gamma), but D / gamma soon leaves the range of any floating-point type. The usual
way out is to compute with D itself, at the price of exponentials and a logarithm per cell. Here Z keeps its exponent in an integer of its
own instead. Then a product adds exponents, a sum shifts the smaller terms right, and no logarithm is left; all of it is arithmetic that
a compiler turns into vector instructions.

There is no zero. The exponent `NEVER` stands for it: so far below all others that what is shifted by the distance is exactly 0.
Exponents of numbers that do occur have to stay within +-2**29 (`cpu_strips.within_range`): then neither sums nor differences overflow, even
those with `NEVER`.

Only `contract` is allowed of all "fast math": it lets a product and a sum become one fused multiply-add, which rounds once. The remainder
in `power_of_two` needs it to be exact. Anything more would let the compiler cancel the additions that round.
"""

import numpy as np
from numba import njit

COMPILED = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
NEVER = np.int32(-(2**30) - 2**28)
ALWAYS = np.int32(2**31 - 1)

MANTISSA_BITS = np.int32(0x7FFFFF)
BITS_OF_ONE = np.int32(0x3F800000)
BIAS = np.int32(127)  # of the exponent inside a float32, whose bits 23 to 30 hold it

# Added to a float32 below 2**22 in magnitude, 1.5 * 2**23 leaves no bits behind the point: it rounds to the nearest integer, and the
# difference in bits is that integer.
ROUNDER = np.float32(1.5 * 2**23)
BITS_OF_ROUNDER = np.int32(0x4B400000)

# (2**x - 1) / x for x in [-.5, .5] as a polynomial: interpolated in Chebyshev nodes, hence near the best of its degree (relative error 1e-8).
# `tests/alignment/test_cpu_strip_kernels.py` computes them again.
P1, P2, P3, P4, P5, P6 = (np.float32(p) for p in (0.693147188, 0.240226508, 0.0555035711, 0.00961808256, 0.00133908634, 0.000154531629))


@njit(inline="always")
def larger(a, b):
    return a if a > b else b


@njit(inline="always")
def smaller(a, b):
    return a if a < b else b


@njit(inline="always")
def bits_of(x):
    return np.float32(x).view(np.int32)


@njit(inline="always")
def float_of(bits):
    return np.int32(bits).view(np.float32)


@njit(inline="always")
def nearest_exponent(cost, factor):
    """Return the integer k nearest to cost * factor, which is below 2**22 in magnitude."""
    return np.int32(bits_of(cost * factor + ROUNDER) - BITS_OF_ROUNDER)


@njit(inline="always")
def power_of_two(cost, factor, k):
    """Return 2**(cost * factor - k), in [2**-.5, 2**.5], for the nearest integer k; relative error 1e-7.

    Compilers fuse a product and a sum only if nothing else uses the product. Whoever computed k from the same variable `factor` would
    lose the exact remainder: it takes another variable of the same value.
    """
    x = cost * factor - np.float32(k)
    return ONE + x * (P1 + x * (P2 + x * (P3 + x * (P4 + x * (P5 + x * P6)))))


@njit(inline="always")
def shifted(mantissa, distance):
    """Return mantissa * 2**distance for an integer distance <= 0; exactly 0 from -127 on."""
    return mantissa * float_of(larger(np.int32(distance + BIAS), np.int32(0)) << 23)


@njit(inline="always")
def mantissa_of(x):
    """Return the mantissa, in [1, 2), of a positive float32."""
    return float_of((bits_of(x) & MANTISSA_BITS) | BITS_OF_ONE)


@njit(inline="always")
def exponent_of(x):
    """Return the exponent of a positive float32, an integer."""
    return np.int32((bits_of(x) >> 23) - BIAS)
