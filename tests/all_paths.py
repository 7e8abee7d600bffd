"""Alignment by going through all paths of a small matrix, one by one, in plain Python: the definition, and no recursion over cells.

Only for the operators that are not associative does the definition need the recursion: there a path weighs the product of the choices
along it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

Cell = tuple[int, int]


class Truth(NamedTuple):
    """What `softscribe.alignment.align` returns, of one item."""

    losses: float
    gradient: np.ndarray
    expected_alignment: np.ndarray
    expected_path_cost: float
    path_entropy: float


class Graph:
    """The cells of one item and what it costs to enter, to go on and to leave.

    Args:
        cost: of one item, without padding. Shape: (N, M)
        steps: (frames, targets, weight, cost) each, the last two numbers or arrays that broadcast to (N, M).
        starts: weight and cost of every start cell.
        ends: likewise.
    """

    def __init__(self, cost: np.ndarray, steps: Iterable[tuple], starts: dict[Cell, tuple], ends: dict[Cell, tuple]) -> None:
        self.cost, self.starts, self.ends = np.asarray(cost, dtype=float), starts, ends
        self.steps = [(f, t, np.broadcast_to(w, self.cost.shape), np.broadcast_to(c, self.cost.shape)) for f, t, w, c in steps]

    def arrivals(self, cell: Cell) -> Iterator[tuple[Cell | None, float, float]]:
        """Yield the cell before (None: the path starts), the weight and the added cost of every way into a cell."""
        for frames, targets, weights, costs in self.steps:
            before = cell[0] - frames, cell[1] - targets
            if min(before) >= 0 and math.isfinite(weights[cell]) and math.isfinite(costs[cell]):
                yield before, float(weights[cell]), float(costs[cell])
        if cell in self.starts:
            yield None, *self.starts[cell]

    def paths(self) -> Iterator[list[tuple[Cell, float, float]]]:
        """Yield every path as its cells, from start to end, each with its weight and added cost. The end's own come last."""
        for cell, (weight, cost) in self.ends.items():
            for path in self._paths_to(cell):
                yield [*path, (cell, weight, cost)]

    def _paths_to(self, cell: Cell) -> Iterator[list[tuple[Cell, float, float]]]:
        for before, weight, cost in self.arrivals(cell):
            for path in [[]] if before is None else self._paths_to(before):
                yield [*path, (cell, weight, cost)]

    def path_cost(self, path: list[tuple[Cell, float, float]]) -> float:
        return sum(weight * self.cost[cell] + cost for cell, weight, cost in path)

    def by_all_paths(self, gamma: float) -> Truth:
        """Softmin over the costs of all paths."""
        paths = list(self.paths())
        path_costs = np.array([self.path_cost(path) for path in paths])
        value, probabilities = minimum("soft", path_costs, gamma)
        return self._summed_up(value, paths, probabilities)

    def by_recursion(self, operator: str, gamma: float) -> Truth:
        """The recursion over cells, by any operator; a path's probability is the product of the choices along it."""
        choices: dict[Cell | None, tuple[float, np.ndarray]] = {}

        def accumulated(cell: Cell) -> float:
            if cell not in choices:
                ways = [(math.inf if b is None else accumulated(b), b, w, c) for b, w, c in self.arrivals(cell)]
                choices[cell] = minimum(
                    operator, np.array([(0.0 if b is None else d) + w * self.cost[cell] + c for d, b, w, c in ways]), gamma
                )
            return choices[cell][0]

        leaving = np.array([accumulated(cell) + weight * self.cost[cell] + cost for cell, (weight, cost) in self.ends.items()])
        value, shares = minimum(operator, leaving, gamma)

        def probable(cell: Cell, probability: float) -> Iterator[tuple[list[tuple[Cell, float, float]], float]]:
            for (before, weight, cost), share in zip(self.arrivals(cell), choices[cell][1], strict=True):
                if share:
                    for path, part in [([], probability)] if before is None else probable(before, probability):
                        yield [*path, (cell, weight, cost)], part * share

        paths, probabilities = [], []
        for (cell, (weight, cost)), share in zip(self.ends.items(), shares, strict=True):
            for path, probability in probable(cell, share) if share else []:
                paths.append([*path, (cell, weight, cost)])
                probabilities.append(probability)
        truth = self._summed_up(value, paths, np.array(probabilities))
        # Smoothmin's derivatives are no probabilities; but each choice is a mean, and so is what comes of them.
        return truth._replace(path_entropy=math.nan, expected_path_cost=value) if operator == "smooth" else truth

    def _summed_up(self, value: float, paths: list, probabilities: np.ndarray) -> Truth:
        path_costs = np.array([self.path_cost(path) for path in paths])
        gradient, expected = np.zeros_like(self.cost), np.zeros_like(self.cost)
        for path, probability in zip(paths, probabilities, strict=True):
            for cell, weight, _ in path:
                gradient[cell] += probability * weight
            for cell, _, _ in path[:-1]:
                expected[cell] += probability
        positive = probabilities[probabilities > 0]
        entropy = float(-(positive * np.log(positive)).sum())
        return Truth(value, gradient, expected, float(probabilities @ path_costs), entropy)


def minimum(operator: str, values: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    """Return an operator's value and gradient by its textbook formula."""
    if len(values) == 0 or np.isinf(values).all():
        return math.inf, np.zeros_like(values)
    return MINIMA[operator](values, gamma)


def _hard(values: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    return float(values.min()), np.eye(len(values))[values.argmin()]


def _soft(values: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    shares = np.exp((values.min() - values) / gamma)
    return float(values.min() - gamma * math.log(shares.sum())), shares / shares.sum()


def _smooth(values: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    finite = np.where(np.isinf(values), 0.0, values)
    _, softmax = _soft(values, gamma)
    value = float(softmax @ finite)
    return value, softmax * (1 - (finite - value) / gamma)


def _sparse(values: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    """The level that the shares max(0, level - x / gamma) fill up to 1, by bisection."""
    scaled = (values - values.min()) / gamma
    low, high = 0.0, 1.0
    for _ in range(80):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(0.0, level - scaled).sum() < 1 else (low, level)
    shares = np.maximum(0.0, low - scaled)
    finite = np.where(np.isinf(values), 0.0, values)
    return float(shares @ finite + gamma * (shares @ shares - 1) / 2), shares


MINIMA: dict[str, Callable[[np.ndarray, float], tuple[float, np.ndarray]]] = {
    "hard": _hard,
    "soft": _soft,
    "smooth": _smooth,
    "sparse": _sparse,
}
