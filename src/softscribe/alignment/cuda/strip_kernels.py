"""The GPU's fast soft-DTW: the three classical steps with global weights, the soft minimum, fixed boundaries, float32.

The cells with n + m = t, an anti-diagonal, do not depend on each other: t is the time of a sweep. A warp owns a strip of 32 targets,
lane j its target j, and at time t every lane computes its cell of row n = t - m. It needs three cells: the one of row n - 1, its own a
moment ago; that of the lane below a moment ago (a shuffle); and that of the lane below two moments ago (last moment's shuffle).

    lane       0    1    2   ...        rows of a strip at time t: n, n - 1, n - 2, ...
    row n      t   t+1  t+2             the number is the time at which a cell is computed
    row n+1   t+1  t+2  t+3

- A block is a tile of up to 8 strips. Time is cut into chunks of 32. Warp w computes chunk k while warp w + 1 computes chunk k - 1, with
  the last column of warp w handed over in shared memory: one barrier per chunk instead of one per anti-diagonal.
- A launch is a wave: tile j computes phase (wave - j), which is a run of chunks. So tiles of one item work side by side, and what a tile
  hands to the next, its last column, or to its own next phase, the state of its lanes, passes through global memory between launches. No
  thread ever waits for another block. Up to 256 targets are one tile, one phase and one launch.
- Costs are read row by row, so coalesced, but lane j needs a row only j moments later: a ring of 32 rows in shared memory keeps them. A
  lane reads only what it wrote itself. The next rows are on their way in registers. The gradient takes the same way back.
- Two step probabilities per cell are kept, in the order in which they are computed: for a strip, time by time, lane by lane.

The way back is in `strip_backward_kernels`. Both are written once; see `lane_kernels` for the two forms of what lanes exchange.
"""

import math

import numpy as np
from numba import cuda, float32, int64

from softscribe.alignment.cuda.lane_kernels import (
    AHEAD,
    EDGE_CELLS,
    EDGE_ROWS,
    KERNEL_OPTIONS,
    LANES,
    ONE,
    RING_CELLS,
    ZERO,
    chunks_of_tile,
    fused_by_hardware,
    fused_by_simulation,
    number_up_by_hardware,
    number_up_by_simulation,
    reciprocal_by_hardware,
    reciprocal_by_simulation,
    value_ahead,
    warp_barrier_by_hardware,
    warp_barrier_by_simulation,
)
from softscribe.alignment.cuda.number_kernels import LOWEST, SMALLEST_NORMAL, factor_of, normalised, power_of_two, quotient


def forward_kernel(fused, reciprocal, number_up, warp_barrier, lockstep):
    """Return the kernel that fills losses and probabilities. `lockstep`: idle warps come to every exchange, as its simulation demands."""

    @cuda.jit(**KERNEL_OPTIONS)
    def sweep_forward(
        cost: np.ndarray,
        all_frames: int,
        all_targets: int,
        frame_counts: np.ndarray,
        target_counts: np.ndarray,
        scales: tuple,
        equal_weights: bool,
        gamma: float,
        keep_probabilities: bool,
        probabilities: np.ndarray,
        border_mantissas: np.ndarray,
        border_exponents: np.ndarray,
        lane_mantissas: np.ndarray,
        lane_exponents: np.ndarray,
        losses: np.ndarray,
        wave: int,
        phase_chunks: int,
    ) -> None:
        """Compute this tile's phase: the probabilities of coming to a cell horizontally and vertically, if wanted, and finally the loss."""
        ring = cuda.shared.array(RING_CELLS, float32)
        edge_mantissas = cuda.shared.array(EDGE_CELLS, float32)  # the last columns, one slot per row, of the strip below each warp
        edge_exponents = cuda.shared.array(EDGE_CELLS, int64)
        ahead = cuda.local.array(AHEAD, float32)
        lane, warp = cuda.threadIdx.x, cuda.threadIdx.y
        item, tile = cuda.blockIdx.x, cuda.blockIdx.y
        frames, targets = frame_counts[item], target_counts[item]
        strip = tile * cuda.blockDim.y + warp
        column = strip * LANES + lane
        first, end = chunks_of_tile(tile, wave - tile, phase_chunks, frames, targets)
        if first == end:
            return
        strip_end = strip + (frames + 2 * LANES - 2) // LANES if strip * LANES < targets else strip
        begin, stop = max(first, strip), min(end, strip_end)
        start_row = np.int32(0 if column == 0 else -1)  # where paths begin
        width = np.int64(min(LANES, all_targets - strip * LANES))
        first_cell = strip * LANES * (all_frames + LANES - 1) + lane
        costs, horizontals, verticals = cost[item], probabilities[item, 0], probabilities[item, 1]
        own_ring, below, above = warp * LANES * LANES + lane, warp * EDGE_ROWS, (warp + 1) * EDGE_ROWS
        here_mantissa, here_exponent = ZERO, LOWEST  # this lane's last cell
        corner_mantissa, corner_exponent = ZERO, LOWEST  # the cell of the lane below in the row before
        for moment in range(end - first + cuda.blockDim.y - 1):
            chunk = first + moment - warp
            working = begin <= chunk and chunk < stop
            top_row = LANES * (chunk - strip)  # of lane 0, at the start of the chunk
            rows = np.int32(frames if working and column < targets else 0)
            if working and chunk == begin:
                here_mantissa, here_exponent = ZERO, LOWEST
                corner_mantissa, corner_exponent = ZERO, LOWEST
                if chunk > strip:  # this tile's phase before has left
                    here_mantissa, here_exponent = lane_mantissas[item, 0, column], lane_exponents[item, 0, column]
                    corner_mantissa, corner_exponent = lane_mantissas[item, 1, column], lane_exponents[item, 1, column]
                    for i in range(LANES):
                        row = top_row - LANES + i
                        ring[own_ring + i * LANES] = value_ahead(costs, row * all_targets + column, row, rows)
                for i in range(AHEAD):
                    ahead[i] = value_ahead(costs, (top_row + i) * all_targets + column, top_row + i, rows)
            if working and warp == 0:
                row = top_row + lane
                edge_mantissas[row % EDGE_ROWS], edge_exponents[row % EDGE_ROWS] = ZERO, LOWEST
                if tile > 0 and row < frames:
                    edge_mantissas[row % EDGE_ROWS] = border_mantissas[item, tile - 1, row]
                    edge_exponents[row % EDGE_ROWS] = border_exponents[item, tile - 1, row]
            warp_barrier()
            if working or lockstep:
                row = np.int32(top_row - lane)
                row_ahead = np.int32(top_row + AHEAD)
                cell_ahead = (top_row + AHEAD) * all_targets + column
                edge_slot = np.int32(row % EDGE_ROWS)
                cell = first_cell + top_row * width
                for group in range(0, LANES, AHEAD):
                    for i in range(AHEAD):
                        ring[np.uint32(own_ring + (group + i) * LANES)] = ahead[i]
                        ahead[i] = value_ahead(costs, cell_ahead, row_ahead, rows)
                        left_mantissa, left_exponent = number_up(here_mantissa, here_exponent, i)
                        if lane == 0:
                            left_mantissa = edge_mantissas[np.uint32(below + edge_slot)]
                            left_exponent = edge_exponents[np.uint32(below + edge_slot)]
                        if row >= 0 and row < rows:
                            c = ring[np.uint32(own_ring + (row & (LANES - 1)) * LANES)]
                            horizontal, horizontal_exponent = factor_of(fused, c, scales[0])
                            vertical, vertical_exponent = horizontal, horizontal_exponent
                            diagonal, diagonal_exponent = horizontal, horizontal_exponent
                            if not equal_weights:
                                vertical, vertical_exponent = factor_of(fused, c, scales[1])
                                diagonal, diagonal_exponent = factor_of(fused, c, scales[2])
                            horizontal_exponent += here_exponent
                            vertical_exponent += left_exponent
                            diagonal_exponent += corner_exponent
                            exponent = max(max(horizontal_exponent, vertical_exponent), diagonal_exponent)
                            horizontal *= here_mantissa * power_of_two(horizontal_exponent - exponent)
                            vertical *= left_mantissa * power_of_two(vertical_exponent - exponent)
                            diagonal *= corner_mantissa * power_of_two(diagonal_exponent - exponent)
                            total = horizontal + vertical + diagonal
                            here_mantissa, here_exponent = normalised(total, exponent)
                            if row == start_row:  # its cost is added to the loss
                                here_mantissa, here_exponent = ONE, np.int64(0)
                            if keep_probabilities:
                                inverse = reciprocal(max(total, SMALLEST_NORMAL))
                                horizontals[np.uint64(cell)] = quotient(fused, horizontal, total, inverse)
                                verticals[np.uint64(cell)] = quotient(fused, vertical, total, inverse)
                            if lane == LANES - 1:
                                edge_mantissas[np.uint32(above + edge_slot)] = here_mantissa
                                edge_exponents[np.uint32(above + edge_slot)] = here_exponent
                        corner_mantissa, corner_exponent = left_mantissa, left_exponent
                        row, row_ahead = np.int32(row + 1), np.int32(row_ahead + 1)
                        edge_slot = np.int32(edge_slot + 1 if edge_slot < EDGE_ROWS - 1 else 0)
                        cell, cell_ahead = cell + width, cell_ahead + all_targets
            warp_barrier()
            if working:
                row = top_row + lane - (LANES - 1)
                if warp == cuda.blockDim.y - 1 and tile < cuda.gridDim.y - 1 and row >= 0 and row < frames:
                    border_mantissas[item, tile, row] = edge_mantissas[above + row % EDGE_ROWS]
                    border_exponents[item, tile, row] = edge_exponents[above + row % EDGE_ROWS]
                if chunk == stop - 1 and stop < strip_end:
                    lane_mantissas[item, 0, column], lane_exponents[item, 0, column] = here_mantissa, here_exponent
                    lane_mantissas[item, 1, column], lane_exponents[item, 1, column] = corner_mantissa, corner_exponent
                if chunk == strip_end - 1 and column == targets - 1:
                    bits = np.float64(here_exponent) + math.log2(np.float64(here_mantissa)) if here_mantissa != ZERO else -math.inf
                    losses[item] = np.float64(cost[item, 0]) - gamma * math.log(2.0) * bits
            cuda.syncthreads()

    return sweep_forward


forward_by_hardware = forward_kernel(fused_by_hardware, reciprocal_by_hardware, number_up_by_hardware, warp_barrier_by_hardware, False)
forward_by_simulation = forward_kernel(
    fused_by_simulation, reciprocal_by_simulation, number_up_by_simulation, warp_barrier_by_simulation, True
)
