"""Soft-DTW against independent truths: all paths counted one by one, and autograd through the plain recursion."""

import itertools
import math

import numpy as np
import pytest
import torch

from drawn_problems import CLASSICAL_WEIGHTS
from softscribe.alignment import Alignment, StepWeights, align, soft_dtw
from softscribe.alignment.reference import reference_align, reference_soft_dtw


def random_cost(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def paths(frames: int, targets: int, weights: StepWeights):
    """Yield every admissible path as a list of (frame, target, weight of the cell)."""
    steps = [(1, 0, weights.horizontal), (0, 1, weights.vertical), (1, 1, weights.diagonal)]

    def extended(path):
        frame, target, _ = path[-1]
        if (frame, target) == (frames - 1, targets - 1):
            yield path
        for frame_step, target_step, weight in steps:
            following = (frame + frame_step, target + target_step, weight)
            if following[0] < frames and following[1] < targets and not math.isinf(weight):
                yield from extended([*path, following])

    yield from extended([(0, 0, 1.0)])


def enumerated(cost: np.ndarray, gamma: float, weights: StepWeights) -> tuple[float, np.ndarray, np.ndarray, float, float] | None:
    """Return the value, H, E, the expected path cost and the entropy by going through all paths; None if there is none."""
    admissible = list(paths(*cost.shape, weights))
    if not admissible:
        return None
    path_costs = np.array([sum(weight * cost[n, m] for n, m, weight in path) for path in admissible])
    lowest = path_costs.min()
    shares = np.exp((lowest - path_costs) / gamma)
    probabilities = shares / shares.sum()
    gradient, expected = np.zeros_like(cost), np.zeros_like(cost)
    for path, probability in zip(admissible, probabilities, strict=True):
        for n, m, weight in path:
            gradient[n, m] += probability * weight
            expected[n, m] += probability
    positive = probabilities[probabilities > 0]
    value = lowest - gamma * math.log(shares.sum())
    return value, gradient, expected, float(probabilities @ path_costs), float(-(positive * np.log(positive)).sum())


def largest_difference(one: Alignment, other: Alignment) -> dict[str, float]:
    return {name: float((a.double() - b.double()).abs().max()) for name, a, b in zip(Alignment._fields, one, other, strict=True)}


@pytest.mark.parametrize("weights", CLASSICAL_WEIGHTS, ids=str)
@pytest.mark.parametrize("compute", [align, reference_align])
def test_all_paths_of_small_matrices(compute, weights):
    for frames, targets, gamma in itertools.product((1, 2, 5), (1, 2, 4), (0.05, 1.0, 30.0)):
        cost = random_cost(1, frames, targets, seed=frames * 10 + targets)
        truth = enumerated(cost[0].numpy(), gamma, weights)
        if truth is None:
            continue
        result = compute(cost, gamma=gamma, weights=weights)
        for found, wanted in zip(result, truth, strict=True):
            np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-11)


@pytest.mark.parametrize("weights", CLASSICAL_WEIGHTS, ids=str)
@pytest.mark.parametrize("fill", [0.0, -3.0, -1e6])
def test_no_cost_opens_a_blocked_step(weights, fill):
    cost = torch.full((1, 4, 4), fill, dtype=torch.float64)
    value, gradient, expected, path_cost, entropy = enumerated(cost[0].numpy(), 1.0, weights)
    result = align(cost, weights=weights)
    scale = max(1.0, abs(fill))
    assert result.losses.item() == pytest.approx(value, abs=1e-11 * scale)
    assert result.expected_path_cost.item() == pytest.approx(path_cost, abs=1e-11 * scale)
    assert result.path_entropy.item() == pytest.approx(entropy, abs=1e-8)
    np.testing.assert_allclose(result.gradient[0].numpy(), gradient, atol=1e-8)
    np.testing.assert_allclose(result.expected_alignment[0].numpy(), expected, atol=1e-8)
    assert np.array_equal(result.expected_alignment[0].numpy() == 0, expected == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", CLASSICAL_WEIGHTS, ids=str)
def test_cells_that_no_path_reaches_are_exactly_zero(weights, dtype):
    cost = random_cost(1, 6, 6, dtype=dtype)
    reachable = enumerated(np.zeros((6, 6)), 1.0, weights)[2] > 0
    result = align(cost, gamma=5.0, weights=weights)
    assert (result.expected_alignment[0].numpy()[~reachable] == 0).all()
    assert (result.gradient[0].numpy()[~reachable] == 0).all()


@pytest.mark.parametrize("weights", CLASSICAL_WEIGHTS, ids=str)
@pytest.mark.parametrize("gamma", [0.01, 0.3, 1.0, 10.0, 100.0])
def test_float32_and_float64_against_the_reference(weights, gamma):
    cost = 5 * random_cost(3, 40, 40, dtype=torch.float32).abs()
    counts = torch.tensor([40, 29, 1]), torch.tensor([40, 29, 1])
    truth = reference_align(cost, *counts, gamma=gamma, weights=weights)
    double = largest_difference(align(cost.double(), *counts, gamma=gamma, weights=weights), truth)
    # A reference entropy is a difference divided by gamma, and so is only that accurate.
    assert max(double["losses"], double["gradient"], double["expected_alignment"], double["expected_path_cost"]) < 1e-9
    assert double["path_entropy"] < 1e-9 / min(1.0, gamma)
    single = largest_difference(align(cost, *counts, gamma=gamma, weights=weights), truth)
    assert max(single["gradient"], single["expected_alignment"]) < 2e-6
    scale = 1 + float(truth.losses.abs().max())
    assert max(single["losses"], single["expected_path_cost"], single["path_entropy"]) < 1e-6 * scale


@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("weights", [StepWeights(diagonal=2), StepWeights(horizontal=0.1)], ids=str)
def test_the_gradient_of_2000_frames_stays_within_1e_5(weights, gamma):
    cost = 20 * random_cost(1, 2000, 60, dtype=torch.float32).abs()
    truth = reference_align(cost, gamma=gamma, weights=weights)
    found = align(cost, gamma=gamma, weights=weights)
    assert float((found.gradient - truth.gradient).abs().max()) < 1e-5
    assert float((found.expected_alignment - truth.expected_alignment).abs().max()) < 1e-5


@pytest.mark.parametrize("gamma", [0.01, 1.0])
def test_the_common_kernel_loses_nothing_over_2000_frames(gamma):
    """Rounding that goes the same way in every cell would add up: of costs that are 0 or the same, and of steps that are equally likely."""
    corrupted = 50 * (random_cost(1, 2000, 300, dtype=torch.float32) < 0.5).float()
    for cost, weights in ((corrupted, StepWeights(diagonal=2)), (corrupted[:, :1].expand(1, 2000, 300), StepWeights())):
        gradients = []
        for dtype in (torch.float32, torch.float64):
            converted = cost.to(dtype, copy=True).requires_grad_()
            soft_dtw(converted, steps=weights.steps(), gamma=gamma).sum().backward()
            gradients.append(converted.grad.double())
        assert float((gradients[0] - gradients[1]).abs().max()) < 2e-6


def test_the_reference_is_its_own_derivative_twice():
    cost = random_cost(1, 3, 4).requires_grad_()
    weights = StepWeights(vertical=0.5, diagonal=2)
    assert torch.autograd.gradgradcheck(lambda cost: reference_soft_dtw(cost, gamma=0.7, weights=weights), cost)
