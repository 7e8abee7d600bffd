"""The CPU's common kernel: any steps, boundaries and minimum operator, in float64 and in units of gamma.

One item after another in each thread, the items of a batch in parallel, each along its anti-diagonals n + m = t. The cells of one do not
depend on each other, so the loops over them, innermost everywhere, keep the processor busy. Kept of the way forward are the steps'
probabilities alone, in the type of the cost: 4 bytes per cell and step in float32, for the items in progress. The way back then needs
no exponentials. Where an anti-diagonal is laid out in memory, the cell of frame n stands at n.
"""

import numpy as np
from numba import njit, prange

from softscribe.alignment.boundaries import BoundaryArrays
from softscribe.alignment.operator_kernels import information, weigh_all
from softscribe.alignment.steps import StepArrays

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def factors_and_costs(
    steps: StepArrays, step: int, item: int, t: int, first: int, last: int, factors: np.ndarray, costs: np.ndarray
) -> None:
    """Fill in what multiplies a cell's cost if a path arrives there by this step, and what is added: 0 and infinity where it is blocked.

    For the frames `first` to `last` of anti-diagonal t. Shape: factors, costs (frames,)
    """
    factors[first : last + 1] = steps.weights[step]
    costs[first : last + 1] = steps.costs[step]
    weight_row, cost_row, values = steps.weight_rows[step], steps.cost_rows[step], steps.cell_values
    if cost_row >= 0:
        for n in range(first, last + 1):
            costs[n] = values[cost_row, item, n, t - n]
    if weight_row >= 0:
        for n in range(first, last + 1):
            factors[n] = values[weight_row, item, n, t - n]
            if factors[n] == np.inf:
                factors[n], costs[n] = 0.0, np.inf


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
        first, last = max(0, t - targets + 1), min(frames - 1, t)
        for n in range(first, last + 1):
            scaled[n] = np.float64(cost[n, t - n]) / gamma
        arrivals[:, first : last + 1] = np.inf
        for s in range(step_count):
            frame_step, target_step = steps.frames[s], steps.targets[s]
            before = accumulated[(t - frame_step - target_step) % depth]
            low, high = max(first, frame_step), min(last, t - target_step)
            factors_and_costs(steps, s, item, t, low, high, factors, costs)
            for n in range(low, high + 1):
                arrivals[s, n] = before[n - frame_step] + (factors[n] * scaled[n] + costs[n] / gamma)
        while start < starts.offsets[item + 1] and starts.frames[start] + starts.targets[start] == t:
            n = starts.frames[start]
            arrivals[step_count, n] = starts.weights[start] * scaled[n] + starts.costs[start] / gamma
            start += 1
        here = accumulated[t % depth]
        weigh_all(arrivals, first, last, operator, here)
        if keep_probabilities:
            for s in range(step_count):
                for n in range(first, last + 1):
                    probabilities[s, position + n - first] = arrivals[s, n]
        position += last + 1 - first
        while end < ends.offsets[item + 1] and ends.frames[end] + ends.targets[end] == t:
            n = ends.frames[end]
            end_values[end - first_end, 0] = here[n] + (ends.weights[end] * scaled[n] + ends.costs[end] / gamma)
            end += 1
    value = np.empty(1)
    weigh_all(end_values, 0, 0, operator, value)
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
        first, last = max(0, t - targets + 1), min(frames - 1, t)
        position -= last + 1 - first
        here = passing[t % depth]
        weights[first : last + 1] = 0.0
        while end >= ends.offsets[item] and ends.frames[end] + ends.targets[end] == t:
            n, probability = ends.frames[end], end_probabilities[end - ends.offsets[item]]
            here[n] += probability
            weights[n] = probability * ends.weights[end]
            path_cost += probability * ends.costs[end]
            entropy += information(probability)
            end -= 1
        started[first : last + 1] = here[first : last + 1]
        for s in range(step_count):
            frame_step, target_step = steps.frames[s], steps.targets[s]
            before = passing[(t - frame_step - target_step) % depth]
            low, high = max(first, frame_step), min(last, t - target_step)
            factors_and_costs(steps, s, item, t, low, high, factors, costs)
            for n in range(low, high + 1):
                used = here[n] * probabilities[s, position + n - first]
                before[n - frame_step] += used
                weights[n] += used * factors[n]
                started[n] -= used
            if keep_statistics:
                for n in range(low, high + 1):
                    probability = np.float64(probabilities[s, position + n - first])
                    if probability != 0:
                        path_cost += here[n] * probability * costs[n]
                        entropy += here[n] * information(probability)
        while start >= starts.offsets[item] and starts.frames[start] + starts.targets[start] == t:
            n = starts.frames[start]
            weights[n] += started[n] * starts.weights[start]
            path_cost += started[n] * starts.costs[start]
            if here[n] != 0:
                entropy += here[n] * information(started[n] / here[n])
            start -= 1
        for n in range(first, last + 1):
            gradient[n, t - n] = weights[n]
            path_cost += weights[n] * np.float64(cost[n, t - n])
            if keep_statistics:
                expected[n, t - n] = here[n]
        here[first : last + 1] = 0.0
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
def reachable(frames: int, targets: int, steps: StepArrays, starts: BoundaryArrays, ends: BoundaryArrays, item: int) -> bool:
    """Return whether any path leads from a start cell to an end cell, whatever single cells cost."""
    reached = np.zeros((frames, targets), np.bool_)
    for start in range(starts.offsets[item], starts.offsets[item + 1]):
        reached[starts.frames[start], starts.targets[start]] = True
    for n in range(frames):
        for m in range(targets):
            for s in range(len(steps.frames)):
                i, j = n - steps.frames[s], m - steps.targets[s]
                if i >= 0 and j >= 0 and steps.costs[s] < np.inf and reached[i, j]:
                    reached[n, m] = True
    reaches_end = False
    for end in range(ends.offsets[item], ends.offsets[item + 1]):
        reaches_end |= reached[ends.frames[end], ends.targets[end]]
    return reaches_end
