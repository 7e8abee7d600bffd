"""The CPU's soft-DTW: one item after another in each thread, the items of a batch in parallel.

Everything is computed in float64 in the log domain and in units of gamma, whatever the type of the cost. Only the probabilities of the
steps into each cell are kept, two of three, in the type of the cost (8 bytes per cell in float32, for the items in progress alone), so
that the way back needs neither costs nor exponentials. The rows of a matrix are frames, its columns targets.
"""

import math

import numpy as np
from numba import njit, prange

NEGLIGIBLE_EXCESS = 80.0  # exp(-80) = 2e-35, beside 1 nothing in float64, and yet not denormal (that is: slow) in float32


@njit(cache=True, nogil=True, error_model="numpy")
def decay(excess: float) -> float:
    """Return exp(-excess), 0 where that is negligible beside 1."""
    return math.exp(-excess) if excess < NEGLIGIBLE_EXCESS else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def forward_item(
    cost: np.ndarray, gamma: float, weights: np.ndarray, step_costs: np.ndarray, probabilities: np.ndarray, keep_probabilities: bool
) -> float:
    """Return an item's soft-DTW in units of gamma, infinite if it has no admissible path, and fill `probabilities` if wanted.

    Shape: cost (frames, targets); weights and step_costs (3,): horizontal, vertical, diagonal;
    probabilities (frames, targets, 2): that the cell is entered horizontally, vertically; the rest is the diagonal's
    """
    frames, targets = cost.shape
    horizontal_weight, vertical_weight, diagonal_weight = weights / gamma
    horizontal_cost, vertical_cost, diagonal_cost = step_costs / gamma
    # Accumulated costs along the anti-diagonals n + m = t - 2, t - 1 and t: at n + 1 stands the cell of frame n, infinity where none is.
    # The cells of an anti-diagonal do not depend on each other, so that the processor works on several at once.
    before_last, last, here = np.full(frames + 1, np.inf), np.full(frames + 1, np.inf), np.full(frames + 1, np.inf)
    for t in range(frames + targets - 1):
        first = max(0, t - targets + 1)
        for n in range(first, min(frames, t + 1)):
            c = np.float64(cost[n, t - n])
            horizontal = last[n] + (horizontal_weight * c + horizontal_cost)
            vertical = last[n + 1] + (vertical_weight * c + vertical_cost)
            diagonal = before_last[n] + (diagonal_weight * c + diagonal_cost)
            lowest = min(horizontal, vertical, diagonal)
            into_horizontal = into_vertical = 0.0
            if t == 0:
                here[1] = c / gamma
            elif lowest == np.inf:  # no path reaches this cell
                here[n + 1] = np.inf
            else:
                into_horizontal = decay(horizontal - lowest)
                into_vertical = decay(vertical - lowest)
                total = into_horizontal + into_vertical + decay(diagonal - lowest)
                here[n + 1] = lowest - math.log(total)
                into_horizontal /= total
                into_vertical /= total
            if keep_probabilities:
                probabilities[n, t - n, 0] = into_horizontal
                probabilities[n, t - n, 1] = into_vertical
        before_last, last, here = last, here, before_last
    return float(last[frames])


@njit(cache=True, nogil=True, error_model="numpy")
def information(probability: float) -> float:
    """Return -p ln p, in nats."""
    return -probability * math.log(probability) if probability > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def backward_item(
    probabilities: np.ndarray,
    weights: np.ndarray,
    step_costs: np.ndarray,
    gradient: np.ndarray,
    expected: np.ndarray,
    keep_statistics: bool,
) -> float:
    """Fill `gradient` (H) and, if statistics are wanted, `expected` (E), and return the path entropy in nats (0 if not wanted).

    Read backwards a path is a Markov chain: from a cell it goes on to the three cells before with the probabilities of the way
    forward. So E flows from the end to the start, and the path entropy is the sum over all cells of E times the entropy of the
    cell's own step.

    Shape: probabilities (frames, targets, 2) of `forward_item`; gradient (>= frames, >= targets); expected likewise if it is wanted
    """
    frames, targets = probabilities.shape[:2]
    diagonal_open = 0.0 if step_costs[2] == np.inf else 1.0
    entropy = 0.0
    here = np.zeros(targets + 1)  # probabilities of passing the cells of a frame; element 0 stands left of the first target
    before = np.zeros(targets + 1)
    here[targets] = 1.0
    for n in range(frames - 1, -1, -1):
        before[:] = 0.0
        for m in range(targets - 1, -1, -1):
            passing = here[m + 1]
            if passing == 0.0:
                continue
            if n == 0 and m == 0:
                gradient[0, 0] = passing
            else:
                horizontal, vertical = np.float64(probabilities[n, m, 0]), np.float64(probabilities[n, m, 1])
                diagonal = max(0.0, 1.0 - horizontal - vertical) * diagonal_open
                before[m + 1] += passing * horizontal
                here[m] += passing * vertical
                before[m] += passing * diagonal
                gradient[n, m] = passing * (weights[0] * horizontal + weights[1] * vertical + weights[2] * diagonal)
                if keep_statistics:
                    entropy += passing * (information(horizontal) + information(vertical) + information(diagonal))
            if keep_statistics:
                expected[n, m] = passing
        before, here = here, before
    return entropy


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def align_batch(
    cost: np.ndarray,
    frame_counts: np.ndarray,
    target_counts: np.ndarray,
    gamma: float,
    weights: np.ndarray,
    step_costs: np.ndarray,
    losses: np.ndarray,
    gradient: np.ndarray,
    expected: np.ndarray,
    entropies: np.ndarray,
) -> None:
    """Fill the last four arguments with soft-DTW, its gradient H, the expected alignment E and the path entropy in nats.

    A `gradient` without cells is not wanted, nor are then the two after it; an `expected` without cells is not wanted, nor is
    then `entropies`. Only cells with a probability above 0 are written: hand over zeros.

    Shape: cost, gradient, expected (B, N, M) float32 or float64; frame_counts, target_counts (B,) int64; weights, step_costs (3,) float64:
    horizontal, vertical, diagonal, where the arrival cell's cost is multiplied by the finite weight and the step cost, infinite
    for a blocked step, is added; losses, entropies (B,) float64
    """
    keep_gradient, keep_statistics = gradient.size > 0, expected.size > 0
    for b in prange(len(cost)):
        frames, targets = frame_counts[b], target_counts[b]
        kept_frames = frames if keep_gradient else 0
        probabilities = np.empty((kept_frames, targets, 2), cost.dtype)
        losses[b] = gamma * forward_item(cost[b, :frames, :targets], gamma, weights, step_costs, probabilities, keep_gradient)
        if keep_gradient and losses[b] < np.inf:
            entropies[b] = backward_item(probabilities, weights, step_costs, gradient[b], expected[b], keep_statistics)
