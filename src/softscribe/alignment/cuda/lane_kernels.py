"""What the threads of a GPU's warp are and do together, and what the simulator of CUDA lacks.

A few operations exist in two forms. The simulator knows neither shuffles nor a warp's barrier nor a fast division, and its `fma` rounds
twice, so kernels take these as arguments: `..._by_hardware` is what runs on a GPU, `..._by_simulation` does the same by shared memory, by
the block's barrier and by float64. Everything else is one body for both. So the tests compile the forms by hardware, but cannot run them.
"""

import numpy as np
from numba import config, cuda, float32, int64

LANES = 32
"""Threads of a warp: a warp takes a strip of 32 targets."""

WARPS = 8
"""The most warps of a block, limited by the 48 KiB of shared memory that need no permission."""

KERNEL_OPTIONS = {} if config.ENABLE_CUDASIM else {"launch_bounds": (WARPS * LANES, 2)}
"""Threads of a block, and how many blocks the registers of a multiprocessor shall have room for; unknown to the simulator."""

AHEAD = 4
"""Rows on their way from global memory; even, so that the exchanges between lanes take even and odd turns."""

RING_CELLS = WARPS * LANES * LANES
"""Of a ring of 32 rows for every warp of a block."""

EDGE_ROWS = 2 * LANES + 1
"""Rows of a column that one warp hands to another: a chunk being read, one being written, whose last row lies in the chunk after it."""

EDGE_CELLS = (WARPS + 1) * EDGE_ROWS
"""Of the columns between the strips of a block and on both its sides."""

ALL_LANES = 0xFFFFFFFF

ZERO, ONE = np.float32(0), np.float32(1)


@cuda.jit(device=True)
def fused_by_hardware(a: float, b: float, c: float) -> float:
    """Return a * b + c, rounded once."""
    return cuda.fma(a, b, c)


@cuda.jit(device=True)
def fused_by_simulation(a: float, b: float, c: float) -> float:
    """Return a * b + c, rounded once: in float64 the product is exact, and so is nearly always the sum."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


@cuda.jit(device=True)
def reciprocal_by_hardware(x: float) -> float:
    """Return 1 / x within two units in the last place, for a normal x below 2^126."""
    return cuda.libdevice.fast_fdividef(ONE, x)


@cuda.jit(device=True)
def reciprocal_by_simulation(x: float) -> float:
    """Return 1 / x."""
    return ONE / x


@cuda.jit(device=True)
def number_up_by_hardware(mantissa: float, exponent: int, turn: int) -> tuple[float, int]:
    """Return the number that the lane below handed in (lane 0: its own). One call after another has an even and an odd `turn`."""
    return cuda.shfl_up_sync(ALL_LANES, mantissa, 1), cuda.shfl_up_sync(ALL_LANES, exponent, 1)


@cuda.jit(device=True)
def number_up_by_simulation(mantissa: float, exponent: int, turn: int) -> tuple[float, int]:
    """Do the same by shared memory, half of which belongs to even turns. All threads of the block have to come here."""
    mantissas = cuda.shared.array((2, WARPS, LANES), float32)
    exponents = cuda.shared.array((2, WARPS, LANES), int64)
    lane, warp = cuda.threadIdx.x, cuda.threadIdx.y
    mantissas[turn % 2, warp, lane] = mantissa
    exponents[turn % 2, warp, lane] = exponent
    cuda.syncthreads()
    return mantissas[turn % 2, warp, max(lane - 1, 0)], exponents[turn % 2, warp, max(lane - 1, 0)]


@cuda.jit(device=True)
def value_down_by_hardware(value: float, turn: int) -> float:
    """Return the value that the lane above handed in (lane 31: its own). One call after another has an even and an odd `turn`."""
    return cuda.shfl_down_sync(ALL_LANES, value, 1)


@cuda.jit(device=True)
def value_down_by_simulation(value: float, turn: int) -> float:
    """Do the same by shared memory, half of which belongs to even turns. All threads of the block have to come here."""
    values = cuda.shared.array((2, WARPS, LANES), float32)
    lane, warp = cuda.threadIdx.x, cuda.threadIdx.y
    values[turn % 2, warp, lane] = value
    cuda.syncthreads()
    return values[turn % 2, warp, min(lane + 1, LANES - 1)]


@cuda.jit(device=True)
def warp_barrier_by_hardware() -> None:
    """Let the lanes of a warp see what the others wrote."""
    cuda.syncwarp()


@cuda.jit(device=True)
def warp_barrier_by_simulation() -> None:
    """Let the lanes of a warp see what the others wrote. All threads of the block have to come here."""
    cuda.syncthreads()


@cuda.jit(device=True)
def chunks_of_tile(tile: int, phase: int, phase_chunks: int, frames: int, targets: int) -> tuple[int, int]:
    """Return the first chunk of a tile in a phase, and the one after the last: where any of its strips has a cell."""
    first_strip = tile * cuda.blockDim.y
    last_strip = min(first_strip + cuda.blockDim.y, (targets + LANES - 1) // LANES) - 1
    first = max(phase * phase_chunks, first_strip)
    end = min((phase + 1) * phase_chunks, last_strip + (frames + 2 * LANES - 2) // LANES)
    return first, max(first, end) if last_strip >= first_strip and phase >= 0 else first


@cuda.jit(device=True)
def value_ahead(values: np.ndarray, cell: int, row: int, rows: int) -> float:
    """Return a value of a cell, 0 where the lane has none in that row."""
    return values[np.uint64(cell)] if row >= 0 and row < rows else ZERO
