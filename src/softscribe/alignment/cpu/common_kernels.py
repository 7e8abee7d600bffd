"""The CPU's common kernel: any steps, boundaries and minimum operator, in float64 and in units of gamma.

One item after another in each thread, the items of a batch in parallel, each along its anti-diagonals n + m = t. The cells of one do not
depend on each other, so the loops over them, innermost everywhere, keep the processor busy. Of the way forward the steps' probabilities
are kept, in the type of the cost, for the items in progress, so that the way back needs no exponentials; if they take more than 12 bytes
per cell then D alone, 8 bytes, and the way back computes them anew. In memory an anti-diagonal's cells stand side by side, by frame.
"""

import numpy as np
from numba import njit, prange

from softscribe.alignment.cpu.arrival_kernels import (
    Item,
    Kept,
    destinations,
    fill_arrivals,
    fill_steps,
    first_and_count,
    lines_of,
    place,
    recall,
)
from softscribe.alignment.cpu.operator_kernels import OPTIONS, information, weigh_all
from softscribe.alignment.layout import BoundaryArrays, StepArrays

PROBABILITY_BYTES = 12
"""Per cell, up to which probabilities are kept: three steps in float32. With the lines of the anti-diagonals that stays below 16 per cell
from some 40 targets on."""


@njit(**OPTIONS)
def hand_back(here: np.ndarray, probabilities: np.ndarray, factors: np.ndarray, before: np.ndarray, weights: np.ndarray) -> None:
    """Hand probabilities of passing back by one step to the cells before. Shape: all (cells,)"""
    for i in range(len(here)):
        used = here[i] * probabilities[i]
        before[i] += used
        weights[i] += used * factors[i]


@njit(**OPTIONS)
def forward_item(item: Item, kept: Kept) -> float:
    """Return an item's alignment cost in units of gamma, infinite if it has no path; fill what is to be kept."""
    lines = lines_of(item.steps, item.frames, item.gamma)
    starts, ends = item.starts, item.ends
    first_start, first_end = starts.begins[item.batch_index], ends.begins[item.batch_index]
    end_values = np.empty((len(kept.end_probabilities), 1))
    starts_stop, end = first_start, first_end
    for t in range(item.frames + item.targets - 1):
        first, cells = first_and_count(t, item.frames, item.targets)
        starts_begin = starts_stop
        while starts_stop < starts.stops[item.batch_index] and starts.frames[starts_stop] + starts.targets[starts_stop] == t:
            starts_stop += 1
        here = kept.accumulated[place(t, item.frames, item.targets, item.depth, kept.all_accumulated) + first :][:cells]
        fill_steps(item, t, lines)
        rows = fill_arrivals(item, t, starts_begin, starts_stop, kept, lines)
        weigh_all(lines.arrivals, rows, cells, item.operator, here)
        for k in range(starts_begin, starts_stop):
            kept.start_probabilities[k - first_start] = lines.arrivals[len(item.steps.frames), starts.frames[k] - first]
        if kept.probabilities.size:
            position = place(t, item.frames, item.targets, item.depth, True) + first
            for s in range(len(item.steps.frames)):
                kept.probabilities[s, position : position + cells] = lines.arrivals[s, :cells]
        while end < ends.stops[item.batch_index] and ends.frames[end] + ends.targets[end] == t:
            i = ends.frames[end] - first
            end_values[end - first_end, 0] = here[i] + (ends.weights[end] * lines.scaled[i] + ends.costs[end] / item.gamma)
            end += 1
    value = np.full(1, np.inf)
    if len(end_values):
        weigh_all(end_values, len(end_values), len(value), item.operator, value)
        kept.end_probabilities[:] = end_values[:, 0]
    return float(value[0])


@njit(**OPTIONS)
def backward_item(item: Item, kept: Kept, gradient: np.ndarray, expected: np.ndarray, keep_statistics: bool) -> tuple[float, float]:
    """Fill `gradient` (H) and, if statistics are wanted, `expected` (E), and return expected path cost and path entropy (nats).

    Read backwards a path is a Markov chain: from a cell it goes on to the cells before, or ends, with the probabilities of the way
    forward. So E flows from the ends to the starts, and the entropy is the sum over all cells of E times that of the cell's own choice.

    Shape: gradient (>= frames, >= targets); expected likewise if it is wanted
    """
    lines = lines_of(item.steps, item.frames, item.gamma)
    steps, starts, ends = item.steps, item.starts, item.ends
    passing = np.zeros((item.depth, item.frames))  # E of `depth` anti-diagonals
    weights, totals = np.empty(item.frames), np.empty(item.frames)  # weights: mean weight times E
    starts_begin, end = starts.stops[item.batch_index], ends.stops[item.batch_index] - 1
    path_cost = entropy = 0.0
    for t in range(item.frames + item.targets - 2, -1, -1):
        first, cells = first_and_count(t, item.frames, item.targets)
        here = passing[t % item.depth, first : first + cells]
        weights[:cells] = 0.0
        while end >= ends.begins[item.batch_index] and ends.frames[end] + ends.targets[end] == t:
            i, probability = ends.frames[end] - first, kept.end_probabilities[end - ends.begins[item.batch_index]]
            here[i] += probability
            weights[i] = probability * ends.weights[end]
            path_cost += probability * ends.costs[end]
            entropy += information(probability)
            end -= 1
        starts_stop = starts_begin
        while starts_begin > starts.begins[item.batch_index] and starts.frames[starts_begin - 1] + starts.targets[starts_begin - 1] == t:
            starts_begin -= 1
        fill_steps(item, t, lines)
        if kept.all_accumulated:
            rows = fill_arrivals(item, t, starts_begin, starts_stop, kept, lines)
            weigh_all(lines.arrivals, rows, cells, item.operator, totals[:cells])  # D, which is known
        else:
            recall(item, t, starts_begin, starts_stop, kept, lines, totals[:cells])
        for s in range(len(steps.frames)):
            low, high = destinations(t, item.frames, item.targets, steps.frames[s], steps.targets[s])
            if low >= high:
                continue
            begin, stop = low - first, high - first
            before = passing[(t - steps.frames[s] - steps.targets[s]) % item.depth, low - steps.frames[s] : high - steps.frames[s]]
            probabilities = lines.arrivals[s, begin:stop]
            hand_back(here[begin:stop], probabilities, lines.factors[s], before, weights[begin:stop])
            if keep_statistics:
                for i in range(high - low):
                    if probabilities[i] != 0:
                        path_cost += here[begin + i] * probabilities[i] * lines.costs[s, i] * item.gamma
                        entropy += here[begin + i] * information(probabilities[i])
        for k in range(starts_begin, starts_stop):
            i = starts.frames[k] - first
            probability = lines.arrivals[len(steps.frames), i]
            weights[i] += here[i] * probability * starts.weights[k]
            path_cost += here[i] * probability * starts.costs[k]
            entropy += here[i] * information(probability)
        for i in range(cells):
            gradient[first + i, t - first - i] = weights[i]
        if keep_statistics:
            for i in range(cells):
                path_cost += weights[i] * np.float64(item.cost[first + i, t - first - i])
                expected[first + i, t - first - i] = here[i]
        here[:] = 0.0
    return path_cost, entropy


@njit(parallel=True, **OPTIONS)
def align_batch(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    depth: int,
    losses: np.ndarray,
    gradient: np.ndarray,
    expected: np.ndarray,
    path_costs: np.ndarray,
    entropies: np.ndarray,
) -> None:
    """Fill the last five arguments with losses, gradient H, expected alignment E, expected path cost and path entropy in nats.

    A `gradient` without cells is not wanted, nor are then the three after it, nor these if `expected` has no cells. Padding is left as it
    is: hand over zeros.

    Shape: cost, gradient, expected (B, N, M) float32 or float64; frame_counts, target_counts (B,) int64; losses, path_costs, entropies
    (B,) float64
    """
    keep_gradient, keep_statistics = gradient.size > 0, expected.size > 0
    step_count = len(steps.frames)
    keep_probabilities = keep_gradient and step_count * cost.itemsize <= PROBABILITY_BYTES
    for number in prange(len(cost)):
        b = np.int64(number)  # in a parallel loop it is unsigned: all that an item is handed to would be compiled for either type
        item = Item(b, cost[b], frame_counts[b], target_counts[b], gamma, operator, steps, starts, ends, depth)
        all_accumulated = keep_gradient and not keep_probabilities
        kept = Kept(
            np.empty(item.frames * (item.targets if all_accumulated else depth)),
            all_accumulated,
            np.empty((step_count, item.frames * item.targets if keep_probabilities else 0), cost.dtype),
            np.zeros(starts.stops[b] - starts.begins[b]),
            np.empty(ends.stops[b] - ends.begins[b]),
        )
        losses[b] = gamma * forward_item(item, kept)
        if keep_gradient and losses[b] < np.inf:
            path_costs[b], entropies[b] = backward_item(item, kept, gradient[b], expected[b], keep_statistics)
