"""How the CPU's common kernel arrives at the cells of an anti-diagonal: by which steps, at what cost, with what probability.

The loops over cells are small functions of whole arrays: of an index that starts at 0 the compiler knows that it is not negative, and so
uses vector registers.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from softscribe.alignment.cpu.operator_kernels import OPTIONS, invert, scale, weigh_all
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
    """Anti-diagonals that the longest step reaches back, and one more."""


class Kept(NamedTuple):
    """What is kept of the way forward, one anti-diagonal after the other: one of the first two, or, without a gradient, neither.

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
def lines_of(item: Item) -> Lines:
    steps, frames = item.steps, item.frames
    count = len(steps.frames)
    lines = Lines(np.empty(frames), np.empty((count, frames)), np.empty((count, frames)), np.empty((count + 1, frames)))
    for s in range(count):
        lines.factors[s], lines.costs[s] = steps.weights[s], steps.costs[s] / item.gamma
    return lines


@njit(**OPTIONS)
def first_and_count(item: Item, t: int) -> tuple[int, int]:
    """Return the first frame of an anti-diagonal, and how many cells it has."""
    first = max(0, t - item.targets + 1)
    return first, min(item.frames - 1, t) + 1 - first


@njit(**OPTIONS)
def place(item: Item, t: int) -> int:
    """Return where an anti-diagonal's frame 0 stands, or would stand, in an array of all cells."""
    above, right, both = max(t - item.frames, 0), max(t - item.targets, 0), max(t - item.frames - item.targets, 0)
    cells_before = (t * (t + 1) - above * (above + 1) - right * (right + 1) + both * (both + 1)) // 2
    return cells_before - max(0, t - item.targets + 1)


@njit(**OPTIONS)
def accumulated_place(item: Item, kept: Kept, t: int) -> int:
    return place(item, t) if kept.all_accumulated else (t % item.depth) * item.frames


@njit(**OPTIONS)
def destinations(item: Item, s: int, t: int) -> tuple[int, int]:
    """Return the first frame of an anti-diagonal at which a step can arrive, and the one after the last."""
    first, cells = first_and_count(item, t)
    return max(first, item.steps.frames[s]), min(first + cells, t - item.steps.targets[s] + 1)


@njit(**OPTIONS)
def fill_steps(item: Item, t: int, lines: Lines) -> None:
    """Fill in what steps cost at anti-diagonal t that do not cost the same everywhere."""
    for s in range(len(item.steps.frames)):
        low, high = destinations(item, s, t)
        if low < high and (item.steps.weight_rows[s] >= 0 or item.steps.cost_rows[s] >= 0):
            factors, costs = lines.factors[s, : high - low], lines.costs[s, : high - low]
            fill_factors_and_costs(item.steps, s, item.batch_index, t, low, item.gamma, factors, costs)


@njit(**OPTIONS)
def arrive(before: np.ndarray, scaled: np.ndarray, factors: np.ndarray, costs: np.ndarray, arrivals: np.ndarray) -> None:
    """Fill in what paths cost that arrive from the cells before by one step. Shape: all (cells,)"""
    for i in range(len(arrivals)):
        arrivals[i] = before[i] + (factors[i] * scaled[i] + costs[i])


@njit(**OPTIONS)
def weigh_arrivals(item: Item, t: int, start: int, stop_start: int, kept: Kept, lines: Lines, here: np.ndarray) -> None:
    """Put the probabilities of all arrivals at anti-diagonal t, which has these start cells, into `lines`, and D into `here`."""
    steps, starts = item.steps, item.starts
    first, cells = first_and_count(item, t)
    for i in range(cells):
        lines.scaled[i] = np.float64(item.cost[first + i, t - first - i]) / item.gamma
    rows = len(steps.frames)
    for s in range(rows):
        low, high = destinations(item, s, t)
        if low >= high:
            lines.arrivals[s, :cells] = np.inf
            continue
        lines.arrivals[s, : low - first], lines.arrivals[s, high - first : cells] = np.inf, np.inf
        begin = accumulated_place(item, kept, t - steps.frames[s] - steps.targets[s]) + low - steps.frames[s]
        before, arrivals = kept.accumulated[begin : begin + high - low], lines.arrivals[s, low - first : high - first]
        arrive(before, lines.scaled[low - first :], lines.factors[s], lines.costs[s], arrivals)
    if start < stop_start:
        lines.arrivals[rows, :cells] = np.inf
        for k in range(start, stop_start):
            i = starts.frames[k] - first
            lines.arrivals[rows, i] = starts.weights[k] * lines.scaled[i] + starts.costs[k] / item.gamma
        rows += 1
    weigh_all(lines.arrivals, rows, cells, item.operator, here)


@njit(**OPTIONS)
def add_to(totals: np.ndarray, values: np.ndarray) -> None:
    for i in range(len(totals)):
        totals[i] += values[i]


@njit(**OPTIONS)
def recall(item: Item, t: int, start: int, stop_start: int, kept: Kept, lines: Lines, totals: np.ndarray) -> None:
    """Put the kept probabilities of all arrivals at anti-diagonal t, which has these start cells, into `lines`; they sum to 1 again.

    Else what rounding to float32 adds to or takes from them adds up along a path, to more than 1e-5 within thousands of cells.
    """
    first, cells = first_and_count(item, t)
    begin = place(item, t) + first
    totals[:] = 0.0
    rows = len(item.steps.frames)
    for s in range(rows):
        lines.arrivals[s, :cells] = kept.probabilities[s, begin : begin + cells]
        add_to(totals, lines.arrivals[s])
    lines.arrivals[rows, :cells] = 0.0
    for k in range(start, stop_start):
        i, probability = item.starts.frames[k] - first, kept.start_probabilities[k - item.starts.begins[item.batch_index]]
        lines.arrivals[rows, i] = probability
        totals[i] += probability
    invert(totals)
    for s in range(rows + 1):
        scale(lines.arrivals[s, :cells], totals)
