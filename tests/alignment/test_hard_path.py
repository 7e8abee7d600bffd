"""The hard minimum and its path: classical DTW with backtracking, and the cheapest of all paths."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from drawn_problems import problems, random_costs
from softscribe.alignment import FIXED, TWO_ONE_STEPS, Step, StepWeights, Subsequence, align, hard_path


def backtracked(cost: np.ndarray) -> tuple[float, list[list[int]]]:
    """Classical DTW as in every textbook."""
    frames, targets = cost.shape
    total = np.full((frames + 1, targets + 1), np.inf)
    total[0, 0] = 0
    for n, m in itertools.product(range(frames), range(targets)):
        total[n + 1, m + 1] = cost[n, m] + min(total[n, m + 1], total[n + 1, m], total[n, m])
    n, m = frames - 1, targets - 1
    path = [[n, m]]
    while (n, m) != (0, 0):
        n, m = min([(n - 1, m), (n, m - 1), (n - 1, m - 1)], key=lambda cell: total[cell[0] + 1, cell[1] + 1])
        path.append([n, m])
    return float(total[-1, -1]), path[::-1]


@pytest.mark.parametrize("integers", [False, True])
def test_the_hard_minimum_is_classical_dtw(integers):
    """With integers there are ties: the first step counts."""
    for seed in range(12):
        cost = random_costs(3, 13, 9, seed=seed)
        cost = cost.round() if integers else cost
        counts = torch.tensor([13, 8, 1]), torch.tensor([9, 9, 5])
        found, paths = align(cost, *counts, operator="hard"), hard_path(cost, *counts)
        for item, (frames, targets) in enumerate(zip(*(axis.tolist() for axis in counts), strict=True)):
            value, path = backtracked(cost[item, :frames, :targets].numpy())
            assert found.losses[item].item() == pytest.approx(value, abs=1e-12)
            assert found.expected_path_cost[item].item() == pytest.approx(value, abs=1e-12)
            assert found.path_entropy[item].item() == 0
            assert paths[item].tolist() == path
            assert paths[item].dtype == torch.int64
            passed = torch.zeros(13, 9, dtype=torch.float64)
            passed[tuple(paths[item].T)] = 1
            assert torch.equal(found.expected_alignment[item], passed)
            assert torch.equal(found.gradient[item], passed)


@settings(deadline=None, max_examples=40)
@given(problems(operators=("hard",), infinities=False))
def test_the_hard_path_is_a_path_and_the_cheapest(problem):
    graphs = [problem.graph(item) for item in range(len(problem.cost))]
    paths_of_items = [list(graph.paths()) for graph in graphs]
    if not all(paths_of_items):
        return
    options = {name: value for name, value in problem.options.items() if name not in ("operator", "gamma")}
    found = hard_path(*problem.arguments, **options)
    for graph, paths, cells in zip(graphs, paths_of_items, found, strict=True):
        as_listed = [tuple(cell) for cell in cells.tolist()]
        cheapest = min(map(graph.path_cost, paths))
        same_cells = [graph.path_cost(path) for path in paths if [cell for cell, _, _ in path[:-1]] == as_listed]
        assert min(same_cells) == pytest.approx(cheapest, abs=1e-9)


PATH_STEPS = {
    "2-1": TWO_ONE_STEPS,
    "classical": StepWeights().steps(),
    "skipping targets within a frame": (Step(0, 1), Step(0, 2), Step(1, 0)),
    "skipping frames within a target": (Step(2, 0), Step(0, 1), Step(1, 0)),
}


@pytest.mark.parametrize("steps", PATH_STEPS.values(), ids=PATH_STEPS)
@pytest.mark.parametrize("boundaries", [FIXED, Subsequence(frames="both", targets="both", compensated=False)])
def test_the_cells_of_a_hard_path_come_in_its_order(steps, boundaries):
    counts = torch.tensor([12, 9, 1, 7]), torch.tensor([9, 9, 1, 11])
    for seed in range(5):
        cost = random_costs(4, 12, 11, seed=seed)
        for cells, last in zip(hard_path(cost, *counts, steps=steps, boundaries=boundaries), zip(*counts, strict=True), strict=True):
            assert {tuple(step) for step in cells.diff(dim=0).tolist()} <= {(step.frames, step.targets) for step in steps}
            if boundaries == FIXED:
                assert cells[0].tolist() == [0, 0]
                assert (cells[-1] + 1).tolist() == list(last)
