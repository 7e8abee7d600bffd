"""Health numbers against plain counting on matrices whose alignment is known, and against what may not change them."""

import math

import numpy as np
import pytest
import torch

from all_paths import Graph
from softscribe.alignment import TWO_ONE_STEPS, Step, StepWeights, Subsequence, align, bce_cost
from softscribe.health import activation_health, alignment_health, diagonalization, health_numbers
from softscribe.health.alignment_health import target_groups
from softscribe.health.diagonalization import LARGEST_WARP, NEUTRAL, mean_onset_frames, rewarped_rows
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


def test_the_ratio_is_that_of_distances_from_even_timing_and_a_prior_that_holds_the_diagonal_lowers_it() -> None:
    """By the definition: positions of E in shares of the targets, against times in shares of the frames; free ends are left out."""
    generator = torch.Generator().manual_seed(3)
    cost = 8 * torch.rand(2, 20, 15, generator=generator)
    counts = torch.tensor([20, 13]), torch.tensor([15, 9])
    prior = 3 * ((torch.arange(20)[:, None] / 20 - torch.arange(15) / 15).abs() * 15)[None].expand(2, -1, -1)
    for options in ({"weights": StepWeights(horizontal=0.3)}, {"weights": NEUTRAL, "boundaries": Subsequence(frames="both")}):
        found = diagonalization(cost, *counts, targets=torch.rand(2, 15, 4, generator=generator), prior=prior, seed=0, **options)
        for item, (frames, rows) in enumerate(zip(*(count.tolist() for count in counts), strict=True)):
            inside = cost[item : item + 1, :frames, :rows].double()
            distances = []
            for matrix, each in ((inside + prior[item, :frames, :rows], options), (inside, {**options, "weights": NEUTRAL})):
                expected = align(matrix, **each).expected_alignment[0].numpy()
                passed = expected.sum(axis=1) > 1e-3
                at = (expected[passed] @ (np.arange(rows) + 0.5)) / expected[passed].sum(axis=1) / rows
                beside = np.maximum(np.abs(at - ((np.arange(frames) + 0.5) / frames)[passed]) - 0.5 / rows, 0)
                distances.append(np.sqrt(np.mean(beside**2)))
            assert float(found.neutral_distance_ratio[item]) == pytest.approx(distances[0] / distances[1], rel=1e-6)
    assert (found.neutral_distance_ratio < 0.9).all()


def test_repeated_targets_are_one_target() -> None:
    targets = torch.eye(3).repeat_interleave(torch.tensor([2, 5, 4]), dim=0)[None]
    cost = 30 * (1 - torch.eye(3).repeat_interleave(torch.tensor([8, 2, 1]), dim=0)[None] @ targets.mT)
    health = alignment_health(cost, targets=targets, gamma=SHARP, weights=StepWeights(diagonal=2))
    assert float(health.largest_target_share) == pytest.approx(8 / 11, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.2, 1.0, 5.0])
def test_the_spread_of_entries_is_the_distance_of_two_random_paths(gamma: float) -> None:
    """Over all paths that hold one target in each frame, gone through one by one."""
    rng = np.random.default_rng(0)
    cost = rng.uniform(0, 4, size=(9, 4))
    one_target_per_frame = [(1, 0, 1.0, 0.0), (1, 1, 2.0, 0.0)]
    graph = Graph(cost, one_target_per_frame, starts={(0, 0): (1.0, 0.0)}, ends={(8, 3): (0.0, 0.0)})
    paths = list(graph.paths())
    probabilities = np.exp([(min(map(graph.path_cost, paths)) - graph.path_cost(path)) / gamma for path in paths])
    probabilities /= probabilities.sum()
    entered = np.array([[min(frame for (frame, row), *_ in path if row >= target) for target in range(1, 4)] for path in paths])
    pairs = np.abs(entered[:, None] - entered).mean(axis=2)
    steps = [Step(frames, targets, weight) for frames, targets, weight, _ in one_target_per_frame]
    health = alignment_health(torch.from_numpy(cost)[None], gamma=gamma, steps=steps)
    assert float(health.entry_spread_frames) == pytest.approx(probabilities @ pairs @ probabilities, rel=1e-6)


def test_a_frame_that_holds_several_targets_is_shared_among_them() -> None:
    """One path; at its last frame, of four targets, it is a quarter in each: F is 3/4, 1/2 and 1/4."""
    cost = torch.full((1, 9, 4), 9.0)
    cost[0, :, 0] = cost[0, 8] = 0.0
    health = alignment_health(cost, operator="hard")
    assert float(health.entry_spread_frames) == pytest.approx(2 * (3 / 16 + 4 / 16 + 3 / 16) / 3)
    assert alignment_health(torch.rand(1, 12, 12)).entry_spread_share.isfinite().all(), "as many targets as frames are enough"
    crowded = health_numbers(torch.rand(1, 3, 12), targets=torch.eye(12)[None])
    assert math.isnan(crowded["entry_spread_share"]), "twelve targets cannot be told apart in three frames"


def test_costs_of_steps_are_no_sharpness() -> None:
    """They hold where the costs know nothing, too, at the temperature of the loss."""
    steps = [Step(1, 0), Step(1, 1, cost=20.0)]
    for gamma in (1.0, 10.0):
        assert float(alignment_health(torch.zeros(1, 30, 5), steps=steps, gamma=gamma).entry_spread_share) == pytest.approx(1)


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


def test_company_never_matters_to_counterfactuals() -> None:
    """An item alone, and before a longer one in a batch whose padding holds anything."""
    generator = torch.Generator().manual_seed(5)
    targets = (torch.rand(2, 8, 12, generator=generator) > 0.6).float().repeat_interleave(6, dim=1)
    cost, prior = 4 * torch.rand(2, 50, 48, generator=generator), torch.rand(2, 50, 48, generator=generator)
    cost[0, 31:], cost[0, :, 30:], prior[0, 31:], prior[0, :, 30:] = 1e6, -1e6, 1e6, 1e6
    options = {"weights": StepWeights(horizontal=0.5), "gamma": 2.0, "seed": 4}
    together = diagonalization(cost, torch.tensor([31, 50]), torch.tensor([30, 48]), targets=targets, prior=prior, **options)
    alone = diagonalization(cost[:1, :31, :30], targets=targets[:1, :30], prior=prior[:1, :31, :30], **options)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[:1], other)
        assert one[0] != one[1]


def test_music_that_is_not_written_hides_no_collapse() -> None:
    """One of six targets has 75 of 80 frames, beside music that the path leaves out: the same numbers, and the same alarm."""
    cost = certain_cost([1, 1, 75, 1, 1, 1], price=8.0)
    unwritten = torch.full((1, 50, 6), 30.0)
    alone = alignment_health(cost, weights=NEUTRAL)
    beside = alignment_health(torch.cat([unwritten, cost, unwritten], dim=1), weights=NEUTRAL, boundaries=Subsequence(frames="both"))
    assert float(alone.largest_target_share) > 0.9
    for one, other in zip(alone, beside, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_long_steps_leave_out_move_no_onset(seed: int) -> None:
    """A hard path that skips spoiled frames enters each target where it first holds it."""
    groups = torch.arange(6).repeat_interleave(3)[None]
    steps = [Step(1, 0), Step(1, 1), Step(2, 0), Step(2, 1)]
    cost = 10 * torch.rand(1, 40, 18, generator=torch.Generator().manual_seed(seed))
    cost[:, [7, 12, 20, 31]] = 1e4
    expected = align(cost.double(), steps=steps, operator="hard").expected_alignment
    assert (expected.sum(dim=2) == 0).any()
    passed = [(frame, int(groups[0, row])) for frame, row in expected[0].nonzero().tolist()]
    entered = [min(frame for frame, target in passed if target >= each) for each in range(6)]
    torch.testing.assert_close(mean_onset_frames(expected, groups), torch.tensor([entered]).double())


def test_frames_that_free_ends_leave_out_come_after_all_targets() -> None:
    """Sound costs, beside music that is not written: the path leaves that out, and onsets follow the costs as without it."""
    targets = torch.eye(6).repeat_interleave(8, dim=0)[None]
    truth = torch.eye(6).repeat_interleave(torch.tensor([12, 5, 9, 4, 8, 10]), dim=0)[None]
    cost = 20 * (1 - truth @ targets.mT)
    unwritten = torch.full((1, 30, 48), 40.0)
    options = {"targets": targets, "seed": 0, "weights": NEUTRAL}
    alone = diagonalization(cost, **options)
    beside = diagonalization(torch.cat([unwritten, cost, unwritten], dim=1), boundaries=Subsequence(frames="both"), **options)
    assert float(beside.rewarp_following) == pytest.approx(float(alone.rewarp_following), abs=0.05)
    assert abs(float(alone.rewarp_following)) < 0.05
    expected = align(cost, gamma=1.0).expected_alignment
    groups = target_groups(cost, torch.tensor([48]), targets)
    left_out = torch.nn.functional.pad(expected, (0, 0, 0, 30))
    torch.testing.assert_close(mean_onset_frames(left_out, groups), mean_onset_frames(expected, groups))


@pytest.mark.parametrize("seed", range(5))
def test_rewarping_keeps_all_targets_and_their_number(seed: int) -> None:
    counts = torch.tensor([60, 41])
    groups = target_groups(torch.zeros(2, 9, 60), counts, torch.randint(0, 2, (2, 60, 2), generator=torch.Generator().manual_seed(seed)))
    warped = groups.gather(1, rewarped_rows(groups, counts, seed))
    for item, count in enumerate(counts.tolist()):
        before, after = (np.bincount(rows[item, :count].numpy()) for rows in (groups, warped))
        assert len(before) == len(after)
        assert after.min() >= 1
        assert (np.diff(warped[item, :count].numpy()) >= 0).all()
        assert after.max() <= before.max() * LARGEST_WARP**2 + 1
    twins = rewarped_rows(groups[:1].repeat(2, 1), counts[:1].repeat(2), seed)
    assert not torch.equal(*twins), "each item is drawn anew"


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
    places = 30.0 * (torch.arange(60)[:, None] - (10 * torch.arange(6) + 4.5)).abs()[None]
    once = diagonalization(cost[:, :, ::10], targets=targets[:, ::10], prior=places, seed=0, weights=NEUTRAL, gamma=1.0)
    assert torch.isnan(once.rewarp_following), "nothing is repeated"
    assert float(once.neutral_distance_ratio) < 0.35, "which tells the same of unique targets"
    even = torch.eye(6).repeat_interleave(10, dim=0)[None]
    played = diagonalization(20 * (1 - even @ targets.mT), targets=targets, prior=30.0 * distance, seed=0, weights=NEUTRAL, gamma=1.0)
    assert torch.isnan(played.neutral_distance_ratio), "an even performance is diagonal by itself"


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


def test_corrupted_frames_collapse_a_good_prediction_unless_repetition_is_cheap() -> None:
    """Eight of sixty frames are certain of one wrong target; means over twenty matrices (docs/alignment.md)."""
    shares: dict[tuple[int, float], list[float]] = {}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        chords = (torch.rand(1, 12, 12, generator=generator) > 0.7).float()
        truth = torch.sort(torch.cat([torch.arange(12), torch.randint(12, (48,), generator=generator)])).values
        good = 2 * chords[:, truth] - 1 + torch.randn(1, 60, 12, generator=generator)
        corrupted = good.clone()
        corrupted[:, torch.randperm(60, generator=generator)[:8]] = 8 * (2 * chords[:, 5] - 1)
        for count, logits in ((0, good), (8, corrupted)):
            for horizontal in (1.0, 0.1):
                health = alignment_health(bce_cost(logits, chords), targets=chords, weights=StepWeights(horizontal=horizontal))
                shares.setdefault((count, horizontal), []).append(float(health.largest_target_share))
    mean = {case: np.mean(values) for case, values in shares.items()}
    assert mean[8, 1.0] > 2 * mean[0, 1.0]
    assert mean[8, 0.1] < mean[8, 1.0] / 2
    assert mean[8, 0.1] < 1.5 * mean[0, 0.1]


def test_equal_lengths_make_equal_weights_diagonal() -> None:
    """Costs that know nothing, as many targets as frames: the distance of E from the diagonal, in frames (docs/alignment.md)."""
    diagonal = torch.arange(60) + 0.0
    apart = {}
    for name, weights in {"1-1-1": StepWeights(), "1-1-2": NEUTRAL}.items():
        expected = align(torch.full((1, 60, 60), 12 * float(np.log(2))), weights=weights, gamma=1.0).expected_alignment[0]
        mean_row = expected @ diagonal / expected.sum(dim=1)
        apart[name] = float(((expected * (diagonal - mean_row[:, None]).square()).sum(dim=1) / expected.sum(dim=1)).mean().sqrt())
    assert apart["1-1-1"] < 1 < 3 < apart["1-1-2"]


def test_the_entropy_is_a_share_of_that_of_ignorance_however_many_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = []
    for rows in (8, 40):
        targets = torch.eye(8).repeat_interleave(rows // 8, dim=0)[None]
        truth = torch.eye(8).repeat_interleave(torch.tensor([3, 9, 2, 7, 5, 4, 6, 4]), dim=0)[None]
        sure = 30 * (1 - truth @ targets.mT) + torch.rand(1, 40, rows, generator=generator)
        shares.append([float(alignment_health(scale * sure, targets=targets, gamma=1.0).path_entropy_share) for scale in (0.0, 0.02, 1.0)])
    for ignorant, doubtful, certain in shares:
        assert ignorant == pytest.approx(1)
        assert certain < doubtful < ignorant
    assert shares[0][2] < 0.05, "rows of one target have paths between them that cost the same; single targets have not"
    assert torch.isnan(alignment_health(torch.rand(1, 1, 3)).path_entropy_share), "a single path"
