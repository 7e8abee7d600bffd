"""The host's side of the fast CPU kernel: what it takes in memory and in range."""

import math
from functools import cache

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int64

from softscribe.alignment.cpu import compiling
from softscribe.alignment.cpu.diagonal_kernels import LANES, STATE
from softscribe.alignment.cpu.scaled_kernels import remainder
from softscribe.alignment.cpu.tile_kernels import align_batch
from softscribe.alignment.steps import exponent_factor

LARGEST_EXPONENT = 2.0**28
"""Within which the binary exponents of exp(-D / gamma) have to stay."""

LARGEST_STEP = 2.0**22
"""Within which those of a single cell have to stay."""

SMALLEST_TILE = 8
"""Blocks of 64 frames, times 64 targets, that are worth the trouble of sharing an item among threads."""

CACHE_LINE_BYTES = 64

TILES_PER_THREAD = 3
"""Rows, and columns, of tiles that a shared item is cut into, per thread: more keep threads busier, fewer make them wait less often."""


def strip_soft_dtw(
    cost: Float32[np.ndarray, "B N M"],
    frame_counts: Int64[np.ndarray, " B"],
    target_counts: Int64[np.ndarray, " B"],
    gamma: float,
    weights: tuple[float, float, float],
    gradient: Float32[np.ndarray, "B N M"] | None,
) -> Float64[np.ndarray, " B"]:
    """Return the soft-DTW of every item, and fill `gradient` (all of it) with H if it is wanted.

    The arguments are taken as checked: contiguous arrays, at least one frame and one target, counts within the shape, gamma > 0. The
    numbers do not depend on the number of threads, on padding or on the other items, to the last bit. One call at a time.

    Args:
        weights: of horizontal, vertical and diagonal steps, in [0, inf]; inf blocks.
        gradient: may be uninitialised; 0 in padding and where there is no path.

    Returns:
        Losses, infinite where no path exists, NaN where the item is out of the kernel's range (`within_range`: its gradient is then
        meaningless), for which costs that are not finite are one reason.

    Memory: 8 bytes per cell of the items in progress (one per thread), the targets rounded up to a multiple of 64 and the frames to one
    plus 64, and 35 KiB per thread, or per 64 targets of an item that threads share. Nothing is kept between calls.

    >>> cost = np.array([[[0.0, 2.0], [2.0, 1.0]]], np.float32)
    >>> gradient = np.empty_like(cost)
    >>> strip_soft_dtw(cost, np.array([2]), np.array([2]), 0.1, (1.0, 1.0, 1.0), gradient).round(3)
    array([1.])
    >>> gradient.round(3)
    array([[[1., 0.],
            [0., 1.]]], dtype=float32)
    """
    batch, frames, targets = cost.shape
    threads = numba.get_num_threads()
    strips, blocks = -(-targets // LANES), -(-(frames + LANES - 1) // LANES)
    shared = batch < threads
    cuts = TILES_PER_THREAD * threads
    rooms, strip_rooms = (batch, strips) if shared else (threads, 1)
    kept = (strips, blocks * LANES) if gradient is not None else (strip_rooms, LANES)
    losses, largest_bits = np.zeros(batch), np.zeros((batch, strips), np.int32)
    factors = np.stack([exponent_factor(weight, gamma) for weight in (*weights, 1.0)], axis=1)  # of the three steps and the start cell
    with np.errstate(over="ignore"):
        step_weights = np.array(weights, np.float32)
    compiling.call(
        align_batch,
        cost,
        frame_counts,
        target_counts,
        gamma,
        factors[[0, 0, 1]],
        step_weights,
        aligned_empty((rooms, frames, 3)),
        aligned_empty((rooms, strip_rooms, 3, STATE)),
        aligned_empty((rooms, strip_rooms, 2 * LANES * LANES)),
        aligned_empty((rooms, *kept, 2 * LANES)),
        np.empty((batch, 0, 0), np.float32) if gradient is None else gradient,
        losses,
        largest_bits,
        -(-strips // cuts) if shared else 0,
        max(SMALLEST_TILE, -(-(blocks + strips - 1) // cuts)),
    )
    largest = largest_bits.max(axis=1).view(np.float32).astype(np.float64)
    losses[~within_range(largest, frame_counts + target_counts, gamma, weights)] = np.nan
    return losses


@cache
def is_exact() -> bool:
    """Whether this processor has a fused multiply-add, on which `power_of_two` relies: else gradients are wrong by up to 1e-4.

    Every ARM64 has one, and every x86-64 since 2013.
    """
    number = np.float32(1 + 2**-12)
    return bool(remainder(number, number, np.int32(1)) == np.float32(2**-11 + 2**-24))


def aligned_empty(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Return scratch that begins where a cache line does: NumPy's own begins 16 bytes behind, and every vector would lie in two.

    >>> aligned_empty((3, 5)).ctypes.data % CACHE_LINE_BYTES
    0
    """
    size = 4 * math.prod(shape)
    memory = np.empty(size + CACHE_LINE_BYTES, np.uint8)
    offset = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[offset : offset + size].view(np.float32).reshape(shape)


def within_range(
    largest: Float64[np.ndarray, " B"], lengths: Int64[np.ndarray, " B"], gamma: float, weights: tuple[float, float, float]
) -> np.ndarray:
    """Return which items the kernel can do, given their largest magnitude of a cost and their frames + targets. Shape: (B,) bool

    A path has fewer than frames + targets cells, each of which multiplies exp(-D / gamma) by 2**(factor cost); and a sum over
    three steps adds less than 2 to the exponent.

    >>> within_range(np.array([750.0, 750.0, np.nan]), np.array([700, 22_000, 2]), 0.01, (1.0, 1.0, 2.0))
    array([ True, False, False])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        step = largest * max(abs(float(exponent_factor(weight, gamma)[0])) for weight in (*weights, 1.0))
        return (step < LARGEST_STEP) & ((step + 2) * lengths < LARGEST_EXPONENT)
