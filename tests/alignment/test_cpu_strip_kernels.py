"""The fast CPU kernel against the float64 reference, its promises to the last bit, its range, its memory, and its machine code."""

import math
import tracemalloc

import llvmlite.binding
import numba
import numpy as np
import pytest
import torch

from softscribe.alignment import StepWeights
from softscribe.alignment.cpu import scaled_kernels
from softscribe.alignment.cpu import strips as cpu_strips
from softscribe.alignment.cpu.diagonal_kernels import LANES, STATE, backward_diagonal, forward_diagonal, forward_diagonal_of_one_factor
from softscribe.alignment.cpu.strips import strip_soft_dtw, within_range
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


def computed(cost, frame_counts, target_counts, gamma, weights):
    """Return losses, gradient and largest magnitudes; what the kernel does not write of the gradient stays NaN."""
    gradient = np.full_like(cost, np.nan)
    counts = np.asarray(frame_counts, np.int64), np.asarray(target_counts, np.int64)
    losses, largest = strip_soft_dtw(cost, *counts, float(gamma), tuple(map(float, weights)), gradient)
    return losses, gradient, largest


def reference(cost, frame_counts, target_counts, gamma, weights):
    cost = torch.from_numpy(cost).double().requires_grad_()
    steps = StepWeights(horizontal=float(weights[0]), vertical=float(weights[1]), diagonal=float(weights[2]))
    losses = reference_soft_dtw(cost, torch.tensor(frame_counts), torch.tensor(target_counts), gamma=float(gamma), weights=steps)
    (gradient,) = torch.autograd.grad(losses[torch.isfinite(losses)].sum() + 0 * cost[:, 0, 0].sum(), cost)
    return losses.detach().numpy(), gradient.numpy()


def fast_reference(cost, gamma, weights):
    """Return loss and gradient of one item, (N, M), in float64 and the log domain, along anti-diagonals."""
    frames, targets = cost.shape
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
    losses, gradient, _ = computed(cost, frame_counts, target_counts, gamma, weights)
    for b, (frames, targets) in enumerate(zip(frame_counts, target_counts, strict=True)):
        true_loss, true_gradient = fast_reference(cost[b, :frames, :targets], gamma, weights)
        np.testing.assert_allclose(gradient[b, :frames, :targets], true_gradient, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(losses[b], true_loss, rtol=TOLERANCE, atol=TOLERANCE * max(1, gamma))


def random_cost(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


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


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_two_references_agree(weights):
    cost = random_cost(1, 9, 8)
    (loss,), (gradient,) = reference(cost, [9], [8], 0.7, weights)
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
            check(cost, frame_counts, target_counts, gamma, weights)
            _, gradient, largest = computed(cost, frame_counts, target_counts, gamma, weights)
            assert (gradient[np.isnan(cost)] == 0).all()
            assert largest.tolist() == [np.abs(item[~np.isnan(item)]).max() for item in cost]


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
        losses, gradient, _ = computed(cost, [frames, 1], [targets, 1], 0.1, weights)
        assert losses.tolist() == [INF, pytest.approx(-3)]
        assert gradient.sum() == gradient[1, 0, 0] == 1


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_start_cell_counts_once(weights):
    losses, gradient, _ = computed(np.full((1, 1, 1), 7.5, np.float32), [1], [1], 0.3, weights)
    assert losses[0] == pytest.approx(7.5, rel=1e-6)
    assert gradient.item() == 1


def test_without_gradient_the_losses_are_the_same():
    cost, counts = random_cost(2, 150, 130), (np.array([150, 77]), np.array([90, 130]))
    expected, gradient, largest = computed(cost, *counts, 1, (1, 1, 2))
    losses, same_largest = strip_soft_dtw(cost, *counts, 1.0, (1.0, 1.0, 2.0), None)
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(same_largest, largest)
    assert np.isfinite(gradient).all()


def same_bits(one, other):
    return all(a.tobytes() == np.ascontiguousarray(b).tobytes() for a, b in zip(one, other, strict=True))


def test_padding_company_and_order_do_not_matter_to_the_last_bit():
    cost, frame_counts, target_counts = random_cost(5, 200, 140), np.array([200, 64, 130, 1, 77]), np.array([140, 65, 128, 9, 1])
    together = computed(cost, frame_counts, target_counts, 0.5, (0.1, 1, 1))
    order = np.array([3, 1, 4, 0, 2])
    permuted = computed(cost[order], frame_counts[order], target_counts[order], 0.5, (0.1, 1, 1))
    assert same_bits(permuted, [value[order] for value in together])
    for b, (frames, targets) in enumerate(zip(frame_counts, target_counts, strict=True)):
        alone = computed(np.ascontiguousarray(cost[b : b + 1, :frames, :targets]), [frames], [targets], 0.5, (0.1, 1, 1))
        assert same_bits(alone, (together[0][b : b + 1], together[1][b : b + 1, :frames, :targets], together[2][b : b + 1]))


@pytest.mark.parametrize(("tiles_per_thread", "smallest_tile"), [(100, 1), (1, 2), (4, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_sharing_an_item_among_threads_changes_no_bit(monkeypatch, batch, tiles_per_thread, smallest_tile):
    generator = np.random.default_rng(2)
    for frames, targets in [(700, 200), (20, 600), (1200, 64), (300, 300)]:
        cost = random_cost(batch, frames, targets)
        counts = generator.integers(1, frames + 1, batch), generator.integers(1, targets + 1, batch)
        counts[0][0], counts[1][0] = frames, targets
        enough_threads = batch + numba.config.NUMBA_NUM_THREADS  # to share items, or so the host believes
        with monkeypatch.context() as patched:
            patched.setattr(numba, "get_num_threads", lambda threads=enough_threads: threads)
            patched.setattr(cpu_strips, "TILES_PER_THREAD", tiles_per_thread)
            patched.setattr(cpu_strips, "SMALLEST_TILE", smallest_tile)
            shared = computed(cost, *counts, 0.5, (1, 1, 2))
        numba.set_num_threads(1)
        try:
            whole = computed(cost, *counts, 0.5, (1, 1, 2))
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        assert same_bits(shared, whole)


def test_the_number_of_threads_changes_no_bit():
    available = numba.config.NUMBA_NUM_THREADS
    before = numba.get_num_threads()
    results = []
    try:
        for threads in sorted({1, available}):
            numba.set_num_threads(threads)
            results += [
                computed(random_cost(1, 900, 200), [900], [200], 1, (1, 1, 2))
                + computed(random_cost(5, 90, 99), [90] * 5, [99] * 5, 1, (1, 1, 2))
            ]
    finally:
        numba.set_num_threads(before)
    assert same_bits(results[0], results[-1])


@pytest.mark.parametrize("sign", [1, -1])
def test_up_to_the_edge_of_the_range(sign):
    """Exponents of a path run to 2**28, those of a cell to 2**22."""
    cost = sign * 1e4 * (1 + np.random.default_rng(0).random((1, 60, 70), np.float32))
    scale = 0.98 * 2**21 / np.abs(cost).max()
    assert within_range(np.array([2.0**21]), np.array([125]), 1 / math.log(2), (1.0, 1.0, 1.0))
    for weights in [(1, 1, 1), (1, 1, 2), (INF, 1, 1)]:
        check(cost, [60], [70], max(w for w in weights if w < INF) / float(scale) / math.log(2), weights)


def test_beyond_the_range_nothing_is_wrong_in_silence():
    for cost, gamma, weights in [
        (3e38, 1, (1, 1, 1)),
        (1, 1e-7, (1, 1, 1)),
        (1, 1, (1, 1e30, 1)),
        (0, 1e-44, (1, 1, 1)),
        (0, 1, (1, 1, 1e300)),
        (1e3, 0.01, (1, 1, 40)),
        (-3e3, 0.01, (1, 1, 1)),
    ]:
        losses, _, largest = computed(np.full((1, 900, 3), cost, np.float32), [900], [3], gamma, weights)
        assert np.isnan(losses[0])
        assert largest[0] == abs(np.float32(cost))


@pytest.mark.parametrize("weights", [(0.3, 0.7, 1), (0.1, 1, 1.1), (0.5, 0.6, 1.1), (0.1, 1, 1), (1, 1, 2), (0.3, 0.3, 0.6)], ids=str)
@pytest.mark.parametrize("base", [700, -50])
def test_large_costs_that_differ_little(base, weights):
    """What all cells have in common is thousands of times the temperature, and what decides is the rest."""
    cost = (base + 0.05 * np.random.default_rng(0).random((1, 600, 130))).astype(np.float32)
    for gamma in (0.01, 0.1):
        check(cost, [600], [130], gamma, weights)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_cost_that_is_not_finite_shows_in_its_item_alone(value):
    cost, counts = random_cost(3, 100, 90), ([100, 100, 40], [90, 66, 90])
    expected = computed(cost, *counts, 1, (1, 1, 2))
    cost[1, 99, 65] = value
    cost[2, 40, 3] = value  # padding
    found = computed(cost, *counts, 1, (1, 1, 2))
    assert not np.isfinite(found[2][1])
    assert np.isnan(found[0][1])
    assert same_bits([part[[0, 2]] for part in found], [part[[0, 2]] for part in expected])


@pytest.mark.parametrize("shape", [(32, 500, 60), (16, 500, 500), (4, 2000, 400), (1, 4000, 1000), (1, 8000, 70)], ids=str)
def test_at_most_16_bytes_per_cell(shape):
    cost, counts = np.zeros(shape, np.float32), (np.full(shape[0], shape[1]), np.full(shape[0], shape[2]))
    gradient = np.empty_like(cost)
    strip_soft_dtw(cost[:1, :1, :1].copy(), np.array([1]), np.array([1]), 1.0, (1.0, 1.0, 2.0), None)  # compiles
    tracemalloc.start()
    try:
        strip_soft_dtw(cost, *counts, 1.0, (1.0, 1.0, 2.0), gradient)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 16 * cost.size
    assert kept < 2**16


@numba.njit(**scaled_kernels.COMPILED)
def power_and_exponent(costs, factor, same_factor, rest, powers, exponents):
    for i in range(len(costs)):
        exponents[i] = scaled_kernels.nearest_exponent(costs[i], same_factor)
        powers[i] = scaled_kernels.power_of_two(costs[i], factor, rest, exponents[i])


def test_powers_of_two_are_exact_to_the_last_bits():
    nodes = np.cos(np.pi * (np.arange(6) + 0.5) / 6) / 2
    expected = np.linalg.solve(np.vander(nodes, increasing=True), (np.exp2(nodes) - 1) / nodes)
    found = [getattr(scaled_kernels, f"P{i}") for i in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    costs = (random_cost(30_000) * 10.0 ** np.random.default_rng(0).integers(-6, 4, 30_000)).astype(np.float32)
    factor, rest, powers, exponents = np.float32(-144.3), np.float32(3e-6), np.empty_like(costs), np.empty_like(costs, np.int32)
    power_and_exponent(costs, factor, factor, rest, powers, exponents)
    np.testing.assert_array_equal(exponents, np.rint(costs.astype(float) * float(factor)))
    exact = costs.astype(float) * (float(factor) + float(rest))
    np.testing.assert_allclose(powers, np.exp2(exact - exponents), rtol=2e-7)


def test_numbers_of_any_size():
    for x in (1.0, 1.5, 1e-30, 3.7e25, 0.99999994):
        mantissa, exponent = scaled_kernels.mantissa_of(np.float32(x)), scaled_kernels.exponent_of(np.float32(x))
        assert 1 <= mantissa < 2
        assert math.ldexp(float(mantissa), int(exponent)) == np.float32(x)
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(-3)) == 0.1875
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(-127)) == 0
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(scaled_kernels.NEVER - 2**28)) == 0


@pytest.mark.parametrize("kernel", [forward_diagonal, forward_diagonal_of_one_factor, backward_diagonal])
def test_the_inner_loops_are_vectorised(kernel):
    if "+avx2" not in llvmlite.binding.get_host_cpu_features().flatten():
        pytest.skip("this processor has no AVX2")
    lanes, state, triple = np.ones(LANES, np.float32), np.ones(STATE, np.float32), (np.float32(1),) * 3
    fresh = numba.njit(**{**scaled_kernels.COMPILED, "cache": False})(kernel.py_func)  # code from the cache cannot be looked at
    if kernel is forward_diagonal:
        four, limits = (np.float32(1),) * 4, (np.int32(1),) * 3
        fresh(lanes, state, state.copy(), state.copy(), np.ones(2 * LANES, np.float32), four, four, four, limits)
    elif kernel is forward_diagonal_of_one_factor:
        one = np.float32(1)
        fresh(lanes, state, state.copy(), state.copy(), np.ones(2 * LANES, np.float32), one, one, one, np.int32(-1))
    else:
        fresh(np.ones(2 * LANES, np.float32), state, lanes, triple, np.float32(0))
    (assembly,) = fresh.inspect_asm().values()
    wide = [line for line in assembly.splitlines() if "%ymm" in line or "%zmm" in line]
    assert sum("mulps" in line or "fmadd" in line for line in wide) >= 4
    assert not any("gather" in line for line in wide)
