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
from softscribe.alignment.cpu.operator_kernels import OPTIONS, information, weigh_all
from softscribe.alignment.cpu.step_kernels import factors_and_costs
from softscribe.alignment.steps import StepArrays


@njit(**OPTIONS)
def arrive(before: np.ndarray, scaled: np.ndarray, factors: np.ndarray, costs: np.ndarray, arrivals: np.ndarray) -> None:
    """Fill in what paths cost that arrive from the cells before by one step. Shape: all (cells,)"""
    for i in range(len(arrivals)):
        arrivals[i] = before[i] + (factors[i] * scaled[i] + costs[i])


@njit(**OPTIONS)
def add_to(totals: np.ndarray, probabilities: np.ndarray) -> None:
    for i in range(len(totals)):
        totals[i] += np.float64(probabilities[i])


@njit(**OPTIONS)
def part(here: np.ndarray, totals: np.ndarray) -> None:
    """Replace totals of probabilities by what these have to be multiplied with, to share out what passes here, no more and no less.

    Else what rounding to float32 adds to or takes from them adds up along a path, to more than 1e-5 within thousands of cells.
    """
    for i in range(len(here)):
        totals[i] = here[i] / totals[i] if totals[i] > 0 else 0.0


@njit(**OPTIONS)
def hand_back(shared: np.ndarray, probabilities: np.ndarray, factors: np.ndarray, before: np.ndarray, weights: np.ndarray) -> None:
    """Hand probabilities of passing back by one step to the cells before. Shape: all (cells,)"""
    for i in range(len(shared)):
        used = shared[i] * np.float64(probabilities[i])
        before[i] += used
        weights[i] += used * factors[i]


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
    start_probabilities: np.ndarray,
    end_probabilities: np.ndarray,
) -> float:
    """Return an item's alignment cost in units of gamma, infinite if it has no path; fill the probabilities.

    Shape: cost (>= frames, >= targets); probabilities (S, frames x targets, one anti-diagonal after the other): that a path through the
    cell came by that step; start_probabilities (start cells of the item,): that it started there; end_probabilities
    (end cells of the item,)
    """
    step_count = len(steps.frames)
    depth = np.max(steps.frames + steps.targets) + 1
    accumulated = np.empty((depth, frames))  # D of the last anti-diagonals; only cells of the matrix are looked up
    arrivals = np.empty((step_count + 1, frames))  # by each step, and by starting here
    scaled, factors, costs = np.empty(frames), np.empty(frames), np.empty(frames)
    first_end = ends.offsets[item]
    end_values = np.empty((ends.offsets[item + 1] - first_end, 1))
    first_start = starts.offsets[item]
    start, end, position = first_start, first_end, 0
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
                factors_and_costs(steps, s, item, t, low, gamma, factors[: high - low], costs[: high - low])
                arrive(before, scaled[low - first :], factors, costs, arrivals[s, low - first : high - first])
        begin = start
        while start < starts.offsets[item + 1] and starts.frames[start] + starts.targets[start] == t:
            i = starts.frames[start] - first
            arrivals[step_count, i] = starts.weights[start] * scaled[i] + starts.costs[start] / gamma
            rows = step_count + 1
            start += 1
        here = accumulated[t % depth, first : first + cells]
        weigh_all(arrivals, rows, cells, operator, here)
        for k in range(begin, start):
            start_probabilities[k - first_start] = arrivals[step_count, starts.frames[k] - first]
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
    start_probabilities: np.ndarray,
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
    weights, shared = np.empty(frames), np.empty(frames)  # mean weight times E, E in units of the probabilities' total
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
        shared[:cells] = 0.0
        for s in range(step_count):
            add_to(shared[:cells], probabilities[s, position : position + cells])
        last_start = start
        while start >= starts.offsets[item] and starts.frames[start] + starts.targets[start] == t:
            shared[starts.frames[start] - first] += start_probabilities[start - starts.offsets[item]]
            start -= 1
        part(here, shared)
        for s in range(step_count):
            frame_step, target_step = steps.frames[s], steps.targets[s]
            low, high = max(first, frame_step), min(first + cells, t - target_step + 1)
            if low >= high:
                continue
            begin, stop = low - first, high - first
            before = passing[(t - frame_step - target_step) % depth, low - frame_step : high - frame_step]
            chosen = probabilities[s, position + begin : position + stop]
            factors_and_costs(steps, s, item, t, low, 1.0, factors[: high - low], costs[: high - low])
            hand_back(shared[begin:stop], chosen, factors, before, weights[begin:stop])
            if keep_statistics:
                for i in range(high - low):
                    probability = np.float64(chosen[i])
                    if probability != 0:
                        path_cost += here[begin + i] * probability * costs[i]
                        entropy += here[begin + i] * information(probability)
        for k in range(start + 1, last_start + 1):
            i, probability = starts.frames[k] - first, start_probabilities[k - starts.offsets[item]]
            started = shared[i] * probability
            weights[i] += started * starts.weights[k]
            path_cost += started * starts.costs[k]
            entropy += here[i] * information(probability)
        for i in range(cells):
            gradient[first + i, t - first - i] = weights[i]
        if keep_statistics:
            for i in range(cells):
                path_cost += weights[i] * np.float64(cost[first + i, t - first - i])
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
        start_probabilities = np.zeros(starts.offsets[b + 1] - starts.offsets[b])
        end_probabilities = np.empty(ends.offsets[b + 1] - ends.offsets[b])
        losses[b] = gamma * forward_item(
            cost[b],
            b,
            frames,
            targets,
            gamma,
            operator,
            steps,
            starts,
            ends,
            probabilities,
            keep_gradient,
            start_probabilities,
            end_probabilities,
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
                start_probabilities,
                end_probabilities,
                gradient[b],
                expected[b],
                keep_statistics,
            )
