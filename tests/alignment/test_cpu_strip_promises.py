"""What the fast CPU kernel promises: the same bits in any company and on any number of threads, its range, its memory."""

import tracemalloc

import numba
import numpy as np
import pytest

from alignment.fast_cpu_kernel import computed, random_cost
from softscribe.alignment.cpu import strips as cpu_strips
from softscribe.alignment.cpu.strips import strip_soft_dtw


def test_without_gradient_the_losses_are_the_same():
    cost, counts = random_cost(2, 150, 130), (np.array([150, 77]), np.array([90, 130]))
    expected, gradient = computed(cost, *counts, 1, (1, 1, 2))
    losses = strip_soft_dtw(cost, *counts, 1.0, (1.0, 1.0, 2.0), None)
    np.testing.assert_array_equal(losses, expected)
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
        assert same_bits(alone, (together[0][b : b + 1], together[1][b : b + 1, :frames, :targets]))


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
        losses, _ = computed(np.full((1, 900, 3), cost, np.float32), [900], [3], gamma, weights)
        assert np.isnan(losses[0])


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_cost_that_is_not_finite_shows_in_its_item_alone(value):
    cost, counts = random_cost(3, 100, 90), ([100, 100, 40], [90, 66, 90])
    expected = computed(cost, *counts, 1, (1, 1, 2))
    cost[1, 99, 65] = value
    cost[2, 40, 3] = value  # padding
    found = computed(cost, *counts, 1, (1, 1, 2))
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
