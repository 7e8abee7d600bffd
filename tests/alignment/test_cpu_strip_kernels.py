"""The fast CPU kernel against the float64 reference: all weights, temperatures, lengths and sizes of costs."""

import math

import numpy as np
import pytest
import torch

from alignment.fast_cpu_kernel import computed, random_cost
from softscribe.alignment import StepWeights
from softscribe.alignment.cpu.strips import within_range
from softscribe.alignment.reference import reference_soft_dtw

INF = math.inf
WEIGHTS = [
    (1, 1, 1),
    (1, 1, 2),
    (0.1, 1, 1),
    (0, 1, 1),
    (0, 0, 0),
    (1, 0.7, 1.9),
    (INF, 1, 2),
    (1, INF, 1),
    (1, 1, INF),
    (INF, 0.5, INF),
    (INF, INF, 1),
]
GAMMAS = [0.01, 0.1, 1, 10, 100]
TOLERANCE = 1e-5


def reference(cost, frame_counts, target_counts, gamma, weights):
    cost = torch.from_numpy(cost).double().requires_grad_()
    steps = StepWeights(horizontal=float(weights[0]), vertical=float(weights[1]), diagonal=float(weights[2]))
    losses = reference_soft_dtw(cost, torch.tensor(frame_counts), torch.tensor(target_counts), gamma=float(gamma), weights=steps)
    (gradient,) = torch.autograd.grad(losses[torch.isfinite(losses)].sum() + 0 * cost[:, 0, 0].sum(), cost)
    return losses.detach().numpy(), gradient.numpy()


def fast_reference(cost, gamma, weights):
    """Return loss and gradient of one item, (N, M), in float64 and the log domain, along anti-diagonals no longer than they have to be."""
    frames, targets = cost.shape
    if frames > targets:
        horizontal, vertical, diagonal = weights
        loss, gradient = fast_reference(cost.T, gamma, (vertical, horizontal, diagonal))
        return loss, gradient.T
    steps = np.array(weights, float)[:, None]
    is_open, steps = np.isfinite(steps), np.where(np.isfinite(steps), steps, 0)
    n = np.arange(frames)
    m = np.arange(frames + targets - 1)[:, None] - n
    inside, skewed = (m >= 0) & (m < targets), cost.astype(float)[n, m.clip(0, targets - 1)]
    shares, gradient = np.zeros((len(m), 3, frames)), np.zeros(m.shape)
    before = last = np.full(frames + 1, INF)
    for t, c in enumerate(skewed):
        ways = np.where(is_open & inside[t], np.stack([last[:-1], last[1:], before[:-1]]) + steps * c, INF)
        lowest = ways.min(axis=0)
        reached = np.isfinite(lowest)
        shares[t] = np.exp((np.where(reached, lowest, 0) - ways) / gamma)
        total = np.where(reached, shares[t].sum(axis=0), 1)
        shares[t] /= total
        here = np.where(reached, lowest - gamma * np.log(total), INF)
        if t == 0:
            here[0] = c[0]
        before, last = last, np.append(INF, here)
    passing = np.zeros((len(m) + 2, frames + 1))  # two empty diagonals first, and an empty frame
    passing[-1, -1] = np.isfinite(last[-1])
    for t in range(len(m) - 1, -1, -1):
        horizontal, vertical, diagonal = shares[t] * passing[t + 2, 1:]
        gradient[t] = (steps[:, 0] * np.stack([horizontal, vertical, diagonal], axis=1)).sum(axis=1)
        passing[t + 1, :-1] += horizontal
        passing[t + 1, 1:] += vertical
        passing[t, :-1] += diagonal
    gradient[0, 0] = passing[-1, -1]
    return last[-1], gradient[n[:, None] + np.arange(targets), n[:, None]]


def check(cost, frame_counts, target_counts, gamma, weights):
    """Compare every item with its reference, and return what was computed."""
    losses, gradient = computed(cost, frame_counts, target_counts, gamma, weights)
    for b, (frames, targets) in enumerate(zip(frame_counts, target_counts, strict=True)):
        true_loss, true_gradient = fast_reference(cost[b, :frames, :targets], gamma, weights)
        np.testing.assert_allclose(gradient[b, :frames, :targets], true_gradient, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(losses[b], true_loss, rtol=TOLERANCE, atol=TOLERANCE * max(1, gamma))
    return gradient


def saturated_cost(frames, targets, seed=0):
    """Binary cross-entropy of 12 classes on wide logits, to be 0 where it is small, as saturated predictions are."""
    generator = np.random.default_rng(seed)
    logits = 12 * generator.standard_normal((frames, 12))
    notes = (generator.random((targets, 12)) < 0.2).astype(float)
    cost = np.logaddexp(0, logits).sum(axis=1)[:, None] - logits @ notes.T
    return np.where(cost < 8, 0, cost)[None].astype(np.float32)


def valley_cost(frames, targets):
    distance = np.abs(np.arange(frames)[:, None] / frames - np.arange(targets) / targets)
    return (20 * distance + 0.1 * np.random.default_rng(0).random((frames, targets)))[None].astype(np.float32)


LONG_COSTS = {
    "random": lambda: np.random.default_rng(0).random((1, 2000, 90), np.float32),
    "negative": lambda: random_cost(1, 2000, 150) - 1,
    "valley": lambda: valley_cost(2000, 130),
    "saturated": lambda: saturated_cost(2000, 100),
    "constant": lambda: np.full((1, 2000, 70), 0.3, np.float32),
    "wide": lambda: random_cost(1, 100, 2000),
    "few targets": lambda: np.random.default_rng(0).random((1, 2000, 3), np.float32),
}


@pytest.mark.parametrize(("frames", "targets"), [(9, 8), (8, 9), (8, 8)])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_two_references_agree(weights, frames, targets):
    cost = random_cost(1, frames, targets)
    (loss,), (gradient,) = reference(cost, [frames], [targets], 0.7, weights)
    fast_loss, fast_gradient = fast_reference(cost[0], 0.7, weights)
    assert fast_loss == pytest.approx(loss, abs=1e-12)
    np.testing.assert_allclose(fast_gradient, gradient, atol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_ragged_batches_with_padding_that_is_not_a_number(weights):
    generator = np.random.default_rng(1)
    for frames, targets in [(1, 1), (1, 5), (5, 1), (3, 4), (64, 64), (63, 65), (65, 63), (130, 200), (200, 129), (2, 70), (70, 2)]:
        cost = random_cost(3, frames, targets)
        frame_counts, target_counts = generator.integers(1, frames + 1, 3), generator.integers(1, targets + 1, 3)
        frame_counts[0], target_counts[0] = frames, targets
        for b in range(3):
            cost[b, frame_counts[b] :] = np.nan
            cost[b, :, target_counts[b] :] = np.nan
        for gamma in (0.01, 1, 100):
            gradient = check(cost, frame_counts, target_counts, gamma, weights)
            assert (gradient[np.isnan(cost)] == 0).all()


@pytest.mark.parametrize(
    "weights", [(1, 1, 2), *(pytest.param(w, marks=pytest.mark.slow) for w in [(1, 1, 1), (0.1, 1, 1), (0, 1, 1), (1, INF, 2)])], ids=str
)
@pytest.mark.parametrize("kind", LONG_COSTS)
def test_long_items_at_all_temperatures(kind, weights):
    cost = LONG_COSTS[kind]()
    frames, targets = cost.shape[1:]
    if frames < targets:
        weights = (weights[1], weights[0], weights[2])
    for gamma in GAMMAS:
        check(cost, [frames], [targets], gamma, weights)


@pytest.mark.parametrize(
    "cost", [np.zeros((1, 90, 80), np.float32), random_cost(1, 90, 80) - 5, 1000 * random_cost(1, 90, 80)], ids=["0", "< 0", "1000"]
)
@pytest.mark.parametrize("weights", [(INF, 1, 1), (1, INF, 1), (1, INF, 0), (1, 1, INF), (INF, 1, INF)], ids=str)
def test_no_cost_opens_a_blocked_step(cost, weights):
    shape = {(INF, 1, 1): (80, 80), (INF, 1, INF): (1, 80)}.get(weights, (90, 80))
    for gamma in (0.01, 1, 100):
        check(np.ascontiguousarray(cost[:, : shape[0], : shape[1]]), [shape[0]], [shape[1]], gamma, weights)


def test_no_path_means_an_infinite_loss_and_no_gradient():
    cost = np.full((2, 70, 66), -3.0, np.float32)
    for weights, frames, targets in [((INF, 1, 1), 70, 66), ((1, INF, 1), 65, 66), ((INF, INF, 1), 66, 65), ((INF, INF, INF), 1, 2)]:
        losses, gradient = computed(cost, [frames, 1], [targets, 1], 0.1, weights)
        assert losses.tolist() == [INF, pytest.approx(-3)]
        assert gradient.sum() == gradient[1, 0, 0] == 1


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_start_cell_counts_once(weights):
    losses, gradient = computed(np.full((1, 1, 1), 7.5, np.float32), [1], [1], 0.3, weights)
    assert losses[0] == pytest.approx(7.5, rel=1e-6)
    assert gradient.item() == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_up_to_the_edge_of_the_range(sign):
    """Exponents of a path run to 2**28, those of a cell to 2**22."""
    cost = sign * 1e4 * (1 + np.random.default_rng(0).random((1, 60, 70), np.float32))
    scale = 0.98 * 2**21 / np.abs(cost).max()
    assert within_range(np.array([2.0**21]), np.array([125]), 1 / math.log(2), (1.0, 1.0, 1.0))
    for weights in [(1, 1, 1), (1, 1, 2), (INF, 1, 1)]:
        check(cost, [60], [70], max(w for w in weights if w < INF) / float(scale) / math.log(2), weights)


@pytest.mark.parametrize("weights", [(0.3, 0.7, 1), (0.1, 1, 1.1), (0.5, 0.6, 1.1), (0.1, 1, 1), (1, 1, 2), (0.3, 0.3, 0.6)], ids=str)
@pytest.mark.parametrize("base", [700, -50])
def test_large_costs_that_differ_little(base, weights):
    """What all cells have in common is thousands of times the temperature, and what decides is the rest."""
    cost = (base + 0.05 * np.random.default_rng(0).random((1, 600, 130))).astype(np.float32)
    for gamma in (0.01, 0.1):
        check(cost, [600], [130], gamma, weights)
