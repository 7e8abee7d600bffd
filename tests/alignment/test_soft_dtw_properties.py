"""What holds for every cost matrix, whatever computes it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.alignment import StepWeights, align, soft_dtw

weight = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.05, 3.0))
step_weights = st.builds(StepWeights, horizontal=weight, vertical=weight, diagonal=st.one_of(weight, st.just(math.inf)))
gammas = st.sampled_from([0.01, 0.3, 1.0, 10.0, 100.0])
sizes = st.integers(1, 30)
seeds = st.integers(0, 2**16)


def random_cost(*shape: int, seed: int, scale: float = 5.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, gammas, step_weights, seeds)
def test_every_frame_and_every_target_is_passed(frames, targets, gamma, weights, seed):
    cost = random_cost(1, frames, targets, seed=seed)
    result = align(cost, gamma=gamma, weights=weights)
    expected = result.expected_alignment[0]
    assert expected.min() >= 0
    assert expected.max() <= 1 + 1e-12
    assert expected.sum(dim=0).min() >= 1 - 1e-12
    assert expected.sum(dim=1).min() >= 1 - 1e-12
    assert expected[0, 0] == pytest.approx(1)
    assert expected[-1, -1] == pytest.approx(1)
    assert result.path_entropy.item() >= 0


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, gammas, st.tuples(st.floats(0, 3), st.floats(0, 3)), st.floats(-20, 20), seeds)
def test_a_constant_changes_nothing_if_the_diagonal_weighs_as_much_as_both_others(frames, targets, gamma, pair, constant, seed):
    horizontal, vertical = pair
    weights = StepWeights(horizontal=horizontal, vertical=vertical, diagonal=horizontal + vertical)
    cost = random_cost(1, frames, targets, seed=seed)
    one, other = (align(c, gamma=gamma, weights=weights) for c in (cost, cost + constant))
    total = 1 + horizontal * (frames - 1) + vertical * (targets - 1)
    torch.testing.assert_close(one.gradient, other.gradient, atol=1e-9, rtol=0)
    assert one.gradient.sum().item() == pytest.approx(total)
    assert (other.losses - one.losses).item() == pytest.approx(constant * total, abs=1e-8)


def test_the_gradient_of_1_1_2_sums_to_frames_plus_targets_minus_1():
    cost = random_cost(4, 50, 20, seed=1).float()
    result = align(cost, torch.tensor([50, 7, 1, 33]), torch.tensor([20, 20, 1, 2]), gamma=0.5, weights=StepWeights(diagonal=2))
    torch.testing.assert_close(result.gradient.sum(dim=(1, 2)), torch.tensor([69.0, 26, 1, 34]))


@pytest.mark.parametrize("weights", [StepWeights(), StepWeights(horizontal=0.1), StepWeights(diagonal=1.5)], ids=str)
def test_a_constant_changes_the_gradient_of_other_weights(weights):
    cost = random_cost(1, 12, 9, seed=3, scale=1.0)
    difference = align(cost, weights=weights).gradient - align(cost + 2, weights=weights).gradient
    assert difference.abs().max() > 0.01


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, gammas, step_weights, seeds)
def test_a_dearer_cell_never_makes_the_loss_smaller(frames, targets, gamma, weights, seed):
    cost = random_cost(1, frames, targets, seed=seed)
    dearer = cost + random_cost(1, frames, targets, seed=seed + 1).abs()
    one, other = (soft_dtw(c, gamma=gamma, weights=weights) for c in (cost, dearer))
    assert (other - one).item() >= -1e-9


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, gammas, step_weights, seeds)
def test_swapping_frames_and_targets_swaps_horizontal_and_vertical(frames, targets, gamma, weights, seed):
    cost = random_cost(1, frames, targets, seed=seed)
    swapped = StepWeights(horizontal=weights.vertical, vertical=weights.horizontal, diagonal=weights.diagonal)
    one, other = align(cost, gamma=gamma, weights=weights), align(cost.mT, gamma=gamma, weights=swapped)
    torch.testing.assert_close(one.losses, other.losses)
    torch.testing.assert_close(one.gradient, other.gradient.mT, atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=30)
@given(sizes, sizes, step_weights, seeds)
def test_the_loss_falls_as_gamma_rises_and_the_expected_path_cost_does_not(frames, targets, weights, seed):
    cost = random_cost(1, frames, targets, seed=seed)
    results = [align(cost, gamma=gamma, weights=weights) for gamma in (0.01, 0.1, 1.0, 10.0, 100.0)]
    losses = torch.cat([result.losses for result in results])
    path_costs = torch.cat([result.expected_path_cost for result in results])
    entropies = torch.cat([result.path_entropy for result in results])
    assert (losses.diff() <= 1e-9).all()
    assert (path_costs.diff() >= -1e-9).all()
    assert (entropies.diff() >= -1e-9).all()


FRAME_COUNTS, TARGET_COUNTS = torch.tensor([17, 30, 1, 9, 30]), torch.tensor([12, 3, 1, 12, 12])


@pytest.mark.parametrize("garbage", [0.0, -1e30, 1e30, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_never_matters(garbage, dtype):
    cost = random_cost(5, 30, 12, seed=7).to(dtype)
    padding = torch.ones_like(cost, dtype=torch.bool)
    for item, (frames, targets) in enumerate(zip(FRAME_COUNTS, TARGET_COUNTS, strict=True)):
        padding[item, :frames, :targets] = False
    cost[padding] = garbage
    cost.requires_grad_()
    options = {"gamma": 0.5, "weights": StepWeights(diagonal=2)}
    losses = soft_dtw(cost, FRAME_COUNTS, TARGET_COUNTS, **options)
    losses.square().sum().backward()
    result = align(cost, FRAME_COUNTS, TARGET_COUNTS, **options)
    assert (cost.grad[padding] == 0).all()
    assert (result.gradient[padding] == 0).all()
    assert (result.expected_alignment[padding] == 0).all()
    for item, (frames, targets) in enumerate(zip(FRAME_COUNTS, TARGET_COUNTS, strict=True)):
        alone = align(cost[item : item + 1, :frames, :targets], **options)
        assert torch.equal(alone.losses[0], result.losses[item])
        assert torch.equal(alone.expected_path_cost[0], result.expected_path_cost[item])
        assert torch.equal(alone.path_entropy[0], result.path_entropy[item])
        assert torch.equal(alone.gradient[0], result.gradient[item, :frames, :targets])
        assert torch.equal(alone.expected_alignment[0], result.expected_alignment[item, :frames, :targets])


def test_the_order_of_the_batch_does_not_matter():
    cost = random_cost(5, 30, 12, seed=8)
    order = torch.tensor([3, 0, 4, 2, 1])
    one = align(cost, FRAME_COUNTS, TARGET_COUNTS, gamma=2.0)
    other = align(cost[order], FRAME_COUNTS[order], TARGET_COUNTS[order], gamma=2.0)
    for found, wanted in zip(other, one, strict=True):
        assert torch.equal(found, wanted[order])


def test_small_gamma_is_ordinary_dtw():
    cost = random_cost(1, 25, 10, seed=9).abs()
    accumulated = torch.full((26, 11), math.inf, dtype=torch.float64)
    accumulated[0, 0] = 0
    for n in range(25):
        for m in range(10):
            accumulated[n + 1, m + 1] = cost[0, n, m] + min(accumulated[n, m], accumulated[n, m + 1], accumulated[n + 1, m])
    assert soft_dtw(cost, gamma=1e-6).item() == pytest.approx(accumulated[25, 10].item(), abs=1e-4)


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
