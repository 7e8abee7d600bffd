"""How the strips of a batch are shared out among threads: whole items, or tiles of strips where there are fewer items than threads."""

import math

import numpy as np
from numba import get_thread_id, njit, prange

from softscribe.alignment.cpu.diagonal_kernels import LANES
from softscribe.alignment.cpu.scaled_kernels import ALWAYS, COMPILED, NEVER, ZERO, bits_of
from softscribe.alignment.cpu.strip_kernels import backward_strip, block_count, forward_strip


@njit(inline="always")
def strip_count(targets: int) -> int:
    return (targets + LANES - 1) // LANES


@njit(inline="always")
def blocks_of_tile(frames: int, strip: int, tile: int, blocks_per_tile: int) -> tuple[int, int]:
    """Return which blocks of a strip belong to a tile, first and last + 1.

    A block needs the column that the strip before wrote in its blocks up to the NEXT one, since lanes lag. So the tiles of a strip begin
    one block earlier than those of the strip before, and need of it only the tile of the same number.
    """
    first = tile * blocks_per_tile - strip
    return max(0, min(first, block_count(frames))), max(0, min(first + blocks_per_tile, block_count(frames)))


@njit(**COMPILED)
def forward_tile(
    cost: np.ndarray,
    counts: tuple[int, int],
    gamma: float,
    strips: tuple[int, int],
    tile: int,
    blocks_per_tile: int,
    factors: np.ndarray,
    weights: np.ndarray,
    columns: np.ndarray,
    states: np.ndarray,
    buffers: np.ndarray,
    probabilities: np.ndarray,
    largest: np.ndarray,
) -> float:
    """Sweep a tile of each of some strips and return the loss if the end cell is among them, else 0."""
    frames, targets = counts
    limits = blocking(weights[0]), blocking(weights[1]), blocking(weights[2])
    doubled = np.int32(-1 if weights[2] == weights[0] + weights[0] and weights[0] > ZERO else 0)
    one_factor = weights[0] == weights[1] and weights[0] < np.inf and (doubled != 0 or weights[2] == weights[0])
    for strip in range(strips[0], min(strips[1], strip_count(targets))):
        blocks = blocks_of_tile(frames, strip, tile, blocks_per_tile)
        if blocks[0] < blocks[1]:
            room, kept = strip % len(states), probabilities[strip % len(probabilities)]
            largest[strip] = forward_strip(
                cost,
                counts,
                strip,
                blocks,
                row_of(factors, 0),
                row_of(factors, 1),
                row_of(factors, 2),
                limits,
                one_factor,
                doubled,
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
def row_of(factors: np.ndarray, row: int) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    return factors[row, 0], factors[row, 1], factors[row, 2], factors[row, 3]


@njit(inline="always")
def blocking(weight: np.float32) -> np.int32:
    return NEVER if weight == np.inf else ALWAYS


@njit(inline="always")
def finite(weight: np.float32) -> np.float32:
    return ZERO if weight == np.inf else weight


@njit(**COMPILED)
def backward_tile(
    gradient: np.ndarray,
    counts: tuple[int, int],
    loss: float,
    strips: tuple[int, int],
    tile: int,
    blocks_per_tile: int,
    weights: np.ndarray,
    columns: np.ndarray,
    states: np.ndarray,
    buffers: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Sweep a tile of each of some strips backwards; the very last one completes the gradient."""
    frames, targets = counts
    finite_weights = finite(weights[0]), finite(weights[1]), finite(weights[2])
    horizontal_blocked, arriving = np.float32(weights[0] == np.inf), np.float32(loss < np.inf)
    for strip in range(min(strips[1], strip_count(targets)) - 1, strips[0] - 1, -1):
        blocks = blocks_of_tile(frames, strip, tile, blocks_per_tile)
        if blocks[0] < blocks[1]:
            room, kept = strip % len(states), probabilities[strip]
            backward_strip(
                gradient, counts, strip, blocks, finite_weights, horizontal_blocked, arriving, columns, states[room, 0], buffers[room], kept
            )
            if strip == 0 and blocks[0] == 0:
                gradient[0, 0] = arriving  # every path enters the start cell, at weight 1
                gradient[:frames, targets:] = ZERO
                gradient[frames:] = ZERO


@njit(parallel=True, **COMPILED)
def align_batch(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    factors: np.ndarray,
    weights: np.ndarray,
    columns: np.ndarray,
    states: np.ndarray,
    buffers: np.ndarray,
    probabilities: np.ndarray,
    gradient: np.ndarray,
    losses: np.ndarray,
    largest: np.ndarray,
    strips_per_tile: int,
    blocks_per_tile: int,
) -> None:
    """Fill losses, gradient (unless it has no cells) and largest magnitudes.

    If `strips_per_tile` is 0, a thread does whole items, and the scratch arrays have X = threads, Y = 1: what is kept of an item is still
    in the cache on the way back. Otherwise threads share items, X = B and Y = strips: items are cut into tiles of so many strips and
    blocks, and tiles of the same row + column, a wave, do not depend on each other. Either way the same numbers come from the same numbers.

    Shape: cost, gradient (B, N, M); frame_counts, target_counts, losses (B,); factors (3, 4), of horizontal, vertical, diagonal steps and
    the start cell: twice the same, and what rounding took from them; weights (3,), inf if blocked; largest (B, strips) int32: bits of
    magnitudes; scratch: columns (X, N, 3), states (X, Y, 3, STATE), buffers (X, Y, 2 * LANES * LANES), probabilities
    (X, strips, diagonals, 2 * LANES), or (X, Y, LANES, 2 * LANES) if no gradient is wanted
    """
    batch, strips = largest.shape
    wanted = gradient.shape[1] > 0
    if strips_per_tile == 0:
        for b in prange(batch):
            x = get_thread_id()
            counts, everything = (frame_counts[b], target_counts[b]), block_count(frame_counts[b]) + strips
            losses[b] = forward_tile(
                cost[b], counts, gamma, (0, strips), 0, everything, factors, weights,
                columns[x], states[x], buffers[x], probabilities[x], largest[b],
            )  # fmt: skip
            if wanted:
                backward_tile(
                    gradient[b], counts, losses[b], (0, strips), 0, everything, weights, columns[x], states[x], buffers[x], probabilities[x]
                )
        return
    columns_of_tiles = (strips + strips_per_tile - 1) // strips_per_tile
    rows_of_tiles = (block_count(cost.shape[1]) + strips - 1 + blocks_per_tile - 1) // blocks_per_tile
    waves = rows_of_tiles + columns_of_tiles - 1
    for wave in range(waves):
        first, last = max(0, wave - rows_of_tiles + 1), min(columns_of_tiles, wave + 1)
        for task in prange(batch * (last - first)):
            b, column = np.int64(task) % batch, first + np.int64(task) // batch
            tile_strips = column * strips_per_tile, (column + 1) * strips_per_tile
            losses[b] += forward_tile(
                cost[b], (frame_counts[b], target_counts[b]), gamma, tile_strips, wave - column, blocks_per_tile, factors, weights,
                columns[b], states[b], buffers[b], probabilities[b], largest[b],
            )  # fmt: skip
    for wave in range(waves - 1 if wanted else -1, -1, -1):
        first, last = max(0, wave - rows_of_tiles + 1), min(columns_of_tiles, wave + 1)
        for task in prange(batch * (last - first)):
            b, column = np.int64(task) % batch, first + np.int64(task) // batch
            tile_strips = column * strips_per_tile, (column + 1) * strips_per_tile
            backward_tile(
                gradient[b], (frame_counts[b], target_counts[b]), losses[b], tile_strips, wave - column, blocks_per_tile, weights,
                columns[b], states[b], buffers[b], probabilities[b],
            )  # fmt: skip
