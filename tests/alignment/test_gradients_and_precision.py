"""Gradients against finite differences for every combination of features, and single precision against double."""

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from alignment.finite_differences import gradients_and_slopes
from drawn_problems import BOUNDARIES, CLASSICAL_WEIGHTS, STEP_SETS, fits, per_cell, random_costs
from softscribe.alignment import Step, StepWeights, align, soft_dtw

OPERATORS = ("soft", "hard", "sparse", "smooth")


def gradients(cost: Tensor, *counts: Tensor, **options) -> tuple[Tensor, Tensor]:
    cost = cost.clone().requires_grad_()
    losses = soft_dtw(cost, *counts, **options)
    losses.sum().backward()
    return losses.detach(), cost.grad


def combination(name: str, cells: tuple[int, ...] | None = None) -> tuple[Step, ...]:
    """Steps with unequal weights and costs: one each, or one for each of so many cells."""

    def weight_and_cost(place: int) -> tuple:
        if cells is None:
            return 0.4 + 0.3 * place, 0.2 * place
        return per_cell(cells, 0.2, 2, seed=place), per_cell((cells[0], 1), -1, 1, seed=place + 9)

    return tuple(Step(*advance, *weight_and_cost(place)) for place, advance in enumerate(STEP_SETS[name]))


sizes_with_paths = st.sampled_from([(3, 3), (4, 3), (4, 4), (3, 2), (1, 1)])  # by any of the sets of steps
of_each_boundary = st.lists(st.booleans(), min_size=len(BOUNDARIES), max_size=len(BOUNDARIES))


@pytest.mark.usefixtures("without_shape_types")  # which take longer than all else here
@pytest.mark.parametrize("name", STEP_SETS)
@pytest.mark.parametrize("operator", OPERATORS)
@settings(deadline=None, derandomize=True, max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(sizes_with_paths, min_size=1, max_size=2),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.integers(0, 999),
    of_each_boundary,
)
def test_the_gradient_is_that_of_finite_differences(operator, name, sizes, gamma, seed, cells):
    """With every boundary: of any costs, sizes and temperature; weights and costs are those of steps or, where that fits, of cells."""
    counts = [torch.tensor(axis) for axis in zip(*sizes, strict=True)]
    cost = random_costs(len(sizes), *(int(axis.max()) for axis in counts), seed=seed, scale=1.0)
    has_kinks = operator in ("hard", "sparse")
    plain, varied = combination(name), combination(name, cost.shape[1:])
    for boundaries, of_cells in zip(BOUNDARIES.values(), cells, strict=True):
        if not fits(plain, boundaries):
            continue
        steps = varied if of_cells and fits(varied, boundaries) else plain
        options = {"steps": steps, "boundaries": boundaries, "operator": operator, "gamma": gamma}
        (gradient,), slopes = gradients_and_slopes(
            lambda cost, items: soft_dtw(cost, *(axis[items] for axis in counts), **options),  # noqa: B023
            cost,
            widths=(1e-5, 5e-6) if has_kinks else (1e-5,),
        )
        if has_kinks:  # there, the differences of two widths do not agree
            assume((slopes[0][0] - slopes[1][0]).abs().max() < 1e-8)
        torch.testing.assert_close(gradient, slopes[0][0], atol=1e-7, rtol=0)


@pytest.mark.parametrize("weights", CLASSICAL_WEIGHTS, ids=str)
def test_so_it_is_with_padding_and_blocked_steps(weights):
    cost, counts = random_costs(2, 5, 5, scale=1.0), torch.tensor([5, 3])

    def losses(cost: Tensor, items: Tensor) -> Tensor:
        return soft_dtw(cost, counts[items], counts[items], gamma=0.7, weights=weights)

    (gradient,), ((slopes,),) = gradients_and_slopes(losses, cost)
    torch.testing.assert_close(gradient, slopes, atol=1e-8, rtol=1e-6)


SOME_BOUNDARIES = ("fixed", "both of frames, end of targets, compensated", "start of frames, both of targets, plain", "cells")


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", STEP_SETS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_single_precision_keeps_the_gradient_within_1e_5(operator, name, gamma):
    cost = random_costs(2, 40, 30, seed=12, scale=5.0).float()
    counts = torch.tensor([40, 30]), torch.tensor([30, 30])
    weight, added = per_cell((40, 30), 0, 2, seed=2).float(), per_cell((30,), -1, 1, seed=3).float()
    cells = tuple(Step(*advance, weight, added) for advance in STEP_SETS[name])
    for steps in (combination(name), cells):
        for boundary in SOME_BOUNDARIES:
            if fits(steps, BOUNDARIES[boundary]):
                options = {"steps": steps, "boundaries": BOUNDARIES[boundary], "operator": operator, "gamma": gamma}
                single, double = align(cost, *counts, **options), align(cost.double(), *counts, **options)
                for one, other in ((single.gradient, double.gradient), (single.expected_alignment, double.expected_alignment)):
                    assert (one - other).abs().max() < 1e-5 * max(1.0, other.abs().max().item())
                torch.testing.assert_close(single.losses.double(), double.losses, atol=1e-5, rtol=1e-6)


classical_weight = st.sampled_from([0.0, 0.1, 1.0, 2.0, math.inf])
classical = st.builds(StepWeights, horizontal=classical_weight, vertical=classical_weight, diagonal=classical_weight)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 150), st.integers(1, 150)), min_size=1, max_size=4),
    classical,
    st.sampled_from([0.01, 1.0, 100.0]),
    st.sampled_from([-20.0, 1e-3, 5.0, 400.0]),
    st.integers(0, 99),
)
def test_the_classical_case_in_single_precision(sizes, weights, gamma, scale, seed):
    """It has kernels of its own. Gradients stay within 1e-5 of double precision, and neighbours and padding change no bit."""
    counts = [torch.tensor(axis) for axis in zip(*sizes, strict=True)]
    cost = (scale * random_costs(len(sizes), *(int(axis.max()) for axis in counts), seed=seed, scale=1.0).abs()).float()
    try:
        losses, gradient = gradients(cost, *counts, gamma=gamma, weights=weights)
    except ValueError as error:
        if "has no path" not in str(error):
            raise
        reject()
    wanted_losses, wanted_gradient = gradients(cost.double(), *counts, gamma=gamma, weights=weights)
    assert (gradient - wanted_gradient).abs().max() < 1e-5 * max(1.0, *(w for w in weights.__dict__.values() if math.isfinite(w)))
    torch.testing.assert_close(losses.double(), wanted_losses, atol=1e-4, rtol=1e-6)
    for item, (frames, targets) in enumerate(sizes):
        alone = gradients(cost[item : item + 1, :frames, :targets], gamma=gamma, weights=weights)
        assert torch.equal(alone[0][0], losses[item])
        assert torch.equal(alone[1][0], gradient[item, :frames, :targets])
        assert (gradient[item, frames:] == 0).all()
        assert (gradient[item, :, targets:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 20_000, 5), (1, 5, 20_000), (1, 20_000, 16)])
def test_thousands_of_equally_good_frames_for_a_few_targets(shape):
    """Here rounding goes all one way; a second item, which is not so thin, changes nothing."""
    cost = torch.full(shape, 8.3)
    losses, gradient = gradients(cost)
    wanted_losses, wanted = gradients(cost.double())
    assert (gradient - wanted).abs().max() < 1e-5
    torch.testing.assert_close(losses.double(), wanted_losses, atol=0, rtol=1e-6)
    counts = [torch.tensor([size, min(size, 30)]) for size in shape[1:]]
    together = gradients(cost.expand(2, -1, -1), *counts)
    assert torch.equal(together[0][:1], losses)
    assert torch.equal(together[1][:1], gradient)


@pytest.mark.parametrize("weights", [StepWeights(horizontal=math.inf), StepWeights(vertical=math.inf, diagonal=2)], ids=str)
def test_the_only_path_costs_what_it_costs_however_high_the_temperature(weights):
    cost = random_costs(2, 300, 300, seed=5).float()
    losses = soft_dtw(cost, gamma=1e6, weights=weights)
    diagonal = cost.double().diagonal(dim1=1, dim2=2)
    expected = diagonal[:, 0] + weights.diagonal * diagonal[:, 1:].sum(dim=1)
    torch.testing.assert_close(losses.double(), expected, atol=1e-3, rtol=1e-6)


def test_a_neighbour_beyond_the_range_of_the_fast_kernel_changes_nothing():
    cost = random_costs(2, 50, 40, seed=1).float()
    cost[1] = 1e30
    for one, other in zip(gradients(cost), gradients(cost[:1]), strict=True):
        assert torch.equal(one[0], other[0])
