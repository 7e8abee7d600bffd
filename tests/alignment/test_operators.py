"""The minimum operators against textbook formulas and a numerical optimiser, their bounds and limits, and their recursion over cells."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import all_paths
from softscribe.alignment import align, minimum, soft_dtw

OPERATORS = ("soft", "hard", "sparse", "smooth")
MONOTONE = ("soft", "hard", "sparse")
number = st.floats(-50, 50, width=32)
lists = st.lists(number, min_size=1, max_size=7)
gammas = st.sampled_from([0.01, 0.5, 1.0, 7.0, 100.0])
operators = st.sampled_from(OPERATORS)
quick = settings(deadline=None, max_examples=100)


def value_and_gradient(values, operator: str, gamma: float) -> tuple[float, np.ndarray]:
    values = torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)
    value = minimum(values, operator, gamma)
    (gradient,) = torch.autograd.grad(value, values)
    return value.item(), gradient.numpy()


def distinct(values: list[float], gap: float = 1e-2) -> bool:
    return all(abs(a - b) > gap for a, b in itertools.combinations(values, 2))


@quick
@given(lists, operators, gammas)
def test_value_and_gradient_by_the_formulas(values, operator, gamma):
    value, gradient = value_and_gradient(values, operator, gamma)
    wanted_value, wanted_gradient = all_paths.minimum(operator, np.array(values), gamma)
    assert value == pytest.approx(wanted_value, abs=1e-10)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-3, 3), min_size=2, max_size=4), st.sampled_from(["soft", "sparse"]), st.sampled_from([0.3, 1.0, 4.0]))
def test_value_and_gradient_solve_the_regularised_minimum(values, operator, gamma):
    """min over probabilities q of <q, x> + gamma Omega(q), left to an optimiser that knows nothing of either operator."""
    costs = np.array(values)
    omega = {"soft": lambda q: float(np.sum(q * np.log(np.maximum(q, 1e-300)))), "sparse": lambda q: float(q @ q - 1) / 2}[operator]
    solution = minimize(
        lambda q: costs @ q + gamma * omega(q),
        np.full(len(costs), 1 / len(costs)),
        method="SLSQP",
        bounds=[(0, 1)] * len(costs),
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    value, gradient = value_and_gradient(values, operator, gamma)
    assert value == pytest.approx(solution.fun, abs=1e-5)
    assert value <= solution.fun + 1e-9
    np.testing.assert_allclose(gradient, solution.x, atol=2e-3)
    assert costs @ gradient + gamma * omega(gradient) == pytest.approx(value, abs=1e-10)


@quick
@given(lists, operators, gammas)
def test_bounds(values, operator, gamma):
    value, gradient = value_and_gradient(values, operator, gamma)
    low, count, tiny = min(values), len(values), 1e-10
    below, above = {
        "hard": (0.0, 0.0),
        "soft": (-gamma * math.log(count), 0.0),
        "sparse": (-gamma * (1 - 1 / count) / 2, 0.0),
        "smooth": (0.0, gamma * (count - 1) / math.e),
    }[operator]
    assert low + below - tiny <= value <= low + above + tiny
    assert gradient.sum() == pytest.approx(1)
    if operator in MONOTONE:
        assert gradient.min() >= 0


@quick
@given(lists, st.lists(st.floats(0, 50), min_size=7, max_size=7), st.sampled_from(MONOTONE), gammas)
def test_all_but_smooth_rise_with_every_argument(values, more, operator, gamma):
    dearer = [value + extra for value, extra in zip(values, more, strict=False)]
    assert value_and_gradient(dearer, operator, gamma)[0] >= value_and_gradient(values, operator, gamma)[0] - 1e-10


def test_smooth_falls_where_an_unlikely_argument_rises():
    _, gradient = value_and_gradient([0.0, 3.0], "smooth", 1.0)
    assert gradient[1] < 0
    assert value_and_gradient([0.0, 4.0], "smooth", 1.0)[0] < value_and_gradient([0.0, 3.0], "smooth", 1.0)[0]


@quick
@given(lists.filter(distinct), operators)
def test_gamma_to_zero_gives_the_minimum(values, operator):
    value, gradient = value_and_gradient(values, operator, 1e-4)
    hard_value, hard_gradient = value_and_gradient(values, "hard", 1.0)
    assert hard_value == min(values)
    assert value == pytest.approx(hard_value, abs=1e-10)
    np.testing.assert_allclose(gradient, hard_gradient, atol=1e-10)


@quick
@given(lists, st.sampled_from(["soft", "sparse", "smooth"]))
def test_gamma_to_infinity_gives_the_mean(values, operator):
    gamma, count = 1e7, len(values)
    value, gradient = value_and_gradient(values, operator, gamma)
    np.testing.assert_allclose(gradient, np.full(count, 1 / count), atol=1e-4)
    offset = {"soft": -gamma * math.log(count), "sparse": -gamma * (1 - 1 / count) / 2, "smooth": 0.0}[operator]
    assert value - offset == pytest.approx(np.mean(values), abs=1e-3)


@quick
@given(lists, operators, gammas, number)
def test_a_constant_moves_the_value_and_leaves_the_gradient(values, operator, gamma, constant):
    value, gradient = value_and_gradient(values, operator, gamma)
    moved_value, moved_gradient = value_and_gradient([v + constant for v in values], operator, gamma)
    assert moved_value == pytest.approx(value + constant, abs=1e-10)
    if operator != "hard" or distinct(values, 1e-9):
        np.testing.assert_allclose(moved_gradient, gradient, atol=1e-9)


@quick
@given(lists, st.lists(st.integers(0, 7), max_size=3), operators, gammas)
def test_infinite_values_take_no_part(values, places, operator, gamma):
    value, gradient = value_and_gradient(values, operator, gamma)
    with_infinities, is_infinite = list(values), [False] * len(values)
    for place in places:
        with_infinities.insert(place, math.inf)
        is_infinite.insert(place, True)
    new_value, new_gradient = value_and_gradient(with_infinities, operator, gamma)
    assert new_value == pytest.approx(value, abs=1e-12)
    assert (new_gradient[is_infinite] == 0).all()
    np.testing.assert_allclose(new_gradient[~np.array(is_infinite)], gradient, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_but_infinity_is_infinite_and_without_gradient(operator, count):
    value, gradient = value_and_gradient([math.inf] * count, operator, 1.0)
    assert value == math.inf
    assert (gradient == 0).all()


@pytest.mark.parametrize("operator", OPERATORS)
def test_any_axis_of_any_tensor(operator):
    values = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    for dim in (0, 1, 2, -1):
        result = minimum(values, operator, 0.5, dim=dim)
        (gradient,) = torch.autograd.grad(result.sum(), values)
        axis = dim % 3
        assert result.shape == tuple(size for place, size in enumerate(values.shape) if place != axis)
        rows, slopes = (tensor.detach().movedim(dim, -1).flatten(0, 1) for tensor in (values, gradient))
        for row, found, slope in zip(rows, result.flatten(), slopes, strict=True):
            value, wanted = all_paths.minimum(operator, row.numpy(), 0.5)
            assert found.item() == pytest.approx(value)
            np.testing.assert_allclose(slope.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("operator", ["soft", "sparse", "smooth"])
def test_gradients_are_finite_differences(operator):
    values = torch.tensor([0.3, 0.9, 0.1, 5.0, math.inf], dtype=torch.float64)
    finite = values[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: minimum(torch.cat([x, values[4:]]), operator, 0.7), finite)


@quick
@given(lists, lists, st.sampled_from(["soft", "hard"]), gammas)
def test_soft_and_hard_are_associative(first, second, operator, gamma):
    whole = value_and_gradient(first + second, operator, gamma)[0]
    parts = [value_and_gradient(values, operator, gamma)[0] for values in (first, second)]
    assert value_and_gradient(parts, operator, gamma)[0] == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("operator", ["sparse", "smooth"])
def test_the_others_are_not(operator):
    part = value_and_gradient([0.0, 0.8], operator, 1.0)[0]
    together = value_and_gradient([0.0, 0.8, 0.4], operator, 1.0)[0]
    assert abs(value_and_gradient([part, 0.4], operator, 1.0)[0] - together) > 0.005


CLASSICAL = [(1, 0, 1.0, 0.0), (0, 1, 1.0, 0.0), (1, 1, 1.0, 0.0)]


def recursive_and_global(frames: int, targets: int, operator: str, gamma: float, seed: int) -> tuple[float, float]:
    cost = torch.randn(1, frames, targets, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    graph = all_paths.Graph(cost[0].numpy(), CLASSICAL, {(0, 0): (1.0, 0.0)}, {(frames - 1, targets - 1): (0.0, 0.0)})
    path_costs = torch.tensor([graph.path_cost(path) for path in graph.paths()], dtype=torch.float64)
    return soft_dtw(cost, gamma=gamma, operator=operator).item(), minimum(path_costs, operator, gamma).item()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from(["soft", "hard"]), gammas, st.integers(0, 999))
def test_softmin_over_cells_is_softmin_over_all_paths(frames, targets, operator, gamma, seed):
    recursive, over_all_paths = recursive_and_global(frames, targets, operator, gamma, seed)
    assert recursive == pytest.approx(over_all_paths, abs=1e-9)


def test_sparsemin_over_cells_is_not_from_2_by_3():
    for seed in range(40):
        recursive, over_all_paths = recursive_and_global(2, 2, "sparse", 1.0, seed)
        assert recursive == pytest.approx(over_all_paths, abs=1e-12)
    gaps = {}
    for gamma in (1.0, 10.0):
        pairs = [recursive_and_global(2, 3, "sparse", gamma, seed) for seed in range(40)]
        gaps[gamma] = np.array([over_all_paths - recursive for recursive, over_all_paths in pairs])
        assert gaps[gamma].min() >= -1e-12
    assert 0.01 < gaps[1.0].max() < 0.1
    assert gaps[10.0].min() > 0.1


@pytest.mark.parametrize("operator", OPERATORS)
def test_alignment_as_gamma_goes_to_zero(operator):
    cost = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    near, hard = align(cost, operator=operator, gamma=1e-4), align(cost, operator="hard")
    for name in ("losses", "gradient", "expected_alignment", "expected_path_cost"):
        torch.testing.assert_close(getattr(near, name), getattr(hard, name), atol=1e-9, rtol=0)


def test_alignment_as_gamma_goes_to_infinity():
    cost = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    graph = all_paths.Graph(np.zeros((4, 3)), CLASSICAL, {(0, 0): (1.0, 0.0)}, {(3, 2): (0.0, 0.0)})
    average = graph.by_all_paths(1.0).gradient  # of all paths alike
    far = align(cost, gamma=1e8)
    np.testing.assert_allclose(far.gradient[0].numpy(), average, atol=1e-6)
    assert far.losses.item() < -1e8
    uniform = graph.by_recursion("sparse", 1.0)  # at every cell the same share for every way in
    np.testing.assert_allclose(align(cost, gamma=1e8, operator="sparse").gradient[0].numpy(), uniform.gradient, atol=1e-6)
