"""One anti-diagonal of a strip, forwards and backwards: the innermost loops of the CPU's fast soft-DTW. See `strip_kernels`.

**What keeps the compiler vectorising.** One function per diagonal with one loop of constant length; contiguous arrays of one dimension, at
offsets known to the compiler (others may be negative, which in Python counts from the end); everything in 32 bits; no branches.
"""

import numpy as np
from numba import njit

from softscribe.alignment.cpu.scaled_kernels import (
    BITS_OF_ONE,
    COMPILED,
    NEVER,
    ONE,
    ZERO,
    bits_of,
    exponent_of,
    float_of,
    larger,
    mantissa_of,
    nearest_exponent,
    power_of_two,
    shifted,
    smaller,
)

LANES = 64  # targets of a strip, and diagonals of a block: even, and a multiple of the lanes of a vector register

# A diagonal of Z is one array: at [0, LANES] the mantissas, from EXPONENTS on the bits of the exponents, both of the last lane of the strip
# before and then of all lanes. (The compiled code checks on each call that no two arrays overlap: one array is faster than two.)
EXPONENTS = 80
# The state on the way back: at [0, LANES) what flows from a lane to its own next cell, from LEFT on what flows to the next cell of the
# lane before, and from LATER on what flows there one diagonal later.
LEFT, LATER = 80, 160
STATE = 240

NEGLIGIBLE = np.float32(1e-30)  # a probability; smaller ones lead to numbers below the normal range of float32, which are slow


@njit(inline="always")
def merge(mantissas: tuple, exponents: tuple) -> tuple:
    """Return the sum of three numbers, its exponent still apart, and the shares of the last two.

    Mantissas may be up to three times as large as `scaled_kernels` has them.
    """
    h, v, d = exponents
    largest = larger(larger(h, v), d)
    horizontal = shifted(mantissas[0], np.int32(h - largest))
    vertical = shifted(mantissas[1], np.int32(v - largest))
    diagonal = shifted(mantissas[2], np.int32(d - largest))
    total = horizontal + vertical + diagonal
    # One division serves both quotients, and what they leave is added: a step without rivals has the probability 1 exactly.
    inverse = ONE / total
    vertical_share = vertical * inverse
    vertical_share = vertical_share + (vertical - vertical_share * total) * inverse
    diagonal_share = diagonal * inverse
    diagonal_share = diagonal_share + (diagonal - diagonal_share * total) * inverse
    return total, largest, vertical_share, diagonal_share


@njit(**COMPILED)
def forward_diagonal(
    cost: np.ndarray,
    here: np.ndarray,
    last: np.ndarray,
    before: np.ndarray,
    probabilities: np.ndarray,
    factors: tuple,
    same_factors: tuple,
    rests: tuple,
    limits: tuple,
) -> None:
    """Compute a diagonal of Z, `here`, and the probabilities that its cells were entered vertically and diagonally.

    `before` holds for each lane what a diagonal step starts from: the lane before, two diagonals ago. `limits` are `NEVER` for blocked
    steps, which no cost can open.
    """
    horizontal_factor, vertical_factor, diagonal_factor, _ = factors
    same_horizontal_factor, same_vertical_factor, same_diagonal_factor, _ = same_factors
    horizontal_rest, vertical_rest, diagonal_rest, _ = rests
    horizontal_limit, vertical_limit, diagonal_limit = limits
    for j in range(LANES):
        c = cost[j]
        h = nearest_exponent(c, same_horizontal_factor)
        v = nearest_exponent(c, same_vertical_factor)
        d = nearest_exponent(c, same_diagonal_factor)
        horizontal = last[j + 1] * power_of_two(c, horizontal_factor, horizontal_rest, h)
        vertical = last[j] * power_of_two(c, vertical_factor, vertical_rest, v)
        diagonal = before[j] * power_of_two(c, diagonal_factor, diagonal_rest, d)
        h = smaller(np.int32(bits_of(last[EXPONENTS + j + 1]) + h), horizontal_limit)
        v = smaller(np.int32(bits_of(last[EXPONENTS + j]) + v), vertical_limit)
        d = smaller(np.int32(bits_of(before[EXPONENTS + j]) + d), diagonal_limit)
        before[j], before[EXPONENTS + j] = last[j], last[EXPONENTS + j]
        total, largest, probabilities[j], probabilities[LANES + j] = merge((horizontal, vertical, diagonal), (h, v, d))
        here[j + 1] = mantissa_of(total)
        here[EXPONENTS + j + 1] = float_of(larger(np.int32(largest + exponent_of(total)), NEVER))


@njit(**COMPILED)
def forward_diagonal_of_one_factor(
    cost: np.ndarray,
    here: np.ndarray,
    last: np.ndarray,
    before: np.ndarray,
    probabilities: np.ndarray,
    factor: np.float32,
    same_factor: np.float32,
    rest: np.float32,
    doubled: np.int32,
) -> None:
    """Do the same for weights w-w-w, or, with the bits of `doubled` all 1 instead of 0, w-w-2w: one power of two instead of three."""
    bits_of_one = np.int32(BITS_OF_ONE & ~doubled)
    for j in range(LANES):
        c = cost[j]
        k = nearest_exponent(c, same_factor)
        power = power_of_two(c, factor, rest, k)
        diagonal = before[j] * float_of(np.int32(bits_of(power) & doubled) | bits_of_one)
        h, v = bits_of(last[EXPONENTS + j + 1]), bits_of(last[EXPONENTS + j])
        d = np.int32(bits_of(before[EXPONENTS + j]) + np.int32(k & doubled))
        total, largest, probabilities[j], probabilities[LANES + j] = merge((last[j + 1], last[j], diagonal), (h, v, d))
        before[j], before[EXPONENTS + j] = last[j], last[EXPONENTS + j]
        total = total * power
        here[j + 1] = mantissa_of(total)
        here[EXPONENTS + j + 1] = float_of(larger(np.int32(np.int32(largest + k) + exponent_of(total)), NEVER))


@njit(**COMPILED)
def backward_diagonal(
    probabilities: np.ndarray, state: np.ndarray, gradient: np.ndarray, weights: tuple, horizontal_blocked: np.float32
) -> None:
    """Part the probability of passing each cell of a diagonal among the cells before.

    `horizontal_blocked` is 1 if no horizontal steps are allowed, else 0.
    """
    horizontal_weight, vertical_weight, diagonal_weight = weights
    for j in range(LANES):
        passing = state[j] + state[LEFT + j + 1]
        passing = passing if passing > NEGLIGIBLE else ZERO
        vertical = passing * probabilities[j]
        rest = passing - vertical
        # Nothing may get lost or be added by rounding, cell by cell: one step takes the rest.
        diagonal = larger(smaller(passing * probabilities[LANES + j], rest), rest * horizontal_blocked)
        horizontal = rest - diagonal
        state[j] = horizontal
        state[LEFT + j] = vertical + state[LATER + j]
        state[LATER + j] = diagonal
        gradient[j] = horizontal * horizontal_weight + vertical * vertical_weight + diagonal * diagonal_weight
