"""Gradients against finite differences for every combination of features, and single precision against double."""

import math

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from drawn_problems import BOUNDARIES, STEP_SETS, fits, per_cell, random_costs
from softscribe.alignment import Step, StepWeights, align, soft_dtw

OPERATORS = ("soft", "hard", "sparse", "smooth")


def combination(name: str, cells: bool) -> tuple[Step, ...]:
    def weight_and_cost(place: int) -> tuple:
        return (
            (per_cell((5, 4), 0.2, 2, seed=place), per_cell((5, 1), -1, 1, seed=place + 9)) if cells else (0.4 + 0.3 * place, 0.2 * place)
        )

    return tuple(Step(*advance, *weight_and_cost(place)) for place, advance in enumerate(STEP_SETS[name]))


@pytest.mark.parametrize("cells", [False, True], ids=["global", "per cell"])
@pytest.mark.parametrize("name", STEP_SETS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_gradient_is_that_of_finite_differences(operator, name, cells):
    """Central differences in all cells at once, every boundary in turn: an item of the batch for every cell that moves."""
    steps, gamma, nudge = combination(name, cells), 0.8, 1e-5
    cost = random_costs(1, 5, 4, seed=11, scale=1.0)
    nudges = nudge * torch.eye(20, dtype=torch.float64).reshape(20, 5, 4)
    for boundaries in BOUNDARIES.values():
        if fits(steps, boundaries):
            options = {"steps": steps, "boundaries": boundaries, "operator": operator, "gamma": gamma}
            slopes = (soft_dtw(cost + nudges, **options) - soft_dtw(cost - nudges, **options)) / (2 * nudge)
            torch.testing.assert_close(align(cost, **options).gradient.flatten(), slopes, atol=1e-7, rtol=0)


SOME_BOUNDARIES = ("fixed", "both of frames, end of targets, compensated", "start of frames, both of targets, plain", "cells")


@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", STEP_SETS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_single_precision_keeps_the_gradient_within_1e_5(operator, name, gamma):
    cost = random_costs(2, 40, 30, seed=12, scale=5.0).float()
    counts = torch.tensor([40, 30]), torch.tensor([30, 30])
    weight, added = per_cell((40, 30), 0, 2, seed=2).float(), per_cell((30,), -1, 1, seed=3).float()
    cells = tuple(Step(*advance, weight, added) for advance in STEP_SETS[name])
    for steps in (combination(name, cells=False), cells):
        for boundary in SOME_BOUNDARIES:
            if fits(steps, BOUNDARIES[boundary]):
                options = {"steps": steps, "boundaries": BOUNDARIES[boundary], "operator": operator, "gamma": gamma}
                single, double = align(cost, *counts, **options), align(cost.double(), *counts, **options)
                for one, other in ((single.gradient, double.gradient), (single.expected_alignment, double.expected_alignment)):
                    assert (one - other).abs().max() < 1e-5 * max(1.0, other.abs().max().item())
                torch.testing.assert_close(single.losses.double(), double.losses, atol=1e-5, rtol=1e-6)


def gradients(cost: Tensor, *counts: Tensor, **options) -> tuple[Tensor, Tensor]:
    cost = cost.clone().requires_grad_()
    losses = soft_dtw(cost, *counts, **options)
    losses.sum().backward()
    return losses.detach(), cost.grad


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


def test_a_neighbour_beyond_the_range_of_the_fast_kernel_changes_nothing():
    cost = random_costs(2, 50, 40, seed=1).float()
    cost[1] = 1e30
    for one, other in zip(gradients(cost), gradients(cost[:1]), strict=True):
        assert torch.equal(one[0], other[0])
