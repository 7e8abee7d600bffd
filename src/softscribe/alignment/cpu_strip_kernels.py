"""The CPU's fast soft-DTW with its gradient: classical steps with global weights, soft minimum, fixed boundaries, float32.

**Strips.** The cells of an anti-diagonal depend on the two before only, so that a processor works on 8 or 16 of them at once. A cost matrix
(rows are frames, columns targets) is cut into strips of 64 targets. A strip is swept from the first frame to the last, lane j (its target j)
lagging j frames behind lane 0: diagonal t of a strip has frame t - j in lane j, and there are N + 63 of them. Lanes that stand before the
first frame, beyond the last one or beyond the last target compute something finite that nobody reads. From strip to strip, a column of N
numbers is handed on.

**Skewing.** To be read as a vector, a diagonal has to lie in memory as a row. So 64 frames at a time are copied to a buffer, each target one
row lower than the one before, and the gradient is copied back likewise. The buffer (32 KiB) stays in the nearest cache.

**Arithmetic.** Z = exp(-D / gamma) is a number of `scaled_kernels`: see there why there is no logarithm. Three ways lead into a cell,

    Z(n, m) = Z(n - 1, m) 2**(cost * horizontal factor)  +  Z(n, m - 1) 2**(cost * vertical factor)  +  Z(n - 1, m - 1) 2**(cost * diagonal factor)

with factor = -weight / (gamma ln 2). The probability that a path came by one of them is its share of the sum. Z itself is kept for two
diagonals only; what remains of a cell for the way back are two probabilities, 8 bytes. On the way back, the probability E of passing a
cell is parted among the cells before in these shares, and the gradient is the sum of the parts, each times the weight of its step.

**What keeps the compiler vectorising.** One function per diagonal with one loop of constant length; contiguous arrays of one dimension, at
offsets known to the compiler (others may be negative, which in Python counts from the end); everything in 32 bits; no branches.
"""

import math

import numpy as np
from numba import get_thread_id, njit, prange

from softscribe.alignment.scaled_kernels import (
    ALWAYS,
    COMPILED,
    NEVER,
    ONE,
    ZERO,
    bits_of,
    exponent_of,
    float_of,
    larger,
    magnitude_bits,
    mantissa_of,
    nearest_exponent,
    power_of_two,
    shifted,
    smaller,
)

LANES = 64  # targets of a strip, and diagonals of a block: even, and a multiple of the lanes of a vector register

# A diagonal of Z is one array: at [0, LANES] the mantissas, from EXPONENTS on the bits of the exponents, both of the last lane of the strip before
# and then of all lanes. (The compiler checks for each pair of arrays, on each call, that they do not overlap: one array is faster than two.)
EXPONENTS = 80
# The state on the way back: at [0, LANES) what flows from a lane to its own next cell, from LEFT on what flows to the next cell of the lane before,
# and from LATER on what flows there one diagonal later.
LEFT, LATER = 80, 160
STATE = 240

NEGLIGIBLE = np.float32(1e-30)  # a probability; smaller ones lead to numbers below the normal range of float32, which are slow


@njit(**COMPILED)
def forward_diagonal(cost, here, last, before, probabilities, factors, same_factors, limits):
    """Compute a diagonal of Z, `here`, and the probabilities that its cells were entered vertically and diagonally.

    `before` holds for each lane what a diagonal step starts from: the lane before, two diagonals ago. `limits` are `NEVER` for blocked steps,
    which no cost can open.
    """
    horizontal_factor, vertical_factor, diagonal_factor, _ = factors
    same_horizontal_factor, same_vertical_factor, same_diagonal_factor, _ = same_factors
    horizontal_limit, vertical_limit, diagonal_limit = limits
    for j in range(LANES):
        c = cost[j]
        h = nearest_exponent(c, same_horizontal_factor)
        v = nearest_exponent(c, same_vertical_factor)
        d = nearest_exponent(c, same_diagonal_factor)
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
        # One division serves both quotients, and what they leave is added: a step without rivals has the probability 1 exactly.
        inverse = ONE / total
        quotient = vertical * inverse
        probabilities[j] = quotient + (vertical - quotient * total) * inverse
        quotient = diagonal * inverse
        probabilities[LANES + j] = quotient + (diagonal - quotient * total) * inverse
        here[j + 1] = mantissa_of(total)
        here[EXPONENTS + j + 1] = float_of(larger(np.int32(largest + exponent_of(total)), NEVER))


@njit(**COMPILED)
def backward_diagonal(probabilities, state, gradient, weights, horizontal_open):
    """Part the probability of passing each cell of a diagonal among the cells before; `horizontal_open` is 0 if such steps are blocked, else 1."""
    horizontal_weight, vertical_weight, diagonal_weight = weights
    for j in range(LANES):
        passing = state[j] + state[LEFT + j + 1]
        passing = passing if passing > NEGLIGIBLE else ZERO
        vertical = passing * probabilities[j]
        rest = passing - vertical
        diagonal = smaller(passing * probabilities[LANES + j], rest)  # rounding must not make a probability of its own
        horizontal = (rest - diagonal) * horizontal_open
        state[j] = horizontal
        state[LEFT + j] = vertical + state[LATER + j]
        state[LATER + j] = diagonal
        gradient[j] = horizontal * horizontal_weight + vertical * vertical_weight + diagonal * diagonal_weight


@njit(**COMPILED)
def skew(cost, frames, targets, buffer, largest):
    """Copy a range of frames and targets into the buffer, whose rows are diagonals, and return the bits of the largest magnitude so far.

    Shape: cost (N, M); buffer (2 * LANES * LANES,)
    """
    for n in range(frames[1] - frames[0]):
        row = cost[frames[0] + n, targets[0] : targets[1]]
        for j in range(len(row)):
            buffer[n * LANES + j * (LANES + 1)] = row[j]
        for j in range(len(row)):
            largest = larger(largest, magnitude_bits(row[j]))
    return largest


@njit(**COMPILED)
def unskew(buffer, frames, targets, gradient):
    """Copy the other way. Shape: as in `skew`, gradient as cost"""
    for n in range(frames[1] - frames[0]):
        row = gradient[frames[0] + n, targets[0] : targets[1]]
        for j in range(len(row)):
            row[j] = buffer[n * LANES + j * (LANES + 1)]


@njit(**COMPILED)
def copy_half(buffer, source, destination):
    for i in range(LANES * LANES):
        buffer[destination + i] = buffer[source + i]


@njit(**COMPILED)
def forward_strip(cost, counts, strip, blocks, factors, same_factors, limits, columns, states, buffer, probabilities, largest):
    """Sweep some blocks of LANES diagonals and return the bits of the largest magnitude in the strip so far.

    Shape: cost (N, M); columns (N, 3): at [:, :2] mantissas and exponents of Z in the column before the strip, which give way to those of the
    strip's last column; states (3, STATE) and buffer (2 * LANES * LANES,): what a block leaves for the next; probabilities (diagonals, 2 * LANES):
    room for LANES diagonals is enough if they are not wanted
    """
    frames, targets = counts
    strip_targets = strip * LANES, min(targets, (strip + 1) * LANES)
    last_lane = strip_targets[1] - strip_targets[0] - 1
    here, last, before = states[0], states[1], states[2]
    if blocks[0] == 0:
        states[:, :EXPONENTS] = ONE
        states[:, EXPONENTS:] = float_of(NEVER)
        buffer[:] = ZERO
        largest = np.int32(0)
    for block in range(blocks[0], blocks[1]):
        first = block * LANES
        copy_half(buffer, LANES * LANES, 0)
        if first < frames:
            largest = skew(cost, (first, min(frames, first + LANES)), strip_targets, buffer, largest)
        kept = first % len(probabilities)
        for i in range(min(LANES, frames + LANES - 1 - first)):
            t = first + i
            enters = strip > 0 and t < frames
            last[0], last[EXPONENTS] = (columns[t, 0], columns[t, 1]) if enters else (ONE, float_of(NEVER))
            diagonal_cost = buffer[i * LANES : (i + 1) * LANES]
            forward_diagonal(diagonal_cost, here, last, before, probabilities[kept + i], factors, same_factors, limits)
            if strip == 0 and t == 0:  # the start cell is not entered by a step
                k = nearest_exponent(cost[0, 0], same_factors[3])
                here[1], here[EXPONENTS + 1] = power_of_two(cost[0, 0], factors[3], k), float_of(k)
            if last_lane <= t < frames + last_lane:
                columns[t - last_lane, 0], columns[t - last_lane, 1] = here[last_lane + 1], here[EXPONENTS + last_lane + 1]
            here, last = last, here
    return largest


@njit(**COMPILED)
def backward_strip(gradient, counts, strip, blocks, weights, horizontal_open, arriving, columns, state, buffer, probabilities):
    """Sweep some blocks backwards, the last one first.

    `arriving` is the probability of passing the end cell: 0 if no path leads there, else 1.

    Shape: gradient (N, M); columns (N, 3): at [:, 2] what flows into the strip's last column from the right, which gives way to what flows
    out of its first; state (STATE,) and buffer: what a block leaves for the one before
    """
    frames, targets = counts
    strip_targets = strip * LANES, min(targets, (strip + 1) * LANES)
    last_lane = strip_targets[1] - strip_targets[0] - 1
    if blocks[1] == block_count(frames):
        state[:] = ZERO
        buffer[:] = ZERO
    for block in range(blocks[1] - 1, blocks[0] - 1, -1):
        first = block * LANES
        copy_half(buffer, 0, LANES * LANES)
        for i in range(min(LANES, frames + LANES - 1 - first) - 1, -1, -1):
            t = first + i
            n = t - last_lane
            if strip_targets[1] == targets:
                state[LEFT + last_lane + 1] = arriving if n == frames - 1 else ZERO
            else:
                state[LEFT + last_lane + 1] = columns[n, 2] if 0 <= n < frames else ZERO
            backward_diagonal(probabilities[t], state, buffer[i * LANES : (i + 1) * LANES], weights, horizontal_open)
            if t < frames:
                columns[t, 2] = state[LEFT]
        if first < frames:
            unskew(buffer, (first, min(frames, first + LANES)), strip_targets, gradient)


@njit(inline="always")
def strip_count(targets):
    return (targets + LANES - 1) // LANES


@njit(inline="always")
def block_count(frames):
    return (frames + LANES - 1 + LANES - 1) // LANES


@njit(inline="always")
def blocks_of_tile(frames, strip, tile, blocks_per_tile):
    """Return which blocks of a strip belong to a tile, first and last + 1.

    A block needs the column that the strip before wrote in its blocks up to the NEXT one. So the tiles of a strip are one block ahead of those
    of the strip before, and need of it only the tile of the same number.
    """
    first = tile * blocks_per_tile - strip
    return max(0, min(first, block_count(frames))), max(0, min(first + blocks_per_tile, block_count(frames)))


@njit(**COMPILED)
def forward_tile(cost, counts, gamma, strips, tile, blocks_per_tile, factors, weights, columns, states, buffers, probabilities, largest):
    """Sweep a tile of each of some strips and return the loss if the end cell is among them, else 0."""
    frames, targets = counts
    two_factors = (factors[0, 0], factors[0, 1], factors[0, 2], factors[0, 3]), (factors[1, 0], factors[1, 1], factors[1, 2], factors[1, 3])
    limits = blocking(weights[0]), blocking(weights[1]), blocking(weights[2])
    for strip in range(strips[0], strips[1]):
        blocks = blocks_of_tile(frames, strip, tile, blocks_per_tile)
        if blocks[0] < blocks[1]:
            room, kept = strip % len(states), probabilities[strip % len(probabilities)]
            largest[strip] = forward_strip(
                cost,
                counts,
                strip,
                blocks,
                two_factors[0],
                two_factors[1],
                limits,
                columns,
                states[room],
                buffers[room],
                kept,
                largest[strip],
            )
            if strip == strip_count(targets) - 1 and blocks[1] == block_count(frames):
                mantissa, exponent = columns[frames - 1, 0], bits_of(columns[frames - 1, 1])
                return -gamma * math.log(2.0) * (exponent + math.log2(mantissa)) if exponent > NEVER // 2 else math.inf
    return 0.0


@njit(inline="always")
def blocking(weight):
    return NEVER if weight == np.inf else ALWAYS


@njit(inline="always")
def finite(weight):
    return ZERO if weight == np.inf else weight


@njit(**COMPILED)
def backward_tile(gradient, counts, loss, strips, tile, blocks_per_tile, weights, columns, states, buffers, probabilities):
    """Sweep a tile of each of some strips backwards; the very last one completes the gradient."""
    frames, targets = counts
    finite_weights = finite(weights[0]), finite(weights[1]), finite(weights[2])
    horizontal_open, arriving = np.float32(weights[0] < np.inf), np.float32(loss < np.inf)
    for strip in range(strips[1] - 1, strips[0] - 1, -1):
        blocks = blocks_of_tile(frames, strip, tile, blocks_per_tile)
        if blocks[0] < blocks[1]:
            room, kept = strip % len(states), probabilities[strip]
            backward_strip(
                gradient, counts, strip, blocks, finite_weights, horizontal_open, arriving, columns, states[room, 0], buffers[room], kept
            )
            if strip == 0 and blocks[0] == 0:
                gradient[0, 0] = arriving  # every path enters the start cell, at weight 1
                gradient[:frames, targets:] = ZERO
                gradient[frames:] = ZERO


@njit(parallel=True, **COMPILED)
def align_batch(
    cost,
    frame_counts,
    target_counts,
    gamma,
    factors,
    weights,
    columns,
    states,
    buffers,
    probabilities,
    gradient,
    losses,
    largest,
    blocks_per_tile,
):
    """Fill losses, gradient (unless it has no cells) and largest magnitudes.

    If there is one of `columns`, `states` and so on per thread, a thread does whole items: what it keeps of an item is still in the cache on the way back.
    If `blocks_per_tile` is not 0, there is one of each per item, and threads share items: strips are cut into tiles, and tiles of the same
    strip + tile number do not depend on each other. Either way the same numbers are computed from the same numbers.

    Shape: cost, gradient (B, N, M); frame_counts, target_counts, losses (B,); factors (2, 4), the same values twice: of horizontal, vertical,
    diagonal steps and the start cell; weights (3,), inf if blocked; columns (X, N, 3); states (X, Y, 3, STATE); buffers (X, Y, 2 * LANES * LANES);
    probabilities (X, strips, diagonals, 2 * LANES); largest (B, strips) int32, bits
    """
    batch, strips = largest.shape
    wanted = gradient.shape[1] > 0
    if blocks_per_tile == 0:
        for b in prange(batch):
            x = get_thread_id()
            counts = frame_counts[b], target_counts[b]
            item_strips, everything = (0, strip_count(counts[1])), block_count(counts[0]) + strips
            losses[b] = forward_tile(
                cost[b],
                counts,
                gamma,
                item_strips,
                0,
                everything,
                factors,
                weights,
                columns[x],
                states[x],
                buffers[x],
                probabilities[x],
                largest[b],
            )
            if wanted:
                backward_tile(
                    gradient[b], counts, losses[b], item_strips, 0, everything, weights, columns[x], states[x], buffers[x], probabilities[x]
                )
        return
    tiles = (block_count(cost.shape[1]) + strips - 1 + blocks_per_tile - 1) // blocks_per_tile
    waves = tiles + strips - 1
    for wave in range(waves):
        first, last = max(0, wave - tiles + 1), min(strips, wave + 1)
        for task in prange(batch * (last - first)):
            b, strip = np.int64(task) % batch, first + np.int64(task) // batch
            counts = frame_counts[b], target_counts[b]
            if strip < strip_count(counts[1]):
                losses[b] += forward_tile(
                    cost[b], counts, gamma, (strip, strip + 1), wave - strip, blocks_per_tile, factors, weights,
                    columns[b], states[b], buffers[b], probabilities[b], largest[b],
                )  # fmt: skip
    for wave in range(waves - 1 if wanted else -1, -1, -1):
        first, last = max(0, wave - tiles + 1), min(strips, wave + 1)
        for task in prange(batch * (last - first)):
            b, strip = np.int64(task) % batch, first + np.int64(task) // batch
            counts = frame_counts[b], target_counts[b]
            if strip < strip_count(counts[1]):
                backward_tile(
                    gradient[b], counts, losses[b], (strip, strip + 1), wave - strip, blocks_per_tile, weights,
                    columns[b], states[b], buffers[b], probabilities[b],
                )  # fmt: skip
