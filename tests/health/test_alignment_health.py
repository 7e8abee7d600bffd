"""Health numbers against plain counting on matrices whose alignment is known, and against what may not change them."""

import math

import numpy as np
import pytest
import torch

from softscribe.alignment import TWO_ONE_STEPS, StepWeights, align, bce_cost
from softscribe.health import activation_health, alignment_health, diagonalization, health_numbers
from softscribe.health.alignment_health import entries, frame_shares, target_groups
from softscribe.health.diagonalization import LARGEST_WARP, rewarped_rows
from softscribe.health.monitor import NUMBERS_OF_COLLAPSE

SHARP = 0.01


def certain_cost(frames_of_target: list[int], price: float = 30.0) -> torch.Tensor:
    """A cost whose only good path gives each target so many frames."""
    truth = torch.repeat_interleave(torch.eye(len(frames_of_target)), torch.tensor(frames_of_target), dim=0)
    return price * (1 - truth)[None]


@pytest.mark.parametrize("frames_of_target", [[5, 5, 5, 5], [1, 1, 17, 1], [8], [2, 9, 1]])
def test_frames_per_target_are_counted(frames_of_target: list[int]) -> None:
    health = alignment_health(certain_cost(frames_of_target), gamma=SHARP, weights=StepWeights(diagonal=2))
    assert float(health.largest_target_share) == pytest.approx(max(frames_of_target) / sum(frames_of_target), abs=1e-6)
    pairs = np.abs(np.subtract.outer(frames_of_target, frames_of_target)).mean()
    assert float(health.target_gini) == pytest.approx(pairs / (2 * np.mean(frames_of_target)), abs=1e-6)
    assert float(health.entry_spread_frames) == pytest.approx(0, abs=1e-6)


def test_crowded_frames_are_counted() -> None:
    """Ten targets in the last of ten frames."""
    cost = torch.full((1, 10, 10), 9.0)
    cost[0, :, 0] = 0.0
    cost[0, 9] = 0.0
    health = alignment_health(cost, gamma=SHARP)
    assert float(health.largest_frame_share) >= 0.9
    assert float(health.largest_target_share) > 0.9


def test_even_timing_has_no_distance_from_itself_and_an_early_start_has() -> None:
    uneven = [1, 1, 1, 1, 16]
    distances = [float(alignment_health(certain_cost(counts), gamma=SHARP).diagonal_distance_frames) for counts in ([4] * 5, uneven)]
    assert distances[0] < 2
    positions = np.repeat(np.arange(5), uneven) + 0.5
    expected = 20 * np.sqrt(np.mean((positions / 5 - (np.arange(20) + 0.5) / 20) ** 2))
    assert distances[1] == pytest.approx(expected, rel=1e-6)


def test_repeated_targets_are_one_target() -> None:
    targets = torch.eye(3).repeat_interleave(torch.tensor([2, 5, 4]), dim=0)[None]
    cost = 30 * (1 - torch.eye(3).repeat_interleave(torch.tensor([8, 2, 1]), dim=0)[None] @ targets.mT)
    health = alignment_health(cost, targets=targets, gamma=SHARP, weights=StepWeights(diagonal=2))
    assert float(health.largest_target_share) == pytest.approx(8 / 11, abs=1e-6)


def test_the_spread_of_entries_is_the_distance_of_two_random_paths() -> None:
    """Two targets, costs of 0: the entry is equally likely anywhere, by enumeration of all paths."""
    frames, gamma = 7, 1.0
    health = alignment_health(torch.zeros(1, frames, 2), gamma=gamma)
    expected = align(torch.zeros(1, frames, 2).double(), gamma=gamma).expected_alignment
    entered = entries(frame_shares(expected, torch.tensor([[0, 1]])))[0, :, 1]
    steps = torch.diff(entered, prepend=torch.zeros(1))
    steps = torch.cat([steps, 1 - entered[-1:]])
    times = torch.arange(len(steps)).double()
    distance = (steps[:, None] * steps * (times[:, None] - times).abs()).sum()
    assert float(health.entry_spread_frames) == pytest.approx(float(distance), abs=1e-9)


@pytest.mark.parametrize(
    ("repeats", "options"), [(1, {}), (5, {}), (1, {"weights": StepWeights(diagonal=2)}), (5, {"steps": TWO_ONE_STEPS})]
)
def test_the_share_of_blur_is_one_if_all_paths_are_equally_likely(repeats: int, options: dict) -> None:
    """With unique targets as with repeated ones, for any number of frames, and so with any frame rate."""
    targets = torch.eye(8).repeat_interleave(repeats, dim=0)[None]
    shares = [alignment_health(torch.zeros(1, frames, 8 * repeats), targets=targets, **options).entry_spread_share for frames in (40, 60)]
    torch.testing.assert_close(torch.cat(shares), torch.ones(2).double())
    truth = torch.arange(40) // 5
    blurs = [
        float(alignment_health(3.0 * (1 - targets[:, ::repeats][:, truth] @ targets.mT), targets=targets, gamma=gamma).entry_spread_share)
        for gamma in (SHARP, 1, 10, 1000)
    ]
    assert blurs == sorted(blurs)
    assert blurs[0] < 0.01
    assert blurs[-1] > 0.9


def test_a_single_target_has_no_entry() -> None:
    assert math.isnan(float(alignment_health(torch.rand(1, 9, 1)).entry_spread_share))
    hard = alignment_health(certain_cost([3, 4, 2]), operator="hard")
    assert float(hard.entry_spread_share) == 0, "one path has no spread"


def test_padding_and_company_never_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(2, 30, 12, generator=generator) > 0.7).float().repeat_interleave(2, dim=1)
    logits = torch.randn(2, 50, 12, generator=generator)
    frame_counts, target_counts = torch.tensor([50, 31]), torch.tensor([60, 22])
    cost = bce_cost(logits, targets)
    cost[1, 31:], cost[1, :, 22:] = torch.nan, torch.nan
    options = {"weights": StepWeights(diagonal=2), "gamma": 0.7}
    together = alignment_health(cost, frame_counts, target_counts, targets=targets, **options)
    alone = alignment_health(cost[1:, :31, :22], targets=targets[1:, :22], **options)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:], other)
    heard = activation_health(logits, targets, frame_counts, target_counts)
    heard_alone = activation_health(logits[1:, :31], targets[1:, :22])
    for one, other in zip(heard, heard_alone, strict=True):
        torch.testing.assert_close(one[1:], other)


def test_a_higher_temperature_spreads_the_entries() -> None:
    cost = certain_cost([6] * 8, price=3.0)
    spreads = [
        float(alignment_health(cost, gamma=gamma, weights=StepWeights(diagonal=2)).entry_spread_frames) for gamma in (0.1, 1, 10, 100)
    ]
    assert spreads == sorted(spreads)
    assert spreads[-1] > 10 * max(spreads[0], 0.01)


@pytest.mark.parametrize("seed", range(5))
def test_rewarping_keeps_all_targets_and_their_number(seed: int) -> None:
    counts = torch.tensor([60, 41])
    groups = target_groups(torch.zeros(2, 9, 60), counts, torch.randint(0, 2, (2, 60, 2), generator=torch.Generator().manual_seed(seed)))
    warped = groups.gather(1, rewarped_rows(groups, counts, np.random.default_rng(seed)))
    for item, count in enumerate(counts.tolist()):
        before, after = (np.bincount(rows[item, :count].numpy()) for rows in (groups, warped))
        assert len(before) == len(after)
        assert after.min() >= 1
        assert (np.diff(warped[item, :count].numpy()) >= 0).all()
        assert after.max() <= before.max() * LARGEST_WARP**2 + 1


def test_what_follows_the_costs_and_what_follows_the_guess() -> None:
    """Between costs that know nothing and costs that are sure, following falls; weights 1-1-1 follow the guess longer than 1-1-2."""
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(4, 8, 12, generator=generator) > 0.6).float().repeat_interleave(12, dim=1)
    lengths = torch.tensor([20, 5, 13, 8, 17, 9, 6, 18])
    truth = targets[:, ::12].repeat_interleave(lengths, dim=1)
    following = {}
    for weights in (StepWeights(), StepWeights(diagonal=2)):
        for certainty in (0.0, 0.5, 6.0):
            cost = bce_cost(certainty * (2 * truth - 1), targets)
            result = diagonalization(cost, targets=targets, seed=0, weights=weights, gamma=1.0)
            following[weights, certainty] = float(result.rewarp_following.mean())
    for weights in (StepWeights(), StepWeights(diagonal=2)):
        assert following[weights, 0.0] > 0.8
        assert following[weights, 6.0] < 0.1
    assert following[StepWeights(), 0.5] > following[StepWeights(diagonal=2), 0.5]


def test_a_prior_that_outweighs_sure_costs_is_found() -> None:
    """A prior belongs to places, not to targets: where it decides, targets that change places move along, however sure the costs are."""
    targets = torch.eye(6).repeat_interleave(10, dim=0)[None]
    truth = torch.eye(6).repeat_interleave(torch.tensor([16, 5, 12, 4, 8, 15]), dim=0)[None]
    cost = 20 * (1 - truth @ targets.mT)
    distance = (torch.arange(60)[:, None] - torch.arange(60)).abs()[None].float()
    results = [
        diagonalization(cost, targets=targets, prior=weight * distance, seed=0, weights=StepWeights(diagonal=2), gamma=1.0)
        for weight in (0.0, 5.0, 30.0)
    ]
    without = diagonalization(cost, targets=targets, seed=0, weights=StepWeights(diagonal=2), gamma=1.0)
    assert torch.equal(results[0].rewarp_following, without.rewarp_following)
    assert float(results[0].rewarp_following) < 0.05 < float(results[1].rewarp_following) < 0.95 < float(results[2].rewarp_following)
    assert float(results[2].neutral_distance_ratio) < 0.2 < float(results[0].neutral_distance_ratio) == 1.0
    numbers = health_numbers(cost, targets=targets, prior=30.0 * distance, weights=StepWeights(diagonal=2))
    assert numbers["rewarp_following"] > 0.95
    assert numbers["diagonal_distance_frames"] < 1.5


def test_widths_of_ramps_and_density() -> None:
    for width in (1, 4, 10):
        steps = torch.cat([torch.zeros(5), torch.linspace(0, 1, width + 1), torch.ones(5)])[None, :, None].clamp(1e-6, 1 - 1e-6)
        health = activation_health(steps.logit(), torch.tensor([[[0], [1]]]))
        assert float(health.change_width_frames) == pytest.approx(width, rel=1e-3)
    silent = activation_health(torch.full((1, 9, 12), -20.0), torch.ones(1, 3, 12))
    assert float(silent.density_ratio) == pytest.approx(0, abs=1e-6)


def test_a_single_target_has_no_following_and_no_spread() -> None:
    numbers = health_numbers(torch.rand(1, 9, 1), targets=torch.ones(1, 1, 4))
    assert math.isnan(numbers["rewarp_following"])
    assert numbers["entry_spread_frames"] == 0


@pytest.mark.usefixtures("without_shape_types")
def test_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"targets: shape .*Remedy"):
        alignment_health(torch.rand(1, 9, 3), targets=torch.ones(1, 4, 2))
    for prior in (torch.zeros(1, 9, 1), 5.0):
        with pytest.raises(ValueError, match=r"prior: (shape|5.0) .*Remedy"):
            health_numbers(torch.rand(1, 9, 3), targets=torch.ones(1, 3, 2), prior=prior)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"logits, targets: .*Remedy"):
        activation_health(torch.rand(1, 9, 3), torch.ones(1, 4, 2))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_targets_say_nothing_about_collapse(count: int) -> None:
    """One target has all frames by nature; it is left out, beside others, and alone raises nothing."""
    targets = torch.zeros(1, count, 4)
    targets[0, :, :count] = torch.eye(count)
    few = health_numbers(torch.rand(1, 60, count), targets=targets)
    assert all(math.isnan(few[name]) for name in NUMBERS_OF_COLLAPSE)
    both = torch.cat([torch.nn.functional.pad(targets, (0, 0, 0, 8 - count)), torch.eye(8)[None, :, :4]])
    cost = torch.rand(2, 60, 8)
    together = health_numbers(cost, target_counts=torch.tensor([count, 8]), targets=both)
    alone = health_numbers(cost[1:], targets=both[1:])
    assert [together[name] for name in NUMBERS_OF_COLLAPSE] == pytest.approx([alone[name] for name in NUMBERS_OF_COLLAPSE])


def test_silence_that_is_written_hides_no_silence_that_is_not() -> None:
    """A rest of eight segments, and a network that says nothing at all; padding may hold anything."""
    targets = (torch.rand(8, 6, 12, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    targets[7] = 0
    logits = torch.full((8, 60, 12), -8.0)
    frame_counts = torch.full((8,), 60)
    frame_counts[2] = 40
    logits[2, 40:] = torch.nan
    heard = activation_health(logits, targets, frame_counts)
    assert math.isnan(float(heard.density_ratio[7]))
    assert (heard.density_ratio[:7] < 0.01).all()
    assert torch.isnan(heard.change_width_frames).all(), "nothing changes"
