"""The GPU's common kernels: any steps, boundaries and minimum operator, in float64 and in units of gamma, as on the CPU.

One block per item; its threads share the cells of an anti-diagonal n + m = t, which do not depend on each other, and meet at a barrier
after each. Kept of the way forward is D alone, one anti-diagonal after the other, so that neighbouring threads read and write
neighbouring cells; the way back computes the steps' probabilities anew. Costs are read row by row, so coalesced, of 32 anti-diagonals at
a time, and turned in shared memory. Nothing here needs more of the hardware than the simulator has.
"""

import math

import numpy as np
from numba import cuda, float64

from softscribe.alignment import anti_diagonal_kernels
from softscribe.alignment.cuda.lane_kernels import LANES
from softscribe.alignment.cuda.operator_kernels import information, weigh
from softscribe.alignment.layout import BoundaryArrays, StepArrays

THREADS = 256
STAGED = 32
"""Anti-diagonals whose costs are read at a time."""
STAGING_WARPS = 4
"""Warps that do so: a tile of float64 for each is what fits into shared memory."""
TILES = (STAGING_WARPS, LANES, STAGED + 1)
"""So wide that no two lanes meet in a bank."""


place = cuda.jit(device=True)(anti_diagonal_kernels.place)


@cuda.jit(device=True)
def stage(cost: np.ndarray, item: int, frames: int, targets: int, begin: int, tiles: np.ndarray, staged: np.ndarray) -> None:
    """Copy the costs of `STAGED` anti-diagonals from `begin` on to `staged`, one anti-diagonal after the other. For all threads of a block.

    Shape: cost (B, N, M); tiles `TILES`, shared; staged (B, STAGED, N)
    """
    warp, lane = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES
    warps = min(STAGING_WARPS, cuda.blockDim.x // LANES)
    first, stop = max(0, begin - targets + 1), min(frames, begin + STAGED)
    for chunk in range(first, stop, warps * LANES):
        row = chunk + warp * LANES
        if warp < warps:
            for n in range(row, min(row + LANES, stop)):
                m = begin - n + lane
                if m >= 0 and m < targets:
                    tiles[warp, n - row, lane] = cost[item, n, m]
        cuda.syncthreads()
        n = row + lane
        if warp < warps and n < stop:
            for k in range(STAGED):
                staged[item, k, n] = tiles[warp, lane, k]
        cuda.syncthreads()


@cuda.jit(device=True)
def cell_value(steps: StepArrays, row: int, item: int, n: int, m: int) -> float:
    """Return the value of a step's tensor at a cell."""
    strides = steps.cell_strides[row]
    return float(steps.cell_values[strides[0] + np.int64(item) * strides[1] + np.int64(n) * strides[2] + np.int64(m) * strides[3]])


@cuda.jit(device=True)
def factor_and_cost(steps: StepArrays, step: int, item: int, n: int, m: int) -> tuple[float, float]:
    """Return what multiplies a cell's cost if a path arrives there by this step, and what is added: 0 and infinity where it is blocked."""
    factor, cost = float(steps.weights[step]), float(steps.costs[step])
    if steps.cost_rows[step] >= 0:
        cost = cell_value(steps, steps.cost_rows[step], item, n, m)
    if steps.weight_rows[step] >= 0:
        factor = cell_value(steps, steps.weight_rows[step], item, n, m)
        if factor == math.inf:
            factor, cost = 0.0, math.inf
    return factor, cost


@cuda.jit(device=True)
def find(cells: BoundaryArrays, begin: int, stop: int, n: int) -> int:
    """Return which of these boundary cells, all on one anti-diagonal, is at frame n; -1 if none is."""
    for index in range(begin, stop):
        if cells.frames[index] == n:
            return index
    return -1


@cuda.jit(device=True)
def stop_of_diagonal(cells: BoundaryArrays, begin: int, last: int, t: int) -> int:
    """Return the end of the boundary cells from `begin` on that are on anti-diagonal t."""
    while begin < last and cells.frames[begin] + cells.targets[begin] == t:
        begin += 1
    return begin


@cuda.jit(device=True)
def weigh_arrivals(
    c: float,
    item: int,
    n: int,
    m: int,
    frames: int,
    targets: int,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    start: int,
    accumulated: np.ndarray,
    depth: int,
    all_kept: bool,
    values: np.ndarray,
) -> float:
    """Return D of a cell, whose cost is c in units of gamma, and put the probabilities of all ways to arrive there into `values`.

    Args:
        start: which of the start cells it is; -1 if it is none.

    Shape: accumulated (cells,) of the item; values (S + 1,), the last for starting here
    """
    step_count = len(steps.frames)
    for s in range(step_count):
        i, j = n - steps.frames[s], m - steps.targets[s]
        values[s] = math.inf
        if i >= 0 and j >= 0:
            factor, step_cost = factor_and_cost(steps, s, item, n, m)
            values[s] = accumulated[place(i + j, frames, targets, depth, all_kept) + i] + (factor * c + step_cost / gamma)
    values[step_count] = starts.weights[start] * c + starts.costs[start] / gamma if start >= 0 else math.inf
    return weigh(values, step_count + 1, operator)


@cuda.jit
def forward_common(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    depth: int,
    accumulated: np.ndarray,
    all_kept: bool,
    arrivals: np.ndarray,
    staged: np.ndarray,
    end_probabilities: np.ndarray,
    losses: np.ndarray,
) -> None:
    """Fill losses, D in `accumulated`, of all cells or in turn of the last `depth` anti-diagonals, and the end cells' probabilities.

    An item whose counts are both 0 is left out.

    Shape: cost (B, N, M); accumulated (B, N x M, or depth x N); arrivals (B, S + 1, N) and staged (B, STAGED, N): scratch;
    end_probabilities like the places of `ends`; losses (B,)
    """
    tiles = cuda.shared.array(TILES, float64)
    item, thread = cuda.blockIdx.x, cuda.threadIdx.x
    frames, targets = frame_counts[item], target_counts[item]
    if frames == 0:
        return
    starts_begin, ends_begin = starts.begins[item], ends.begins[item]
    for t in range(frames + targets - 1):
        if t % STAGED == 0:
            stage(cost, item, frames, targets, t, tiles, staged)
        first, stop = max(0, t - targets + 1), min(frames - 1, t) + 1
        starts_stop = stop_of_diagonal(starts, starts_begin, starts.stops[item], t)
        ends_stop = stop_of_diagonal(ends, ends_begin, ends.stops[item], t)
        for n in range(first + thread, stop, cuda.blockDim.x):
            c = np.float64(staged[item, t % STAGED, n]) / gamma
            if c == math.inf:
                c = math.nan  # or it would pass for a blocked cell
            here = weigh_arrivals(
                c,
                item,
                n,
                t - n,
                frames,
                targets,
                gamma,
                operator,
                steps,
                starts,
                find(starts, starts_begin, starts_stop, n),
                accumulated[item],
                depth,
                all_kept,
                arrivals[item, :, n],
            )
            accumulated[item, place(t, frames, targets, depth, all_kept) + n] = here
            index = find(ends, ends_begin, ends_stop, n)
            if index >= 0:
                end_probabilities[index] = here + (ends.weights[index] * c + ends.costs[index] / gamma)
        starts_begin, ends_begin = starts_stop, ends_stop
        cuda.syncthreads()
    if thread == 0:
        begin, stop = ends.begins[item], ends.stops[item]
        losses[item] = gamma * weigh(end_probabilities[begin:stop], stop - begin, operator) if stop > begin else math.inf


@cuda.jit
def backward_common(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    depth: int,
    accumulated: np.ndarray,
    handed: np.ndarray,
    arrivals: np.ndarray,
    staged: np.ndarray,
    end_probabilities: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray,
    keep_statistics: bool,
    expected: np.ndarray,
    path_costs: np.ndarray,
    entropies: np.ndarray,
) -> None:
    """Fill the gradient H and, if statistics are wanted, the expected alignment E, expected path costs and path entropies (nats).

    A cell gathers from the cells after it what they hand back, so that no two threads write to one place.

    Shape: accumulated (B, N x M); handed (B, depth, S, N): scratch; gradient, expected (B, N, M); path_costs, entropies (B,); the others
    as in `forward_common`
    """
    tiles = cuda.shared.array(TILES, float64)
    path_cost_sums = cuda.shared.array(THREADS, float64)
    entropy_sums = cuda.shared.array(THREADS, float64)
    item, thread = cuda.blockIdx.x, cuda.threadIdx.x
    frames, targets = frame_counts[item], target_counts[item]
    step_count = len(steps.frames)
    starts_stop, ends_stop = starts.stops[item], ends.stops[item]
    path_cost = entropy = 0.0
    if not losses[item] < math.inf:  # no path, NaN, or left out
        return
    for t in range(frames + targets - 2, -1, -1):
        if t % STAGED == STAGED - 1 or t == frames + targets - 2:
            stage(cost, item, frames, targets, t - t % STAGED, tiles, staged)
        first, stop = max(0, t - targets + 1), min(frames - 1, t) + 1
        starts_begin, ends_begin = starts_stop, ends_stop
        while starts_begin > starts.begins[item] and starts.frames[starts_begin - 1] + starts.targets[starts_begin - 1] == t:
            starts_begin -= 1
        while ends_begin > ends.begins[item] and ends.frames[ends_begin - 1] + ends.targets[ends_begin - 1] == t:
            ends_begin -= 1
        for n in range(first + thread, stop, cuda.blockDim.x):
            m = t - n
            here = weight = 0.0
            index = find(ends, ends_begin, ends_stop, n)
            if index >= 0:
                here = end_probabilities[index]
                weight = here * ends.weights[index]
                path_cost += here * ends.costs[index]
                entropy += information(here)
            for s in range(step_count):
                i, j = n + steps.frames[s], m + steps.targets[s]
                if i < frames and j < targets:
                    here += handed[item, (i + j) % depth, s, i]
            c = np.float64(staged[item, t % STAGED, n])
            values = arrivals[item, :, n]
            index = find(starts, starts_begin, starts_stop, n)
            weigh_arrivals(
                c / gamma, item, n, m, frames, targets, gamma, operator, steps, starts, index, accumulated[item], depth, True, values
            )
            for s in range(step_count):
                # A cell that leads to no end hands back nothing, whatever is computed there: 0 x NaN would spoil others.
                passing = here * values[s] if here != 0.0 else 0.0
                handed[item, t % depth, s, n] = passing
                if passing != 0.0:
                    factor, step_cost = factor_and_cost(steps, s, item, n, m)
                    weight += passing * factor
                    path_cost += passing * step_cost
                    entropy += here * information(values[s])
            if index >= 0 and here != 0.0:
                started = here * values[step_count]
                weight += started * starts.weights[index]
                path_cost += started * starts.costs[index]
                entropy += here * information(values[step_count])
            gradient[item, n, m] = weight
            if keep_statistics:
                path_cost += weight * c if weight != 0.0 else 0.0
                expected[item, n, m] = here
        starts_stop, ends_stop = starts_begin, ends_begin
        cuda.syncthreads()
    if keep_statistics:
        path_cost_sums[thread], entropy_sums[thread] = path_cost, entropy
        cuda.syncthreads()
        if thread == 0:
            path_cost = entropy = 0.0
            for i in range(cuda.blockDim.x):  # always in this order
                path_cost += path_cost_sums[i]
                entropy += entropy_sums[i]
            path_costs[item], entropies[item] = path_cost, entropy
