"""Steps, boundaries and operators of every kind against all paths of small matrices."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from all_paths import Truth
from drawn_problems import BOUNDARIES, STEP_SETS, DrawnProblem, fits, per_cell, problems, random_costs
from softscribe.alignment import FIXED, Alignment, BoundaryCell, BoundaryCells, Step, StepWeights, Subsequence, align, soft_dtw
from softscribe.alignment.cpu import step_kernels
from softscribe.alignment.layout import lay_out
from softscribe.alignment.problem import Problem

WEIGHTED_STEPS = (Step(1, 0, 0.5), Step(0, 1, 0.8, 0.1), Step(1, 1, 1.7))


def assert_item(found: Alignment, item: int, truth: Truth, size: tuple[int, int], one_path: bool = True) -> None:
    """Compare one item of a result, and look for anything but zero in its padding."""
    frames, targets = size
    assert found.losses[item].item() == pytest.approx(truth.losses, abs=1e-9)
    assert found.expected_path_cost[item].item() == pytest.approx(truth.expected_path_cost, abs=1e-8)
    assert found.path_entropy[item].item() == pytest.approx(truth.path_entropy, abs=1e-8, nan_ok=True)
    for matrix, wanted in ((found.gradient, truth.gradient), (found.expected_alignment, truth.expected_alignment)):
        assert (matrix[item, frames:] == 0).all()
        assert (matrix[item, :, targets:] == 0).all()
        if one_path:
            np.testing.assert_allclose(matrix[item, :frames, :targets].numpy(), wanted, atol=1e-9)


def assert_problem(problem: DrawnProblem) -> None:
    graphs = [problem.graph(item) for item in range(len(problem.cost))]
    without_path = [item for item, graph in enumerate(graphs) if next(graph.paths(), None) is None]
    if without_path:
        with pytest.raises(ValueError, match=rf"item ({'|'.join(map(str, without_path))})\b.*has no path.*Remedy"):
            align(*problem.arguments, **problem.options)
        return
    found = align(*problem.arguments, **problem.options)
    for item, (graph, size) in enumerate(zip(graphs, problem.sizes(), strict=True)):
        truth = graph.by_all_paths(problem.gamma) if problem.operator == "soft" else graph.by_recursion(problem.operator, problem.gamma)
        # Of equally cheap paths the hard minimum takes one or the other, by the last bit.
        one_path = problem.operator != "hard" or (np.diff(sorted(map(graph.path_cost, graph.paths()))[:2]) > 1e-9).all()
        assert_item(found, item, truth, size, one_path)


@settings(deadline=None, max_examples=60)
@given(problems())
def test_any_problem_is_what_its_paths_make_it(problem):
    assert_problem(problem)


@pytest.mark.parametrize("name", BOUNDARIES)
@pytest.mark.parametrize("operator", ["soft", "sparse"])
def test_every_boundary(name, operator):
    counts = torch.tensor([4, 2, 1, 3]), torch.tensor([3, 3, 1, 1])
    cost = random_costs(4, 4, 3, seed=5)
    assert_problem(DrawnProblem(cost, *counts, WEIGHTED_STEPS, BOUNDARIES[name], operator, 0.7))


@pytest.mark.parametrize("name", STEP_SETS)
@pytest.mark.parametrize("boundaries", ["fixed", "both of frames, both of targets, plain", "cells"])
def test_every_set_of_steps(name, boundaries):
    steps = tuple(Step(*advance, 0.3 + 0.4 * place, 0.2 * place) for place, advance in enumerate(STEP_SETS[name]))
    counts = torch.tensor([5, 4, 3]), torch.tensor([4, 4, 3])
    assert_problem(DrawnProblem(random_costs(3, 5, 4, seed=6), *counts, steps, BOUNDARIES[boundaries], "soft", 0.7))


SHAPES = [(), (1,), (3,), (1, 1), (4, 1), (1, 3), (4, 3), *itertools.product((1, 2), (1, 4), (1, 3))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_and_costs_of_cells_in_every_shape_that_broadcasts(shape, dtype):
    weight, cost = per_cell(shape, 0, 2, seed=1).to(dtype), per_cell(shape, -1, 1, seed=2, blocked=0.1 * (len(shape) > 1)).to(dtype)
    steps = (Step(1, 0, weight), Step(0, 1, 1.0), Step(1, 1, 0.5, cost), Step(2, 1, weight, cost))
    assert_problem(DrawnProblem(random_costs(2, 4, 3), torch.tensor([4, 3]), torch.tensor([3, 2]), steps, BOUNDARIES["fixed"], "soft", 0.7))


def test_cells_that_are_skipped_cost_nothing_and_are_not_passed():
    cost = torch.tensor([[[1.0], [100.0], [2.0]]])
    found = align(cost, steps=(Step(2, 0, 3.0, 0.5),))
    assert found.losses.item() == pytest.approx(1 + 3 * 2 + 0.5)
    assert found.gradient[0, :, 0].tolist() == [1, 0, 3]
    assert found.expected_alignment[0, :, 0].tolist() == [1, 0, 1]


def test_a_step_that_is_listed_twice_is_two_ways_to_go():
    cost = torch.zeros(1, 2, 1)
    assert soft_dtw(cost, steps=(Step(1, 0), Step(1, 0))).item() == pytest.approx(-math.log(2))
    assert soft_dtw(cost, steps=(Step(1, 0, cost=math.log(4)), Step(1, 0, cost=math.log(4 / 3)))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["number", "tensor", "cost", "cost tensor"])
@pytest.mark.parametrize("fill", [0.0, -1e6])
def test_a_blocked_step_is_no_step(kind, fill):
    infinite = torch.full((3,), math.inf) if "tensor" in kind else math.inf
    blocked = Step(1, 1, 1.0, infinite) if "cost" in kind else Step(1, 1, infinite)
    cost = torch.full((1, 4, 3), fill, dtype=torch.float64)
    for operator in ("soft", "hard", "sparse", "smooth"):
        found = align(cost, steps=(Step(1, 0), Step(0, 1), blocked), operator=operator)
        wanted = align(cost, steps=(Step(1, 0), Step(0, 1)), operator=operator)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, equal_nan=True)


def test_named_weights_are_shorthand():
    cost = random_costs(2, 6, 5)
    weights = StepWeights(horizontal=0.3, vertical=0.8, diagonal=math.inf)
    for one, other in zip(align(cost, weights=weights), align(cost, steps=weights.steps()), strict=True):
        torch.testing.assert_close(one, other)


def numbers_everywhere(number) -> list[dict]:
    """Options with a number in every place that takes one."""
    steps = (Step(1, 0, number(0.5), number(-1.5)), Step(0, 1, number(2)), Step(1, 1, number(1), number(3)))
    start = (BoundaryCell(0, 0, weight=number(1.5), cost=number(-2.5)), BoundaryCell(0, 1, number(1)))
    return [
        {"steps": steps},
        {"steps": steps, "boundaries": Subsequence(frames="both", targets="both")},
        {"steps": steps, "boundaries": BoundaryCells(start=start, end=(BoundaryCell(-1, -1, number(0), number(1.5)),))},
        {"weights": StepWeights(horizontal=number(0.5), vertical=number(1), diagonal=number(2))},
        {"gamma": number(1.5)},
    ]


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.longdouble])
def test_numbers_of_numpy_are_numbers(number, dtype):
    def rounded(value: float) -> float:
        return float(number(max(value, 0) if number is np.uint8 else value))

    one = number(1)
    for kept in (Step(1, 0, one, one), StepWeights(horizontal=one, vertical=one, diagonal=one), BoundaryCell(0, 0, one, one)):
        assert all(isinstance(value, int | float) for value in vars(kept).values())
    cost = random_costs(2, 6, 5).to(dtype)
    given = numbers_everywhere(lambda value: number(rounded(value)))
    for ours, theirs in zip(given, numbers_everywhere(rounded), strict=True):
        assert torch.equal(soft_dtw(cost, **ours), soft_dtw(cost, **theirs))
        for one, other in zip(align(cost, **ours), align(cost, **theirs), strict=True):
            assert torch.equal(one, other)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("number", [np.float16, np.float32, np.float64])
def test_infinities_of_numpy_block(number):
    infinity = number(math.inf)
    cost = torch.zeros(1, 4, 3)
    wanted = soft_dtw(cost, weights=StepWeights(diagonal=math.inf))
    assert torch.equal(soft_dtw(cost, weights=StepWeights(diagonal=infinity)), wanted)
    for blocked in (Step(1, 1, infinity), Step(1, 1, 1, infinity)):
        assert blocked.is_blocked
        torch.testing.assert_close(soft_dtw(cost, steps=(Step(1, 0), Step(0, 1), blocked)), wanted)


WITHOUT_PATH = {
    "backwards": BoundaryCells(start=(BoundaryCell(1, 0, weight=1),), end=(BoundaryCell(0, -1, weight=0),)),
    "outside": BoundaryCells(start=(BoundaryCell(3, 0, weight=1),)),
}
AT_FIRST_FRAME = torch.tensor([math.inf, 1, 1, 1])[:, None]
CLOSED = [(math.inf, 0.0), (0.0, math.inf), *((value, 0.0) for value in (AT_FIRST_FRAME, AT_FIRST_FRAME.T)), (1.0, AT_FIRST_FRAME)]


@pytest.mark.parametrize("boundaries", [*BOUNDARIES.values(), *WITHOUT_PATH.values()], ids=[*BOUNDARIES, *WITHOUT_PATH])
@pytest.mark.parametrize("name", STEP_SETS)
def test_problems_that_always_have_a_path_have_one_at_every_size(name, boundaries):
    plain = tuple(Step(*advance) for advance in STEP_SETS[name])
    keeping = {(1, 0), (0, 1)} & set(STEP_SETS[name])
    variants = [plain]
    for advance, terms in itertools.product(keeping, CLOSED):
        variants.append(tuple(Step(*advance, *terms) if (step.frames, step.targets) == advance else step for step in plain))
    sizes = [(1, 1), (1, 4), (4, 1), (2, 3), (4, 4)]
    for steps in variants:
        problem = Problem(steps=steps, boundaries=boundaries)
        if fits(steps, boundaries) and problem.always_has_path:
            arrays = lay_out(problem, (len(sizes), 4, 4), *torch.tensor(sizes).T).converted(torch.Tensor.numpy)
            assert all(step_kernels.reachable(item, *size, *arrays) for item, size in enumerate(sizes))
    fixed_or_part = boundaries == FIXED or isinstance(boundaries, Subsequence)
    assert Problem(steps=plain, boundaries=boundaries).always_has_path == (len(keeping) == 2 and fixed_or_part)
