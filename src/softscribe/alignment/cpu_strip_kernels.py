"""The CPU's fast soft-DTW and its gradient: classical steps with global weights, soft minimum, fixed boundaries, float32.

**Strips.** The recursion runs along anti-diagonals: the cells of one depend on the two before only, so the processor works on 16 of them at
once. A cost matrix is cut into strips of 64 targets (`LANES`). A strip is swept frame by frame with lane j, the strip's target j, lagging
j frames behind: diagonal t of a strip holds frame t - j in lane j, and a strip has N + 63 diagonals. Lanes that are before the first frame,
beyond the last or beyond the last target compute something finite that nobody reads. Between strips, one column of N numbers is
handed on.

**Skewing.** A diagonal has to lie in memory as one row. 64 frames at a time are copied to a buffer in which row i holds diagonal
t + i, and the gradient is copied back likewise. The buffer stays in the fastest cache.

**Arithmetic.** Z = exp(-D / gamma) is kept as a `scaled_kernels` number: see there why no logarithm is needed. From the three ways into a cell

    Z(n, m) = horizontal + vertical + diagonal,   horizontal = Z(n - 1, m) * 2**(cost * factor), ...,   factor = -weight / (gamma ln 2),

the probability that a path came by one of them is its share, and Z is only needed on two diagonals: what remains of a cell for the way back are
two probabilities, 8 bytes. The third is the rest. Backwards, the probability E of passing a cell is multiplied by the three and
sent on, and H, the gradient, is the sum of what was sent, weighted.

**What keeps the compiler vectorising.** One function per diagonal with one loop of constant length, on contiguous one-dimensional arrays and
constant offsets (an offset known at run time may be negative, which in Python counts from the end); everything in 32 bits; no branches.
`tests/alignment/test_cpu_strip_kernels.py` looks for the vector registers.
"""

import math

import numpy as np
from numba import get_thread_id, njit, prange

from softscribe.alignment.scaled_kernels import (
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

LANES = 64  # targets in a strip, and frames that are skewed at a time: even, a multiple of the lanes of a vector register

# A diagonal of Z: mantissas at [0, LANES], from EXPONENTS on the bits of the exponents, of the lane before the first and then of all lanes.
# Both share an array because the compiler checks at run time, for each pair of arrays, that they do not overlap.
EXPONENTS = 80
# A diagonal of E on its way back: what goes to the same lane's next diagonal at [0, LANES); what goes to the lane before from NEXT on; and from
# AFTER_NEXT on what will go there one diagonal later.
NEXT, AFTER_NEXT = 80, 160
STATE = 240


@njit(**COMPILED)
def forward_shared(cost, here, last, before, probabilities, factors, same_factors, limits, doubled):
    """Compute a diagonal of Z where horizontal and vertical steps weigh the same, diagonal ones as much or, if `doubled` is -1, twice.

    One power serves all three steps: the power of the diagonal step is its square.

    `before` holds, for each lane, what the lane before it had two diagonals ago: what a diagonal step leaves from.
    """
    horizontal_limit, vertical_limit, diagonal_limit = limits
    factor, same_factor = factors[0], same_factors[0]
    power_weight = np.float32(doubled & 1)
    for j in range(LANES):
        c = cost[j]
        k = nearest_exponent(c, same_factor)
        power = power_of_two(c, factor, k)
        vertical, v = last[j], bits_of(last[EXPONENTS + j])
        horizontal, h = last[j + 1], smaller(bits_of(last[EXPONENTS + j + 1]), horizontal_limit)
        diagonal = before[j] * (power * power_weight + (ONE - power_weight))
        d = smaller(np.int32(bits_of(before[EXPONENTS + j]) + (k & doubled)), diagonal_limit)
        before[j], before[EXPONENTS + j] = vertical, float_of(v)
        v = smaller(v, vertical_limit)
        largest = larger(larger(h, v), d)
        horizontal = shifted(horizontal, np.int32(h - largest))
        vertical = shifted(vertical, np.int32(v - largest))
        diagonal = shifted(diagonal, np.int32(d - largest))
        total = horizontal + vertical + diagonal
        share(probabilities, j, vertical, diagonal, total)
        z = total * power
        here[j + 1] = mantissa_of(z)
        here[EXPONENTS + j + 1] = float_of(larger(np.int32(np.int32(largest + k) + exponent_of(z)), NEVER))


@njit(**COMPILED)
def forward_weighted(cost, here, last, before, probabilities, factors, same_factors, limits):
    """Compute a diagonal of Z with any weights: three powers."""
    horizontal_limit, vertical_limit, diagonal_limit = limits
    horizontal_factor, vertical_factor, diagonal_factor = factors
    same_horizontal_factor, same_vertical_factor, same_diagonal_factor = same_factors
    for j in range(LANES):
        c = cost[j]
        h, v, d = (
            nearest_exponent(c, same_horizontal_factor),
            nearest_exponent(c, same_vertical_factor),
            nearest_exponent(c, same_diagonal_factor),
        )
        horizontal = last[j + 1] * power_of_two(c, horizontal_factor, h)
        vertical = last[j] * power_of_two(c, vertical_factor, v)
        diagonal = before[j] * power_of_two(c, diagonal_factor, d)
        h = smaller(np.int32(bits_of(last[EXPONENTS + j + 1]) + h), horizontal_limit)
        v = smaller(np.int32(bits_of(last[EXPONENTS + j]) + v), vertical_limit)
        d = smaller(np.int32(bits_of(before[EXPONENTS + j]) + d), diagonal_limit)
        before[j], before[EXPONENTS + j] = last[j], last[EXPONENTS + j]
        largest = larger(larger(h, v), d)
        horizontal = shifted(horizontal, np.int32(h - largest))
        vertical = shifted(vertical, np.int32(v - largest))
        diagonal = shifted(diagonal, np.int32(d - largest))
        total = horizontal + vertical + diagonal
        share(probabilities, j, vertical, diagonal, total)
        here[j + 1] = mantissa_of(total)
        here[EXPONENTS + j + 1] = float_of(larger(np.int32(largest + exponent_of(total)), NEVER))


@njit(inline="always")
def share(probabilities, j, vertical, diagonal, total):
    """Write two quotients. One division serves both; what it leaves is added, so that a step without rivals has probability 1 exactly."""
    inverse = ONE / total
    quotient = vertical * inverse
    probabilities[j] = quotient + (vertical - quotient * total) * inverse
    quotient = diagonal * inverse
    probabilities[LANES + j] = quotient + (diagonal - quotient * total) * inverse


@njit(**COMPILED)
def backward_diagonal(probabilities, state, gradient, weights, horizontal_open):
    horizontal_weight, vertical_weight, diagonal_weight = weights
    for j in range(LANES):
        passing = state[j] + state[NEXT + j + 1]
        vertical = passing * probabilities[j]
        diagonal = passing * probabilities[LANES + j]
        horizontal = larger(passing - vertical - diagonal, ZERO) * horizontal_open
        state[j] = horizontal
        state[NEXT + j] = vertical + state[AFTER_NEXT + j]
        state[AFTER_NEXT + j] = diagonal
        gradient[j] = horizontal * horizontal_weight + vertical * vertical_weight + diagonal * diagonal_weight


@njit(**COMPILED)
def skew(cost, first_frame, last_frame, first_target, last_target, buffer, largest):
    """Copy frames to the skewed buffer, a row of which is a diagonal, and return the bits of the largest magnitude so far.

    Without the sign, the bits of floats are in the order of their magnitudes, infinity and then NaN being the largest.

    Shape: cost (N, M); buffer (2 * LANES * LANES,), a diagonal having LANES cells
    """
    for n in range(last_frame - first_frame):
        row = cost[first_frame + n, first_target:last_target]
        for j in range(len(row)):
            buffer[n * LANES + j * (LANES + 1)] = row[j]
        for j in range(len(row)):
            largest = larger(largest, np.int32(bits_of(row[j]) & np.int32(0x7FFFFFFF)))
    return largest


@njit(**COMPILED)
def unskew(buffer, first_frame, last_frame, first_target, last_target, gradient):
    """Copy frames from the skewed buffer. Shape: as in `skew`"""
    for n in range(last_frame - first_frame):
        row = gradient[first_frame + n, first_target:last_target]
        for j in range(len(row)):
            row[j] = buffer[n * LANES + j * (LANES + 1)]


@njit(**COMPILED)
def forward_strip(cost, counts, strip, blocks, steps, keep, column, state, buffer, probabilities, largest):
    """Sweep the blocks (64 diagonals each) first <= block < last of a strip.

    Shape: cost (N, M); column (N, 2): mantissa and exponent of Z in the column before the strip, replaced by the strip's last column;
    state (3, STATE); buffer (2 * LANES * LANES,); probabilities (diagonals, 2 * LANES); largest (strips,)
    """
    factors, same_factors, limits, shared, doubled, start_factor = steps
    frames, targets = counts
    first_target = strip * LANES
    last_target = min(targets, first_target + LANES)
    lane = last_target - first_target - 1
    here, last, before = state[0], state[1], state[2]
    if blocks[0] == 0:
        state[:, :EXPONENTS] = ONE
        state[:, EXPONENTS:] = float_of(NEVER)
        buffer[:] = ZERO
        largest[strip] = 0
    for block in range(blocks[0], blocks[1]):
        first = block * LANES
        buffer[: LANES * LANES] = buffer[LANES * LANES :]
        if first < frames:
            largest[strip] = skew(cost, first, min(frames, first + LANES), first_target, last_target, buffer, largest[strip])
        kept = first if keep else 0
        for i in range(min(LANES, frames + LANES - 1 - first)):
            t = first + i
            if t < frames:
                last[0], last[EXPONENTS] = column[t, 0], column[t, 1]
            else:
                last[0], last[EXPONENTS] = ONE, float_of(NEVER)
            diagonal_cost, kept_probabilities = buffer[i * LANES : (i + 1) * LANES], probabilities[kept + i]
            if shared:
                forward_shared(diagonal_cost, here, last, before, kept_probabilities, factors, same_factors, limits, doubled)
            else:
                forward_weighted(diagonal_cost, here, last, before, kept_probabilities, factors, same_factors, limits)
            if t == 0 and strip == 0:  # the start cell, which is not entered by a step
                k = nearest_exponent(cost[0, 0], start_factor)
                here[1], here[EXPONENTS + 1] = power_of_two(cost[0, 0], start_factor, k), float_of(k)
            n = t - lane
            if 0 <= n < frames:
                column[n, 0], column[n, 1] = here[lane + 1], here[EXPONENTS + lane + 1]
            here, last = last, here


@njit(**COMPILED)
def backward_strip(gradient, counts, strip, blocks, weights, horizontal_open, column, state, buffer, probabilities):
    """Sweep the blocks last > block >= first of a strip backwards.

    Shape: gradient (N, M); column (N,): the probability that comes to the strip's last column from the right, replaced by
    what the strip sends to the left; state, buffer, probabilities as in `forward_strip`
    """
    frames, targets = counts
    first_target = strip * LANES
    last_target = min(targets, first_target + LANES)
    lane = last_target - first_target - 1
    flow = state[0]
    for block in range(blocks[1] - 1, blocks[0] - 1, -1):
        first = block * LANES
        if first + LANES >= frames + LANES - 1:
            flow[:] = ZERO
            buffer[:] = ZERO
        buffer[LANES * LANES :] = buffer[: LANES * LANES]
        for i in range(min(LANES, frames + LANES - 1 - first) - 1, -1, -1):
            t = first + i
            n = t - lane
            flow[NEXT + lane + 1] = column[n] if 0 <= n < frames else ZERO
            backward_diagonal(probabilities[t], flow, buffer[i * LANES : (i + 1) * LANES], weights, horizontal_open)
            if t < frames:
                column[t] = flow[NEXT]
        if first < frames:
            unskew(buffer, first, min(frames, first + LANES), first_target, last_target, gradient)


@njit(**COMPILED)
def loss_of(column, frames, gamma):
    """Return -gamma ln Z of the end cell, infinite where no path leads to it."""
    mantissa, exponent = column[frames - 1, 0], bits_of(column[frames - 1, 1])
    return -gamma * math.log(2.0) * (exponent + math.log2(mantissa)) if exponent > NEVER // 2 else math.inf


@njit(**COMPILED)
def forward_start(column):
    column[:, 0] = ONE
    column[:, 1] = float_of(NEVER)


@njit(**COMPILED)
def backward_start(column, frames, loss):
    column[:] = ZERO
    column[frames - 1] = ZERO if loss == math.inf else ONE


@njit(**COMPILED)
def backward_end(gradient, counts, loss):
    frames, targets = counts
    gradient[0, 0] = ZERO if loss == math.inf else ONE  # every path enters the start cell, at weight 1
    gradient[:frames, targets:] = ZERO
    gradient[frames:] = ZERO


@njit(**COMPILED)
def align_item(
    cost,
    counts,
    gamma,
    factors,
    limits,
    weights,
    shared,
    doubled,
    gradient,
    keep,
    largest,
    forward_column,
    backward_column,
    state,
    buffer,
    probabilities,
):
    start_factor, horizontal_open = factors[3], np.float32(limits[0] > 0)
    f, li, w = (factors[0], factors[1], factors[2]), (limits[0], limits[1], limits[2]), (weights[0], weights[1], weights[2])
    same = factors[4], factors[5], factors[6]
    steps = f, same, li, shared, doubled, start_factor
    strips = (counts[1] + LANES - 1) // LANES
    blocks = (0, (counts[0] + LANES - 1 + LANES - 1) // LANES)
    forward_start(forward_column)
    for strip in range(strips):
        forward_strip(
            cost, counts, strip, blocks, steps, keep, forward_column, state[0], buffer[0], probabilities[strip if keep else 0], largest
        )
    loss = loss_of(forward_column, counts[0], gamma)
    if keep:
        backward_start(backward_column, counts[0], loss)
        for strip in range(strips - 1, -1, -1):
            backward_strip(gradient, counts, strip, blocks, w, horizontal_open, backward_column, state[0], buffer[0], probabilities[strip])
        backward_end(gradient, counts, loss)
    return loss


@njit(parallel=True, **COMPILED)
def align_items(
    cost,
    frame_counts,
    target_counts,
    gamma,
    factors,
    limits,
    weights,
    shared,
    doubled,
    gradient,
    losses,
    largest,
    forward_column,
    backward_column,
    state,
    buffer,
    probabilities,
):
    """One task per item: nothing is shared, and what is kept of an item is still in the cache on the way back."""
    keep = gradient.size > 0
    for b in prange(len(cost)):
        i = get_thread_id()
        losses[b] = align_item(
            cost[b],
            (frame_counts[b], target_counts[b]),
            gamma,
            factors,
            limits,
            weights,
            shared,
            doubled,
            gradient[b],
            keep,
            largest[b],
            forward_column[i],
            backward_column[i],
            state[i],
            buffer[i],
            probabilities[i],
        )
