"""The GPU's common kernels: any steps, boundaries and minimum operator, in float64 and in units of gamma, as on the CPU.

One block per item; its threads share the cells of an anti-diagonal n + m = t, which do not depend on each other, and meet at a barrier
after each. Kept of the way forward are the steps' probabilities alone, in the type of the cost, one anti-diagonal after the other, so
that neighbouring threads write neighbouring cells. Nothing here needs more of the hardware than the simulator has.
"""

import math

import numpy as np
from numba import cuda, float64

from softscribe.alignment.boundaries import BoundaryArrays
from softscribe.alignment.cuda.operator_kernels import information, weigh
from softscribe.alignment.steps import StepArrays

THREADS = 256


@cuda.jit(device=True)
def cells_before(t: int, frames: int, targets: int) -> int:
    """Return how many cells lie on the anti-diagonals before t: a triangle less the corners that stand out of the matrix."""
    above, right, both = max(t - frames, 0), max(t - targets, 0), max(t - frames - targets, 0)
    return (t * (t + 1) - above * (above + 1) - right * (right + 1) + both * (both + 1)) // 2


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
    arrivals: np.ndarray,
    keep_probabilities: bool,
    probabilities: np.ndarray,
    start_probabilities: np.ndarray,
    end_probabilities: np.ndarray,
    losses: np.ndarray,
) -> None:
    """Fill losses, the steps' probabilities (if wanted) and those of the end cells.

    An item whose counts are both 0 is left out.

    Shape: cost (B, N, M); accumulated (B, depth, N) and arrivals (B, N, S + 1): scratch; probabilities (B, S, N x M);
    start_probabilities, end_probabilities like `starts`, `ends`; losses (B,)
    """
    item, thread = cuda.blockIdx.x, cuda.threadIdx.x
    frames, targets = frame_counts[item], target_counts[item]
    if frames == 0:
        return
    step_count = len(steps.frames)
    start, end = starts.offsets[item], ends.offsets[item]
    for t in range(frames + targets - 1):
        first, stop = max(0, t - targets + 1), min(frames - 1, t) + 1
        position = cells_before(t, frames, targets) - first
        starts_stop = stop_of_diagonal(starts, start, starts.offsets[item + 1], t)
        ends_stop = stop_of_diagonal(ends, end, ends.offsets[item + 1], t)
        for n in range(first + thread, stop, cuda.blockDim.x):
            m = t - n
            c = np.float64(cost[item, n, m]) / gamma
            if c == math.inf:
                c = math.nan  # or it would pass for a blocked cell
            values = arrivals[item, n]
            for s in range(step_count):
                i, j = n - steps.frames[s], m - steps.targets[s]
                values[s] = math.inf
                if i >= 0 and j >= 0:
                    factor, step_cost = factor_and_cost(steps, s, item, n, m)
                    values[s] = accumulated[item, (i + j) % depth, i] + (factor * c + step_cost / gamma)
            index = find(starts, start, starts_stop, n)
            values[step_count] = starts.weights[index] * c + starts.costs[index] / gamma if index >= 0 else math.inf
            here = weigh(values, step_count + 1, operator)
            if index >= 0:
                start_probabilities[index] = values[step_count]
            accumulated[item, t % depth, n] = here
            if keep_probabilities:
                for s in range(step_count):
                    probabilities[item, s, position + n] = values[s]
            index = find(ends, end, ends_stop, n)
            if index >= 0:
                end_probabilities[index] = here + (ends.weights[index] * c + ends.costs[index] / gamma)
        start, end = starts_stop, ends_stop
        cuda.syncthreads()
    if thread == 0:
        begin, stop = ends.offsets[item], ends.offsets[item + 1]
        losses[item] = gamma * weigh(end_probabilities[begin:stop], stop - begin, operator) if stop > begin else math.inf


@cuda.jit
def backward_common(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    depth: int,
    passing: np.ndarray,
    probabilities: np.ndarray,
    start_probabilities: np.ndarray,
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

    Shape: passing (B, depth, N): scratch; gradient, expected (B, N, M); path_costs, entropies (B,); the others as in `forward_common`
    """
    path_cost_sums = cuda.shared.array(THREADS, float64)
    entropy_sums = cuda.shared.array(THREADS, float64)
    item, thread = cuda.blockIdx.x, cuda.threadIdx.x
    frames, targets = frame_counts[item], target_counts[item]
    step_count = len(steps.frames)
    start, end = starts.offsets[item + 1], ends.offsets[item + 1]
    path_cost = entropy = 0.0
    if not losses[item] < math.inf:  # no path, NaN, or left out
        return
    for t in range(frames + targets - 2, -1, -1):
        first, stop = max(0, t - targets + 1), min(frames - 1, t) + 1
        position = cells_before(t, frames, targets) - first
        starts_begin, ends_begin = start, end
        while starts_begin > starts.offsets[item] and starts.frames[starts_begin - 1] + starts.targets[starts_begin - 1] == t:
            starts_begin -= 1
        while ends_begin > ends.offsets[item] and ends.frames[ends_begin - 1] + ends.targets[ends_begin - 1] == t:
            ends_begin -= 1
        for n in range(first + thread, stop, cuda.blockDim.x):
            m = t - n
            here = weight = 0.0
            index = find(ends, ends_begin, end, n)
            if index >= 0:
                here = end_probabilities[index]
                weight = here * ends.weights[index]
                path_cost += here * ends.costs[index]
                entropy += information(here)
            for s in range(step_count):
                i, j = n + steps.frames[s], m + steps.targets[s]
                if i < frames and j < targets:
                    after = cells_before(i + j, frames, targets) - max(0, i + j - targets + 1) + i
                    here += passing[item, (i + j) % depth, i] * np.float64(probabilities[item, s, after])
            index = find(starts, starts_begin, start, n)
            # The probabilities sum to 1, but for rounding to float32, which would add up along a path.
            total = start_probabilities[index] if index >= 0 else 0.0
            for s in range(step_count):
                total += np.float64(probabilities[item, s, position + n])
            shared = here / total if total > 0.0 else 0.0
            for s in range(step_count):
                probability = np.float64(probabilities[item, s, position + n])
                if probability != 0.0:
                    factor, step_cost = factor_and_cost(steps, s, item, n, m)
                    weight += shared * probability * factor
                    path_cost += shared * probability * step_cost
                    entropy += here * information(probability)
            if index >= 0:
                started = shared * start_probabilities[index]
                weight += started * starts.weights[index]
                path_cost += started * starts.costs[index]
                entropy += here * information(start_probabilities[index])
            passing[item, t % depth, n] = shared
            gradient[item, n, m] = weight
            if keep_statistics:
                path_cost += weight * np.float64(cost[item, n, m])
                expected[item, n, m] = here
        start, end = starts_begin, ends_begin
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
