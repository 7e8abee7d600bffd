"""Soft-DTW in both directions of time: alignments no longer come late, and padding stays where it is."""

import pytest
import torch

from alignment.finite_differences import gradients_and_slopes
from softscribe.alignment import EQUAL_WEIGHTS, TWO_ONE_STEPS, Step, StepWeights, expected_alignment, soft_dtw
from softscribe.alignment.time_symmetry import reversed_in_time, time_symmetric_soft_dtw

LATE = [StepWeights(diagonal=2), StepWeights(horizontal=0.1), StepWeights(horizontal=0.1, vertical=3, diagonal=1.5)]


def random_cost(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss_of, cost: torch.Tensor, *counts, **options) -> torch.Tensor:
    cost = cost.clone().requires_grad_()
    loss_of(cost, *counts, **options).sum().backward()
    return cost.grad


FRAMES_PER_TARGET = 20


def centred_cost(slope: float) -> torch.Tensor:
    """A prediction that goes from each of six targets to the next half-way: no network could be more right about time."""
    frame = torch.arange(6 * FRAMES_PER_TARGET, dtype=torch.float64) + 0.5
    centre = FRAMES_PER_TARGET * (torch.arange(6, dtype=torch.float64) + 0.5)
    return torch.nn.functional.softplus(slope * ((frame[:, None] - centre).abs() - FRAMES_PER_TARGET / 2))[None]


def lateness(matrix: torch.Tensor) -> float:
    """By how many frames a target's share falls late below the next one's, averaged over the changes, where they share a frame."""
    late = []
    for target in range(matrix.shape[2] - 1):
        middle = FRAMES_PER_TARGET * (target + 1)
        window = matrix[0, middle - 10 : middle + 10, target : target + 2]
        share = window[:, 1] / window.sum(dim=1)
        before = int((share < 0.5).nonzero()[-1])
        late.append(before - 9.5 + float((0.5 - share[before]) / (share[before + 1] - share[before])))
    return sum(late) / len(late)


@pytest.mark.parametrize("slope", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("weights", [EQUAL_WEIGHTS, *LATE])
def test_changes_come_neither_late_nor_early(weights, slope):
    cost = centred_cost(slope)
    both_ways = expected_alignment(cost, weights=weights) + reversed_in_time(expected_alignment(reversed_in_time(cost), weights=weights))
    assert abs(lateness(both_ways)) < 1e-6
    assert abs(lateness(gradient(time_symmetric_soft_dtw, cost, weights=weights))) < 1e-6


@pytest.mark.parametrize(("weights", "expected"), [(LATE[0], (0.15, 0.25)), (LATE[1], (1.5, 3.0))])
def test_one_direction_alone_is_late(weights, expected):
    for slope in (0.3, 1.0):
        cost = centred_cost(slope)
        late = lateness(expected_alignment(cost, weights=weights))
        early = lateness(reversed_in_time(expected_alignment(reversed_in_time(cost), weights=weights)))
        assert expected[0] < late < expected[1]
        assert late == pytest.approx(-early)


@pytest.mark.parametrize(
    "options", [{"weights": LATE[1]}, {"steps": TWO_ONE_STEPS}, {"steps": (Step(1, 0, 0.3, 0.2), Step(1, 1), Step(1, 2, 2.0))}]
)
def test_reversing_an_item_reverses_its_gradient(options):
    cost = random_cost(2, 12, 9)
    forwards = gradient(time_symmetric_soft_dtw, cost, **options)
    backwards = gradient(time_symmetric_soft_dtw, cost.flip(1, 2), **options)
    torch.testing.assert_close(forwards, backwards.flip(1, 2))
    torch.testing.assert_close(time_symmetric_soft_dtw(cost, **options), time_symmetric_soft_dtw(cost.flip(1, 2), **options))


def test_equal_weights_had_no_direction():
    cost = random_cost(3, 14, 6)
    torch.testing.assert_close(time_symmetric_soft_dtw(cost, gamma=0.3), soft_dtw(cost, gamma=0.3))


@pytest.mark.parametrize("weights", LATE)
def test_padding_never_matters(weights):
    cost = random_cost(3, 10, 6)
    frame_counts, target_counts = torch.tensor([10, 4, 7]), torch.tensor([3, 6, 1])
    alone = [(cost[b : b + 1, :n, :m]) for b, (n, m) in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True))]
    padded = torch.full_like(cost, torch.nan)
    for item, own in enumerate(alone):
        padded[item, : own.shape[1], : own.shape[2]] = own[0]
    truth = torch.cat([time_symmetric_soft_dtw(own, weights=weights) for own in alone])
    torch.testing.assert_close(time_symmetric_soft_dtw(padded, frame_counts, target_counts, weights=weights), truth)
    found = gradient(time_symmetric_soft_dtw, padded, frame_counts, target_counts, weights=weights)
    for item, own in enumerate(alone):
        _, frames, targets = own.shape
        torch.testing.assert_close(found[item, :frames, :targets], gradient(time_symmetric_soft_dtw, own, weights=weights)[0])
        assert (found[item, frames:] == 0).all()
        assert (found[item, :, targets:] == 0).all()


def test_reversing_twice_changes_nothing():
    cost, counts = random_cost(3, 5, 4), (torch.tensor([5, 1, 3]), torch.tensor([2, 4, 3]))
    assert torch.equal(reversed_in_time(reversed_in_time(cost, *counts), *counts), cost)
    assert torch.equal(reversed_in_time(cost), cost.flip(1, 2))
    assert torch.equal(reversed_in_time(cost, None, torch.tensor([4, 4, 4])), cost.flip(1, 2))


def test_finite_differences():
    counts = torch.tensor([5, 3]), torch.tensor([3, 4])

    def losses(cost: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return time_symmetric_soft_dtw(cost, *(axis[items] for axis in counts), gamma=0.5, weights=LATE[1])

    (gradient,), ((slopes,),) = gradients_and_slopes(losses, random_cost(2, 5, 4))
    torch.testing.assert_close(gradient, slopes, atol=1e-7, rtol=0)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("counts", "options", "words"),
    [
        ((), {"validate": 1}, "validate: 1.*Remedy"),
        ((), {"steps": (Step(1, 1), Step(1, 0, weight=torch.ones(4)))}, r"steps\[1\]: .*Remedy"),
        ((), {"steps": (Step(1, 1, cost=torch.ones(4)), Step(1, 0))}, r"steps\[0\]: .*Remedy"),
        ((torch.tensor([5, 9]),), {}, "frame_counts: item 1 has 9.*Remedy"),
        ((torch.tensor([5]),), {}, "frame_counts: shape.*Remedy"),
        ((), {"steps": [(1, 1)]}, r"steps: \[\(1, 1\)\].*Remedy"),
        ((), {"steps": 5}, "steps: 5.*Remedy"),
        ((), {"gamma": -1.0}, "gamma: -1.0.*Remedy"),
    ],
)
def test_what_is_refused(counts, options, words):
    with pytest.raises(ValueError, match=words):
        time_symmetric_soft_dtw(torch.zeros(2, 5, 4), *counts, **options)
