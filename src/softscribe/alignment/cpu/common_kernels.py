"""The CPU's common kernel: any steps, boundaries and minimum operator, in float64 and in units of gamma.

One item after another in each thread, the items of a batch in parallel, each along its anti-diagonals n + m = t. The cells of one do not
depend on each other, so the loops over them, innermost everywhere, keep the processor busy. Kept of the way forward are the steps'
probabilities alone, in the type of the cost: 4 bytes per cell and step in float32, for the items in progress. The way back then needs
no exponentials. In memory an anti-diagonal's cells stand side by side, by frame. The loops over them are small functions of whole arrays:
of an index that starts at 0 the compiler knows that it is not negative, and so uses vector registers.
"""

import numpy as np
from numba import njit, prange

from softscribe.alignment.boundaries import BoundaryArrays
from softscribe.alignment.cpu.operator_kernels import information, weigh_all
from softscribe.alignment.steps import StepArrays

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def cell_value(values: np.ndarray, row: int, item: int, n: int, m: int) -> float:
    """Return the value of a cell; along an axis of length 1 all cells have the same."""
    return values[
        row, min(np.int64(item), values.shape[1] - 1), min(np.int64(n), values.shape[2] - 1), min(np.int64(m), values.shape[3] - 1)
    ]


@njit(**OPTIONS)
def factors_and_costs(steps: StepArrays, step: int, item: int, t: int, low: int, factors: np.ndarray, costs: np.ndarray) -> None:
    """Fill in what multiplies a cell's cost if a path arrives there by this step, and what is added: 0 and infinity where it is blocked.

    For as many frames of anti-diagonal t as the last two arguments have elements, from `low` on.
    """
    factors[:] = steps.weights[step]
    costs[:] = steps.costs[step]
    weight_row, cost_row = steps.weight_rows[step], steps.cost_rows[step]
    if cost_row >= 0:
        for i in range(len(costs)):
            costs[i] = cell_value(steps.cell_values, cost_row, item, low + i, t - low - i)
    if weight_row >= 0:
        for i in range(len(factors)):
            factors[i] = cell_value(steps.cell_values, weight_row, item, low + i, t - low - i)
            if factors[i] == np.inf:
                factors[i], costs[i] = 0.0, np.inf


@njit(**OPTIONS)
def arrive(before: np.ndarray, scaled: np.ndarray, factors: np.ndarray, costs: np.ndarray, gamma: float, arrivals: np.ndarray) -> None:
    """Fill in what paths cost that arrive from the cells before by one step. Shape: all (cells,)"""
    for i in range(len(arrivals)):
        arrivals[i] = before[i] + (factors[i] * scaled[i] + costs[i] / gamma)


@njit(**OPTIONS)
def hand_back(
    here: np.ndarray, probabilities: np.ndarray, factors: np.ndarray, before: np.ndarray, weights: np.ndarray, started: np.ndarray
) -> None:
    """Hand probabilities of passing back by one step to the cells before. Shape: all (cells,)"""
    for i in range(len(here)):
        used = here[i] * np.float64(probabilities[i])
        before[i] += used
        weights[i] += used * factors[i]
        started[i] -= used


@njit(**OPTIONS)
def forward_item(
    cost: np.ndarray,
    item: int,
    frames: int,
    targets: int,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    probabilities: np.ndarray,
    keep_probabilities: bool,
    end_probabilities: np.ndarray,
) -> float:
    """Return an item's alignment cost in units of gamma, infinite if it has no path; fill the probabilities.

    Shape: cost (>= frames, >= targets); probabilities (S, frames x targets, one anti-diagonal after the other): that a path through the
    cell came by that step; what is missing to 1 is the probability that it started there; end_probabilities (1, end cells of the item)
    """
    step_count = len(steps.frames)
    depth = np.max(steps.frames + steps.targets) + 1
    accumulated = np.empty((depth, frames))  # D of the last anti-diagonals; only cells of the matrix are looked up
    arrivals = np.empty((step_count + 1, frames))  # by each step, and by starting here
    scaled, factors, costs = np.empty(frames), np.empty(frames), np.empty(frames)
    first_end = ends.offsets[item]
    end_values = np.empty((ends.offsets[item + 1] - first_end, 1))
    start, end, position = starts.offsets[item], first_end, 0
    for t in range(frames + targets - 1):
        first, cells = max(0, t - targets + 1), min(frames - 1, t) + 1 - max(0, t - targets + 1)
        for i in range(cells):
            scaled[i] = np.float64(cost[first + i, t - first - i]) / gamma
        arrivals[:, :cells] = np.inf
        rows = step_count
        for s in range(step_count):
            frame_step, target_step = steps.frames[s], steps.targets[s]
            low, high = max(first, frame_step), min(first + cells, t - target_step + 1)
            if low < high:
                before = accumulated[(t - frame_step - target_step) % depth, low - frame_step : high - frame_step]
                factors_and_costs(steps, s, item, t, low, factors[: high - low], costs[: high - low])
                arrive(before, scaled[low - first :], factors, costs, gamma, arrivals[s, low - first : high - first])
        while start < starts.offsets[item + 1] and starts.frames[start] + starts.targets[start] == t:
            i = starts.frames[start] - first
            arrivals[step_count, i] = starts.weights[start] * scaled[i] + starts.costs[start] / gamma
            rows = step_count + 1
            start += 1
        here = accumulated[t % depth, first : first + cells]
        weigh_all(arrivals, rows, cells, operator, here)
        if keep_probabilities:
            for s in range(step_count):
                probabilities[s, position : position + cells] = arrivals[s, :cells]
        position += cells
        while end < ends.offsets[item + 1] and ends.frames[end] + ends.targets[end] == t:
            i = ends.frames[end] - first
            end_values[end - first_end, 0] = here[i] + (ends.weights[end] * scaled[i] + ends.costs[end] / gamma)
            end += 1
    value = np.empty(1)
    weigh_all(end_values, len(end_values), 1, operator, value)
    end_probabilities[:] = end_values[:, 0]
    return float(value[0])


@njit(**OPTIONS)
def backward_item(
    cost: np.ndarray,
    item: int,
    frames: int,
    targets: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    probabilities: np.ndarray,
    end_probabilities: np.ndarray,
    gradient: np.ndarray,
    expected: np.ndarray,
    keep_statistics: bool,
) -> tuple[float, float]:
    """Fill `gradient` (H) and, if statistics are wanted, `expected` (E), and return expected path cost and path entropy (nats).

    Read backwards a path is a Markov chain: from a cell it goes on to the cells before, or ends, with the probabilities of the way
    forward. So E flows from the ends to the starts, and the entropy is the sum over all cells of E times that of the cell's own choice.

    Shape: cost, gradient (>= frames, >= targets); expected likewise if it is wanted; the others as in `forward_item`
    """
    step_count = len(steps.frames)
    depth = np.max(steps.frames + steps.targets) + 1
    passing = np.zeros((depth, frames))  # E of `depth` anti-diagonals
    weights, started = np.empty(frames), np.empty(frames)  # mean weight, probability of having started here: both times E
    factors, costs = np.empty(frames), np.empty(frames)
    start, end = starts.offsets[item + 1] - 1, ends.offsets[item + 1] - 1
    path_cost = entropy = 0.0
    position = frames * targets
    for t in range(frames + targets - 2, -1, -1):
        first, cells = max(0, t - targets + 1), min(frames - 1, t) + 1 - max(0, t - targets + 1)
        position -= cells
        here = passing[t % depth, first : first + cells]
        weights[:cells] = 0.0
        while end >= ends.offsets[item] and ends.frames[end] + ends.targets[end] == t:
            i, probability = ends.frames[end] - first, end_probabilities[end - ends.offsets[item]]
            here[i] += probability
            weights[i] = probability * ends.weights[end]
            path_cost += probability * ends.costs[end]
            entropy += information(probability)
            end -= 1
        started[:cells] = here
        for s in range(step_count):
            frame_step, target_step = steps.frames[s], steps.targets[s]
            low, high = max(first, frame_step), min(first + cells, t - target_step + 1)
            if low >= high:
                continue
            begin, stop = low - first, high - first
            before = passing[(t - frame_step - target_step) % depth, low - frame_step : high - frame_step]
            chosen = probabilities[s, position + begin : position + stop]
            factors_and_costs(steps, s, item, t, low, factors[: high - low], costs[: high - low])
            hand_back(here[begin:stop], chosen, factors, before, weights[begin:stop], started[begin:stop])
            if keep_statistics:
                for i in range(high - low):
                    probability = np.float64(chosen[i])
                    if probability != 0:
                        path_cost += here[begin + i] * probability * costs[i]
                        entropy += here[begin + i] * information(probability)
        while start >= starts.offsets[item] and starts.frames[start] + starts.targets[start] == t:
            i = starts.frames[start] - first
            weights[i] += started[i] * starts.weights[start]
            path_cost += started[i] * starts.costs[start]
            if here[i] != 0:
                entropy += here[i] * information(started[i] / here[i])
            start -= 1
        for i in range(cells):
            gradient[first + i, t - first - i] = weights[i]
        if keep_statistics:
            for i in range(cells):
                path_cost += weights[i] * np.float64(cost[first + i, t - first - i])
                expected[first + i, t - first - i] = here[i]
        here[:] = 0.0
    return path_cost, entropy


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def align_batch(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
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
    for b in prange(len(cost)):
        frames, targets = frame_counts[b], target_counts[b]
        probabilities = np.empty((len(steps.frames), frames * targets if keep_gradient else 0), cost.dtype)
        end_probabilities = np.empty(ends.offsets[b + 1] - ends.offsets[b])
        losses[b] = gamma * forward_item(
            cost[b], b, frames, targets, gamma, operator, steps, starts, ends, probabilities, keep_gradient, end_probabilities
        )
        if keep_gradient and losses[b] < np.inf:
            path_costs[b], entropies[b] = backward_item(
                cost[b],
                b,
                frames,
                targets,
                steps,
                starts,
                ends,
                probabilities,
                end_probabilities,
                gradient[b],
                expected[b],
                keep_statistics,
            )


@njit(**OPTIONS)
def reachable(item: int, frames: int, targets: int, steps: StepArrays, starts: BoundaryArrays, ends: BoundaryArrays) -> bool:
    """Return whether any path leads from a start cell to an end cell of an item, whatever its cells cost."""
    reached = np.zeros((frames, targets), np.bool_)
    for start in range(starts.offsets[item], starts.offsets[item + 1]):
        reached[starts.frames[start], starts.targets[start]] = True
    for n in range(frames):
        for m in range(targets):
            for s in range(len(steps.frames)):
                i, j = n - steps.frames[s], m - steps.targets[s]
                if i >= 0 and j >= 0 and reached[i, j] and steps.costs[s] < np.inf:
                    weight_row, cost_row = steps.weight_rows[s], steps.cost_rows[s]
                    is_open = weight_row < 0 or cell_value(steps.cell_values, weight_row, item, n, m) < np.inf
                    reached[n, m] |= is_open and (cost_row < 0 or cell_value(steps.cell_values, cost_row, item, n, m) < np.inf)
    reaches_end = False
    for end in range(ends.offsets[item], ends.offsets[item + 1]):
        reaches_end |= reached[ends.frames[end], ends.targets[end]]
    return reaches_end
