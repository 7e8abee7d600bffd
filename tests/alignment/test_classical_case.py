"""What holds in the classical case, softmin over the three steps of `StepWeights`. For laws of all problems see test_alignment_laws.py."""

import math

import pytest
import torch
from hypothesis import given, settings

from drawn_problems import classical_problems, random_costs
from softscribe.alignment import StepWeights, align


def test_the_gradient_of_1_1_2_sums_to_frames_plus_targets_minus_1():
    cost = random_costs(4, 50, 20, seed=1, scale=5.0).float()
    result = align(cost, torch.tensor([50, 7, 1, 33]), torch.tensor([20, 20, 1, 2]), gamma=0.5, weights=StepWeights(diagonal=2))
    torch.testing.assert_close(result.gradient.sum(dim=(1, 2)), torch.tensor([69.0, 26, 1, 34]))


@settings(deadline=None, max_examples=30)
@given(classical_problems())
def test_the_loss_falls_as_gamma_rises_and_the_expected_path_cost_does_not(problem):
    results = [align(*problem.arguments, gamma=gamma, weights=problem.weights) for gamma in (0.01, 0.1, 1.0, 10.0, 100.0)]
    losses = torch.stack([result.losses for result in results])
    path_costs = torch.stack([result.expected_path_cost for result in results])
    entropies = torch.stack([result.path_entropy for result in results])
    assert (losses.diff(dim=0) <= 1e-9).all()
    assert (path_costs.diff(dim=0) >= -1e-9).all()
    assert (entropies.diff(dim=0) >= -1e-9).all()


@pytest.mark.parametrize("gamma", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("weights", [StepWeights(), StepWeights(diagonal=2), StepWeights(horizontal=0)], ids=str)
def test_long_items_and_wide_costs_stay_finite(gamma, weights):
    cost = 750 * torch.rand(1, 20_000, 50, generator=torch.Generator().manual_seed(0))
    result = align(cost, gamma=gamma, weights=weights)
    for part in result:
        assert torch.isfinite(part).all()
    assert result.expected_alignment.sum(dim=1).min() >= 1 - 1e-4
    assert result.expected_alignment.sum(dim=2).min() >= 1 - 1e-4
    assert result.expected_alignment.max() <= 1 + 1e-4


@pytest.mark.parametrize("cost", [0.0, 750.0, -750.0, 1e6])
def test_equal_costs_leave_all_paths_of_equal_weight_equally_probable(cost):
    weights = StepWeights(diagonal=2)
    result = align(torch.full((1, 8, 8), cost), gamma=0.01, weights=weights)
    delannoy = 48_639  # paths through 8 x 8 cells by three steps
    assert result.path_entropy.item() == pytest.approx(math.log(delannoy), rel=1e-5)
