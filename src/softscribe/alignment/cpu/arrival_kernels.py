"""How the CPU's common kernel arrives at the cells of an anti-diagonal: by which steps, at what cost, with what probability.

The loops over cells are small functions of whole arrays: of an index that starts at 0 the compiler knows that it is not negative, and so
uses vector registers.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from softscribe.alignment import anti_diagonal_kernels
from softscribe.alignment.cpu.operator_kernels import OPTIONS, invert, scale
from softscribe.alignment.cpu.step_kernels import fill_factors_and_costs
from softscribe.alignment.layout import BoundaryArrays, StepArrays


class Item(NamedTuple):
    """An alignment problem of one item. Shape: cost (>= frames, >= targets)"""

    batch_index: int
    cost: np.ndarray
    frames: int
    targets: int
    gamma: float
    operator: int
    steps: StepArrays
    starts: BoundaryArrays
    ends: BoundaryArrays
    depth: int
    """Anti-diagonals that the longest step reaches back that fits, and one more."""


class Kept(NamedTuple):
    """What is kept of the way forward, one anti-diagonal after the other: for a gradient either all of D or the probabilities.

    Shape: accumulated (cells,), else of the last `depth` anti-diagonals; probabilities (S, cells), else (S, 0); start_probabilities (start
    cells of the item,); end_probabilities (end cells of the item,)
    """

    accumulated: np.ndarray
    """D."""
    all_accumulated: bool
    """Whether of all cells."""
    probabilities: np.ndarray
    """That a path through the cell came by that step."""
    start_probabilities: np.ndarray
    """That it started there."""
    end_probabilities: np.ndarray


class Lines(NamedTuple):
    """What is known of the cells of one anti-diagonal. Shape: scaled (N,); factors, costs (S, N); arrivals (S + 1, N)"""

    scaled: np.ndarray
    """Costs in units of gamma."""
    factors: np.ndarray
    """Of a step, by which it multiplies them, from the first frame on that it can arrive at."""
    costs: np.ndarray
    """Of a step, what it adds, in units of gamma, likewise."""
    arrivals: np.ndarray
    """What paths cost that arrive by a step, or start there, in units of gamma; later the probabilities of that."""


@njit(**OPTIONS)
def lines_of(steps: StepArrays, frames: int, gamma: float) -> Lines:
    """Return room for an anti-diagonal, with the weights and costs of steps that are the same everywhere."""
    count = len(steps.frames)
    lines = Lines(np.empty(frames), np.empty((count, frames)), np.empty((count, frames)), np.empty((count + 1, frames)))
    for s in range(count):
        lines.factors[s], lines.costs[s] = steps.weights[s], steps.costs[s] / gamma
    return lines


@njit(**OPTIONS)
def first_and_count(t: int, frames: int, targets: int) -> tuple[int, int]:
    """Return the first frame of an anti-diagonal, and how many cells it has."""
    first = max(0, t - targets + 1)
    return first, min(frames - 1, t) + 1 - first


place = njit(**OPTIONS)(anti_diagonal_kernels.place)


@njit(**OPTIONS)
def destinations(t: int, frames: int, targets: int, frame_step: int, target_step: int) -> tuple[int, int]:
    """Return the first frame of an anti-diagonal at which a step can arrive, and the one after the last."""
    return max(0, t - targets + 1, frame_step), min(frames, t + 1, t - target_step + 1)


@njit(**OPTIONS)
def fill_steps(item: Item, t: int, lines: Lines) -> None:
    """Fill in what steps cost at anti-diagonal t that do not cost the same everywhere."""
    for s in range(len(item.steps.frames)):
        low, high = destinations(t, item.frames, item.targets, item.steps.frames[s], item.steps.targets[s])
        if low < high and (item.steps.weight_rows[s] >= 0 or item.steps.cost_rows[s] >= 0):
            factors, costs = lines.factors[s, : high - low], lines.costs[s, : high - low]
            fill_factors_and_costs(item.steps, s, item.batch_index, t, low, item.gamma, factors, costs)


@njit(**OPTIONS)
def arrive(before: np.ndarray, scaled: np.ndarray, factors: np.ndarray, costs: np.ndarray, arrivals: np.ndarray) -> None:
    """Fill in what paths cost that arrive from the cells before by one step. Shape: all (cells,)"""
    for i in range(len(arrivals)):
        arrivals[i] = before[i] + (factors[i] * scaled[i] + costs[i])


@njit(**OPTIONS)
def fill_arrivals(item: Item, t: int, starts_begin: int, starts_stop: int, kept: Kept, lines: Lines) -> int:
    """Put what all ways to arrive at anti-diagonal t cost, which has these start cells, into `lines`; return how many rows of it count."""
    steps, starts = item.steps, item.starts
    first, cells = first_and_count(t, item.frames, item.targets)
    for i in range(cells):
        lines.scaled[i] = np.float64(item.cost[first + i, t - first - i]) / item.gamma
    rows = len(steps.frames)
    for s in range(rows):
        low, high = destinations(t, item.frames, item.targets, item.steps.frames[s], item.steps.targets[s])
        if low >= high:
            lines.arrivals[s, :cells] = np.inf
            continue
        lines.arrivals[s, : low - first], lines.arrivals[s, high - first : cells] = np.inf, np.inf
        place_before = place(t - steps.frames[s] - steps.targets[s], item.frames, item.targets, item.depth, kept.all_accumulated)
        begin = place_before + low - steps.frames[s]
        before, arrivals = kept.accumulated[begin : begin + high - low], lines.arrivals[s, low - first : high - first]
        arrive(before, lines.scaled[low - first :], lines.factors[s], lines.costs[s], arrivals)
    if starts_begin < starts_stop:
        lines.arrivals[rows, :cells] = np.inf
        for k in range(starts_begin, starts_stop):
            i = starts.frames[k] - first
            lines.arrivals[rows, i] = starts.weights[k] * lines.scaled[i] + starts.costs[k] / item.gamma
        rows += 1
    return rows


@njit(**OPTIONS)
def add_to(totals: np.ndarray, values: np.ndarray) -> None:
    """Add `values` to `totals`. Shape: totals (cells,); values (>= cells,)"""
    for i in range(len(totals)):
        totals[i] += values[i]


@njit(**OPTIONS)
def recall(item: Item, t: int, starts_begin: int, starts_stop: int, kept: Kept, lines: Lines, totals: np.ndarray) -> None:
    """Put the kept probabilities of all arrivals at anti-diagonal t, which has these start cells, into `lines`; they sum to 1 again.

    Else what rounding to float32 adds to or takes from them adds up along a path, to more than 1e-5 within thousands of cells.
    """
    first, cells = first_and_count(t, item.frames, item.targets)
    begin = place(t, item.frames, item.targets, item.depth, True) + first
    totals[:] = 0.0
    rows = len(item.steps.frames)
    for s in range(rows):
        lines.arrivals[s, :cells] = kept.probabilities[s, begin : begin + cells]
        add_to(totals, lines.arrivals[s])
    lines.arrivals[rows, :cells] = 0.0
    for k in range(starts_begin, starts_stop):
        i, probability = item.starts.frames[k] - first, kept.start_probabilities[k - item.starts.begins[item.batch_index]]
        lines.arrivals[rows, i] = probability
        totals[i] += probability
    invert(totals)
    for s in range(rows + 1):
        scale(lines.arrivals[s, :cells], totals)
