"""The CPU's fast soft-DTW with its gradient: classical steps with global weights, soft minimum, fixed boundaries, float32.

**Strips.** The cells of an anti-diagonal depend on the two before only, so that a processor works on 8 or 16 of them at once. A cost
matrix (rows are frames, columns targets) is cut into strips of 64 targets. A strip is swept from the first frame to the last, lane j
(its target j) lagging j frames behind lane 0: diagonal t of a strip has frame t - j in lane j, and there are N + 63 of them. Lanes that
stand before the first frame, beyond the last one or beyond the last target compute something finite that nobody reads. From strip to
strip, a column of N numbers is handed on.

**Skewing.** To be read as a vector, a diagonal has to lie in memory as a row. So 64 frames at a time are copied to a buffer, each target
one row lower than the one before, and the gradient is copied back likewise. The buffer has 32 KiB and stays in the nearest caches.

**Arithmetic.** Z = exp(-D / gamma) is a number of `scaled_kernels`: see there why there is no logarithm. Three ways lead into a cell,

    Z(n, m) = Z(n - 1, m) 2**(cost * horizontal factor) + Z(n, m - 1) 2**(cost * vertical factor)
            + Z(n - 1, m - 1) 2**(cost * diagonal factor),        factor = -weight / (gamma ln 2).

For weights w-w-w and w-w-2w one power of two serves all three: that is the case of training, and the fastest one.
The probability that a path came by one of them is its share of the sum. Z itself is kept for two diagonals only; what remains of a cell
for the way back are two probabilities, 8 bytes. On the way back, the probability E of passing a cell is parted among the cells before in
these shares, and the gradient is the sum of the parts, each times the weight of its step.
"""

import numpy as np
from numba import njit

from softscribe.alignment.cpu.diagonal_kernels import (
    EXPONENTS,
    LANES,
    LEFT,
    backward_diagonal,
    forward_diagonal,
    forward_diagonal_of_one_factor,
)
from softscribe.alignment.cpu.scaled_kernels import (
    COMPILED,
    NEVER,
    ONE,
    ZERO,
    float_of,
    larger,
    magnitude_bits,
    nearest_exponent,
    power_of_two,
)


@njit(**COMPILED)
def skew(cost: np.ndarray, frames: tuple[int, int], targets: tuple[int, int], buffer: np.ndarray, largest: np.int32) -> np.int32:
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
def unskew(buffer: np.ndarray, frames: tuple[int, int], targets: tuple[int, int], gradient: np.ndarray) -> None:
    """Copy the other way. Shape: as in `skew`, gradient as cost"""
    for n in range(frames[1] - frames[0]):
        row = gradient[frames[0] + n, targets[0] : targets[1]]
        for j in range(len(row)):
            row[j] = buffer[n * LANES + j * (LANES + 1)]


@njit(**COMPILED)
def copy_half(buffer: np.ndarray, source: int, destination: int) -> None:
    for i in range(LANES * LANES):
        buffer[destination + i] = buffer[source + i]


@njit(inline="always")
def block_count(frames: int) -> int:
    return (frames + LANES - 1 + LANES - 1) // LANES


@njit(**COMPILED)
def forward_strip(
    cost: np.ndarray,
    counts: tuple[int, int],
    strip: int,
    blocks: tuple[int, int],
    factors: tuple,
    same_factors: tuple,
    rests: tuple,
    limits: tuple,
    one_factor: bool,
    doubled: np.int32,
    columns: np.ndarray,
    states: np.ndarray,
    buffer: np.ndarray,
    probabilities: np.ndarray,
    largest: np.int32,
) -> np.int32:
    """Sweep some blocks of LANES diagonals and return the bits of the largest magnitude in the strip so far.

    `one_factor` and `doubled`: see `forward_diagonal_of_one_factor`.

    Shape: cost (N, M); columns (N, 3): at [:, :2] mantissas and exponents of Z in the column before the strip, which give way to those of
    the strip's last column; states (3, STATE) and buffer (2 * LANES * LANES,): what a block leaves for the next; probabilities
    (diagonals, 2 * LANES): room for LANES diagonals is enough if they are not wanted
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
        if strip > 0:
            last[0], last[EXPONENTS] = columns[0, 0], columns[0, 1]
    for block in range(blocks[0], blocks[1]):
        first = block * LANES
        copy_half(buffer, LANES * LANES, 0)
        if first < frames:
            largest = skew(cost, (first, min(frames, first + LANES)), strip_targets, buffer, largest)
        kept = first % len(probabilities)
        for i in range(min(LANES, frames + LANES - 1 - first)):
            t = first + i
            # What the next diagonal is entered from: stored right before it is loaded again, it would have to be waited for.
            enters = strip > 0 and t + 1 < frames
            here[0], here[EXPONENTS] = (columns[t + 1, 0], columns[t + 1, 1]) if enters else (ONE, float_of(NEVER))
            diagonal_cost, kept_here = buffer[i * LANES : (i + 1) * LANES], probabilities[kept + i]
            if one_factor:
                forward_diagonal_of_one_factor(diagonal_cost, here, last, before, kept_here, factors[0], same_factors[0], rests[0], doubled)
            else:
                forward_diagonal(diagonal_cost, here, last, before, kept_here, factors, same_factors, rests, limits)
            if strip == 0 and t == 0:  # the start cell is not entered by a step
                k = nearest_exponent(cost[0, 0], same_factors[3])
                here[1], here[EXPONENTS + 1] = power_of_two(cost[0, 0], factors[3], rests[3], k), float_of(k)
            if last_lane <= t < frames + last_lane:
                columns[t - last_lane, 0], columns[t - last_lane, 1] = here[last_lane + 1], here[EXPONENTS + last_lane + 1]
            here, last = last, here
    return largest


@njit(**COMPILED)
def backward_strip(
    gradient: np.ndarray,
    counts: tuple[int, int],
    strip: int,
    blocks: tuple[int, int],
    weights: tuple,
    horizontal_blocked: np.float32,
    arriving: np.float32,
    columns: np.ndarray,
    state: np.ndarray,
    buffer: np.ndarray,
    probabilities: np.ndarray,
) -> None:
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
            backward_diagonal(probabilities[t], state, buffer[i * LANES : (i + 1) * LANES], weights, horizontal_blocked)
            if t < frames:
                columns[t, 2] = state[LEFT]
        if first < frames:
            unskew(buffer, (first, min(frames, first + LANES)), strip_targets, gradient)
