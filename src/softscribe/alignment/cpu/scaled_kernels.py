"""Positive numbers of any size: a mantissa in [1, 2), float32, times two to the power of an int32 exponent.

Soft-DTW's recursion is a sum of products in Z = exp(-D / gamma), but D / gamma soon leaves the range of any floating-point type. The usual
way out is to compute with D itself, at the price of exponentials of differences and a logarithm per cell. Here Z keeps its exponent in an
integer of its own instead. A product then adds exponents, a sum shifts the smaller terms right, and no logarithm is left: everything
is arithmetic that a compiler turns into vector instructions.

There is no zero. The exponent `NEVER` stands for it: so far below all others that a number shifted by the difference is exactly 0. The
exponents of numbers that occur have to stay within +-2**28; then no sum and no difference overflows, not even with `NEVER`.

Of all "fast math" only `contract` is allowed: it lets a product and a sum become one fused multiply-add, which rounds once, and the
remainder in `power_of_two` is exact only thus. Anything more would let the compiler cancel the addition that rounds in `nearest_exponent`.
"""

from typing import TypeVar

import numpy as np
from numba import njit

Number = TypeVar("Number", np.int32, np.float32)

COMPILED = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

ZERO, ONE = np.float32(0), np.float32(1)
NEVER = np.int32(-(2**30) - 2**28)
ALWAYS = np.int32(2**31 - 1)  # above every exponent

SMALLEST_EXPONENT = np.int32(-127)  # of a float32, with bits that are all 0
SIGN_BIT, MANTISSA_BITS = np.int32(-(2**31)), np.int32((1 << 23) - 1)
BITS_OF_ONE = np.int32(127 << 23)

# Added to a float32 below 2**22 in magnitude, 1.5 * 2**23 leaves no bits behind the point: it rounds to the nearest integer, which
# is then the difference in bits.
ROUNDER = np.float32(1.5 * 2**23)
BITS_OF_ROUNDER = ROUNDER.view(np.int32)

# (2**x - 1) / x on [-.5, .5] as a polynomial in x, interpolated in the Chebyshev nodes; 2**x has a relative error of 1e-8.
P0, P1, P2, P3, P4, P5 = (np.float32(p) for p in (0.693147188, 0.240226508, 0.0555035711, 0.00961808256, 0.00133908634, 0.000154531629))


@njit(inline="always")
def larger(a: Number, b: Number) -> Number:
    return a if a > b else b


@njit(inline="always")
def smaller(a: Number, b: Number) -> Number:
    return a if a < b else b


@njit(inline="always")
def bits_of(x: np.float32) -> np.int32:
    return np.float32(x).view(np.int32)


@njit(inline="always")
def float_of(bits: np.int32) -> np.float32:
    return np.int32(bits).view(np.float32)


@njit(inline="always")
def magnitude_bits(x: np.float32) -> np.int32:
    """Return the bits of |x|: they are in the order of the magnitudes, infinity and then NaN being the largest."""
    return np.int32(bits_of(x) & ~SIGN_BIT)


@njit(inline="always")
def nearest_exponent(cost: np.float32, factor: np.float32) -> np.int32:
    """Return the integer nearest to cost * factor, which has to be below 2**22 in magnitude."""
    return np.int32(bits_of(cost * factor + ROUNDER) - BITS_OF_ROUNDER)


@njit(inline="always")
def power_of_two(cost: np.float32, factor: np.float32, rest: np.float32, exponent: np.int32) -> np.float32:
    """Return 2**(cost * (factor + rest) - exponent), in [.7, 1.5], where `exponent` is the integer nearest to cost * factor.

    Of a product of thousands a float32 has few digits left behind the point. Factors that were rounded each for itself would so lose what
    their weights have in common, such as diagonal = horizontal + vertical: `rest` is what rounding took from the factor.

    A compiler fuses a product and a sum only where nothing else needs the product. Hence `exponent` has to be computed with another
    variable of the same value as `factor`, and one that the compiler cannot know to be the same.
    """
    x = cost * factor - np.float32(exponent)
    x += cost * rest
    return ONE + x * (P0 + x * (P1 + x * (P2 + x * (P3 + x * (P4 + x * P5)))))


@njit(**COMPILED)
def remainder(cost: np.float32, factor: np.float32, exponent: np.int32) -> np.float32:
    """Return the first line of `power_of_two`, by itself: whether it is exact, depends on the processor."""
    return cost * factor - np.float32(exponent)


@njit(inline="always")
def shifted(mantissa: np.float32, difference: np.int32) -> np.float32:
    """Return mantissa * 2**difference for an integer difference <= 0; exactly 0 from -127 on."""
    return mantissa * float_of(larger(np.int32(difference - SMALLEST_EXPONENT), np.int32(0)) << 23)


@njit(inline="always")
def mantissa_of(x: np.float32) -> np.float32:
    """Return the mantissa, in [1, 2), of a positive float32."""
    return float_of((bits_of(x) & MANTISSA_BITS) | BITS_OF_ONE)


@njit(inline="always")
def exponent_of(x: np.float32) -> np.int32:
    """Return the exponent of a positive float32, an integer."""
    return np.int32(np.int32(bits_of(x) - BITS_OF_ONE) >> 23)
