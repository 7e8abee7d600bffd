"""The way back of `strip_kernels`, with the same strips, tiles and phases, each in the opposite order: the gradient of soft-DTW."""

import math

import numpy as np
from numba import cuda, float32

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
    value_ahead,
    value_down_by_hardware,
    value_down_by_simulation,
    warp_barrier_by_hardware,
    warp_barrier_by_simulation,
)


def backward_kernel(value_down, warp_barrier, lockstep):
    """Return the kernel that fills the gradient."""

    @cuda.jit(**KERNEL_OPTIONS)
    def sweep_backward(
        probabilities: np.ndarray,
        frame_counts: np.ndarray,
        target_counts: np.ndarray,
        losses: np.ndarray,
        weights: tuple,
        diagonal_open: float,
        border_flows: np.ndarray,
        lane_flows: np.ndarray,
        all_frames: int,
        all_targets: int,
        gradient: np.ndarray,
        wave: int,
        phase_chunks: int,
        phases: int,
    ) -> None:
        """Compute this tile's phase of the gradient, from the last phase to the first and from the last tile to the first.

        Read backwards a path is a Markov chain that goes on from a cell by the steps' probabilities. So the probability of passing
        flows from the end to the start: what a cell receives it hands on, and its gradient is that times the weights of the steps.
        """
        ring = cuda.shared.array(RING_CELLS, float32)
        edges = cuda.shared.array(EDGE_CELLS, float32)  # what the first column of the strip above each warp hands down
        horizontals_ahead = cuda.local.array(AHEAD, float32)
        verticals_ahead = cuda.local.array(AHEAD, float32)
        lane, warp = cuda.threadIdx.x, cuda.threadIdx.y
        item, tile = cuda.blockIdx.x, cuda.blockIdx.y
        frames, targets = frame_counts[item], target_counts[item]
        strip = tile * cuda.blockDim.y + warp
        column = strip * LANES + lane
        phase = phases - 1 - (wave - (cuda.gridDim.y - 1 - tile))
        first, end = chunks_of_tile(tile, phase, phase_chunks, frames, targets)
        if first == end:
            return
        strip_end = strip + (frames + 2 * LANES - 2) // LANES if strip * LANES < targets else strip
        begin, stop = max(first, strip), min(end, strip_end)
        # Lane 0 ends a row in this phase if it is one of these; lane j did so, too, unless it was before.
        first_row, end_row = np.int32(LANES * (begin - strip)), np.int32(LANES * (stop - strip) - lane if stop < strip_end else frames)
        last_row = np.int32(frames - 1 if column == targets - 1 else -1)  # where paths end
        start_row = np.int32(0 if column == 0 else -1)  # where paths begin
        width = np.int64(min(LANES, all_targets - strip * LANES))
        first_cell = strip * LANES * (all_frames + LANES - 1) + lane
        horizontals, verticals, gradients = probabilities[item, 0], probabilities[item, 1], gradient[item]
        own_ring, below, above = warp * LANES * LANES + lane, warp * EDGE_ROWS, (warp + 1) * EDGE_ROWS
        sent_along = ZERO  # to this lane's next cell, by the horizontal step
        sent_across = ZERO  # to the lane below, by the diagonal step, which takes two moments
        sent_down = ZERO  # to the lane below: by the vertical step, and by the last moment's diagonal one
        for moment in range(end - first + cuda.blockDim.y - 1):
            chunk = end - 1 - (moment - (cuda.blockDim.y - 1 - warp))
            working = begin <= chunk and chunk < stop
            top_row = LANES * (chunk - strip) + LANES - 1  # of lane 0, at the start of the chunk, which is its end in time
            rows = np.int32(frames if working and column < targets else 0)
            if working and chunk == stop - 1:
                sent_along, sent_across, sent_down = ZERO, ZERO, ZERO
                if stop < strip_end:  # this tile's phase before has left
                    sent_along, sent_across = lane_flows[item, 0, column], lane_flows[item, 1, column]
                    sent_down = lane_flows[item, 2, column]
                for i in range(AHEAD):
                    horizontals_ahead[i] = value_ahead(horizontals, first_cell + (top_row - i) * width, top_row - lane - i, rows)
                    verticals_ahead[i] = value_ahead(verticals, first_cell + (top_row - i) * width, top_row - lane - i, rows)
            if working and warp == cuda.blockDim.y - 1:
                row = top_row - (LANES - 1) - lane  # of the last lane
                if row >= 0 and row < frames:
                    edges[above + row % EDGE_ROWS] = border_flows[item, tile, row] if (strip + 1) * LANES < targets else ZERO
            warp_barrier()
            if working or lockstep:
                row = np.int32(top_row - lane)
                finished = np.int32(top_row)  # the row of lane 0, which all lanes have then computed
                edge_slot = np.int32(row % EDGE_ROWS)
                cell_ahead = first_cell + (top_row - AHEAD) * width
                cell = top_row * all_targets + column
                for _ in range(0, LANES, AHEAD):
                    for i in range(AHEAD):
                        arriving = value_down(sent_down, i)
                        if lane == LANES - 1:
                            arriving = edges[np.uint32(above + edge_slot)]
                        if row >= 0 and row < rows:
                            passing = sent_along + arriving
                            if row == last_row:
                                passing = ONE if losses[item] < math.inf else ZERO
                            horizontal, vertical = passing * horizontals_ahead[i], passing * verticals_ahead[i]
                            diagonal = max(passing - horizontal - vertical, ZERO) * diagonal_open
                            value = horizontal * weights[0] + vertical * weights[1] + diagonal * weights[2]
                            if row == start_row:  # which costs once whatever the weights
                                value = passing
                            sent_along, sent_down, sent_across = horizontal, vertical + sent_across, diagonal
                            if row >= first_row:
                                ring[np.uint32(own_ring + (row & (LANES - 1)) * LANES)] = value
                            else:
                                gradients[np.uint64(cell - lane * all_targets)] = value
                            if lane == 0:
                                edges[np.uint32(below + edge_slot)] = sent_down
                        if finished >= 0 and finished < end_row and finished < rows:
                            gradients[np.uint64(cell)] = ring[np.uint32(own_ring + (finished & (LANES - 1)) * LANES)]
                        row, finished = np.int32(row - 1), np.int32(finished - 1)
                        horizontals_ahead[i] = value_ahead(horizontals, cell_ahead, np.int32(row - (AHEAD - 1)), rows)
                        verticals_ahead[i] = value_ahead(verticals, cell_ahead, np.int32(row - (AHEAD - 1)), rows)
                        edge_slot = np.int32(edge_slot - 1 if edge_slot > 0 else EDGE_ROWS - 1)
                        cell, cell_ahead = cell - all_targets, cell_ahead - width
            warp_barrier()
            if working:
                row = top_row - lane
                if warp == 0 and tile > 0 and row < frames:
                    border_flows[item, tile - 1, row] = edges[row % EDGE_ROWS]
                if chunk == begin and begin > strip:
                    lane_flows[item, 0, column], lane_flows[item, 1, column] = sent_along, sent_across
                    lane_flows[item, 2, column] = sent_down
            cuda.syncthreads()

    return sweep_backward


backward_by_hardware = backward_kernel(value_down_by_hardware, warp_barrier_by_hardware, False)
backward_by_simulation = backward_kernel(value_down_by_simulation, warp_barrier_by_simulation, True)
