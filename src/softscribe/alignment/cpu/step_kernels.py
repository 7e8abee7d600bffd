"""What steps cost at a cell, and whether they lead anywhere."""

import numpy as np
from numba import njit

from softscribe.alignment.cpu.operator_kernels import OPTIONS
from softscribe.alignment.layout import BoundaryArrays, StepArrays


@njit(**OPTIONS)
def cell_value(steps: StepArrays, row: int, item: int, n: int, m: int) -> float:
    """Return the value of a step's tensor at a cell."""
    return steps.cell_values[cell_index(steps.cell_strides[row], item, n, m)]


@njit(**OPTIONS)
def cell_index(strides: np.ndarray, item: int, n: int, m: int) -> int:
    """Return where among all tensors' values that of a cell stands."""
    return strides[0] + np.int64(item) * strides[1] + np.int64(n) * strides[2] + np.int64(m) * strides[3]


@njit(**OPTIONS)
def fill_factors_and_costs(
    steps: StepArrays, step: int, item: int, t: int, low: int, unit: float, factors: np.ndarray, costs: np.ndarray
) -> None:
    """Fill in what multiplies a cell's cost if a path arrives there by this step, and what is added: 0 and infinity where it is blocked.

    For as many frames of anti-diagonal t as the last two arguments have elements, from `low` on; what is added is measured in `unit`.
    """
    weight_row, cost_row = steps.weight_rows[step], steps.cost_rows[step]
    factors[:], costs[:] = steps.weights[step], steps.costs[step] / unit
    if cost_row >= 0:
        strides = steps.cell_strides[cost_row]
        first, advance = cell_index(strides, item, low, t - low), strides[2] - strides[3]
        for i in range(len(costs)):
            costs[i] = steps.cell_values[first + i * advance] / unit
    if weight_row >= 0:
        strides = steps.cell_strides[weight_row]
        first, advance = cell_index(strides, item, low, t - low), strides[2] - strides[3]
        for i in range(len(factors)):
            weight = steps.cell_values[first + i * advance]
            is_blocked = weight == np.inf
            factors[i], costs[i] = 0.0 if is_blocked else weight, np.inf if is_blocked else costs[i]


@njit(**OPTIONS)
def reachable(item: int, frames: int, targets: int, steps: StepArrays, starts: BoundaryArrays, ends: BoundaryArrays) -> bool:
    """Return whether any path leads from a start cell to an end cell of an item, whatever its cells cost."""
    reached = np.zeros((frames, targets), np.bool_)
    for start in range(starts.begins[item], starts.stops[item]):
        reached[starts.frames[start], starts.targets[start]] = True
    for n in range(frames):
        for m in range(targets):
            for s in range(len(steps.frames)):
                i, j = n - steps.frames[s], m - steps.targets[s]
                if i >= 0 and j >= 0 and reached[i, j] and steps.costs[s] < np.inf:
                    weight_row, cost_row = steps.weight_rows[s], steps.cost_rows[s]
                    is_open = weight_row < 0 or cell_value(steps, weight_row, item, n, m) < np.inf
                    reached[n, m] |= is_open and (cost_row < 0 or cell_value(steps, cost_row, item, n, m) < np.inf)
    reaches_end = False
    for end in range(ends.begins[item], ends.stops[item]):
        reaches_end |= reached[ends.frames[end], ends.targets[end]]
    return reaches_end
