"""What training minimises: baselines against plain formulas, the prior's shape, and what padding may not change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softscribe.alignment import StepWeights, bce_cost
from softscribe.errors import InputError
from softscribe.health import health_numbers
from softscribe.models import CONTEXT_FRAMES
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, train
from softscribe.training.energy import KNOWN_FEATURES, energy_loss
from softscribe.training.losses import SdtwLoss, create_loss, diagonal_prior_cost, framewise_cost
from softscribe.training.segments import Batch

CONSTANT = {"gamma": {"start": 0.5}, "diagonal_prior": {"start": 0.0}}


def batch_of(targets: list[torch.Tensor], frame_counts: list[int]) -> Batch:
    padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    counts = torch.tensor([len(target) for target in targets])
    frames = max(frame_counts)
    return Batch(torch.zeros(len(targets), 1, frames, 1), torch.tensor(frame_counts), padded, counts, None, torch.arange(len(targets)))


def test_an_item_weighs_the_same_alone_and_in_a_padded_batch() -> None:
    torch.manual_seed(0)
    targets = [torch.randint(0, 2, (count, 12)).float() for count in (5, 9)]
    logits = torch.randn(2, 30, 12)
    loss = SdtwLoss(**CONSTANT)
    alone = [loss(logits[[item], :frames], batch_of([targets[item]], [frames]), 0.0) for item, frames in ((0, 20), (1, 30))]
    together = loss(logits, batch_of(targets, [20, 30]), 0.0)
    torch.testing.assert_close(together, sum(alone) / 2)


def test_with_one_target_per_frame_in_place_the_loss_is_not_above_the_framewise_one() -> None:
    """The diagonal, charged twice per frame, is one of the paths over which the soft minimum goes."""
    torch.manual_seed(1)
    truth = torch.randint(0, 2, (1, 40, 12)).float()
    logits = 4 * (truth - 0.5) + torch.randn(1, 40, 12)
    loss = SdtwLoss(**CONSTANT)(logits, batch_of([truth[0]], [40]), 0.0)
    assert loss <= 2 * framewise_cost(logits, truth, torch.tensor([40])).mean()


def test_validation_cost_does_not_move_with_the_schedules() -> None:
    torch.manual_seed(2)
    targets = torch.randint(0, 2, (20, 12)).float()
    logits, batch = torch.randn(1, 20, 12), batch_of([targets], [20])
    settings = {"gamma": {"start": 5.0, "end": 0.5, "shape": "geometric"}, "diagonal_prior": {"start": 3.0, "end": 0.0, "shape": "linear"}}
    annealed = SdtwLoss(**settings)
    assert annealed(logits, batch, 0.0) != annealed(logits, batch, 1.0)
    torch.testing.assert_close(annealed.validation_cost(logits, batch), SdtwLoss(**CONSTANT).validation_cost(logits, batch))


def test_every_quantity_follows_its_schedule() -> None:
    """At either end the loss is that of the values there, and validation knows the last ones alone."""
    torch.manual_seed(4)
    targets = torch.randint(0, 2, (20, 12)).float()
    batch = batch_of([targets], [20])._replace(features=torch.rand(1, 6, 20 + 2 * CONTEXT_FRAMES, 216))
    logits = torch.randn(1, 20, 12)
    linear = {"end": 1.0, "shape": "linear"}
    changing = SdtwLoss(**CONSTANT, horizontal={"start": 0.1, **linear}, diagonal={"start": 2, **linear}, energy={"start": 3, **linear})
    first = SdtwLoss(**CONSTANT, horizontal=0.1, diagonal=2, energy=3)
    last = SdtwLoss(gamma=0.5, diagonal_prior=0, horizontal=1, diagonal=1, energy={"start": 1})
    assert changing(logits, batch, 0.0) == first(logits, batch, 0.0)
    assert changing(logits, batch, 1.0) == last(logits, batch, 0.3)
    assert changing.validation_cost(logits, batch) == last.validation_cost(logits, batch)
    assert list(changing.schedules()) == ["gamma", "diagonal_prior", "energy", "horizontal", "diagonal"]
    assert list(last.schedules()) == ["gamma", "diagonal_prior"]


def test_what_is_in_force_is_what_is_computed_with() -> None:
    """A relief raises gamma and prior above their schedules; what the loss says of itself then gives the same loss without a relief."""
    torch.manual_seed(6)
    logits, batch = torch.randn(1, 20, 12), batch_of([torch.randint(0, 2, (20, 12)).float()], [20])
    settings = {"gamma": {"start": 5.0, "end": 0.5, "shape": "geometric"}, "diagonal_prior": {"start": 3.0, "end": 0.0, "shape": "linear"}}
    relieved = SdtwLoss(**settings)
    without = relieved.in_force(0.3)
    relieved.relief = 0.5
    raised = relieved.in_force(0.3)
    assert raised["gamma"] > without["gamma"]
    assert raised["diagonal_prior"] > without["diagonal_prior"]
    torch.testing.assert_close(relieved(logits, batch, 0.3), SdtwLoss(**raised)(logits, batch, 0.3))


def test_the_final_alignment_keeps_a_prior_that_stays_and_drops_one_that_ends() -> None:
    torch.manual_seed(7)
    cost, counts = 10 * torch.rand(1, 20, 20), torch.tensor([20])
    ending, staying, none = ({"start": 50.0, "end": 0.0, "shape": "linear"}, 50.0, 0.0)
    found = [SdtwLoss(gamma=1.0, diagonal_prior=prior).final_alignment(cost, counts, counts) for prior in (ending, staying, none)]
    torch.testing.assert_close(found[0], found[2])
    assert (found[1] - found[2]).abs().max() > 0.01


def test_the_final_alignment_of_a_time_symmetric_loss_is_not_late() -> None:
    """Where the costs of two targets cross in the middle, a small horizontal weight enters the second late, both directions in time."""
    logits = torch.linspace(-1.5, 1.5, 60)[None, :, None] * torch.tensor([-1.0, 1.0])
    cost, counts = bce_cost(logits, torch.eye(2)[None]), (torch.tensor([60]), torch.tensor([2]))
    entered = [
        float(SdtwLoss(**CONSTANT, horizontal=0.1, time_symmetric=symmetric).final_alignment(cost, *counts)[0, :, 0].sum())
        for symmetric in (False, True)
    ]
    assert entered[0] > 32
    assert entered[1] == pytest.approx(30.5, abs=0.6)
    padded = torch.nn.functional.pad(cost, (0, 3, 0, 5), value=7.0)
    symmetric = SdtwLoss(**CONSTANT, horizontal=0.1, time_symmetric=True)
    torch.testing.assert_close(symmetric.final_alignment(padded, *counts)[:, :60, :2], symmetric.final_alignment(cost, *counts))


def test_the_time_symmetric_loss_has_no_direction_of_time() -> None:
    torch.manual_seed(5)
    targets = torch.randint(0, 2, (7, 12)).float()
    logits = torch.randn(1, 20, 12)
    forwards, backwards = batch_of([targets], [20]), batch_of([targets.flip(0)], [20])
    symmetric, plain = (SdtwLoss(**CONSTANT, horizontal=0.1, time_symmetric=value) for value in (True, False))
    torch.testing.assert_close(symmetric(logits, forwards, 0.0), symmetric(logits.flip(1), backwards, 0.0))
    one, other = plain(logits, forwards, 0.0), plain(logits.flip(1), backwards, 0.0)
    assert abs(one - other) > 1e-3
    torch.testing.assert_close(symmetric(logits, forwards, 0.0), (one + other) / 2)


def test_what_watches_a_time_symmetric_loss_has_no_direction_of_time_either() -> None:
    """Health and validation of an item are those of the item reversed, and the mean of what each direction alone would say."""
    torch.manual_seed(8)
    targets = torch.randint(0, 2, (5, 12)).float().repeat_interleave(torch.tensor([1, 4, 1, 2, 1]), dim=0)
    logits = torch.randn(1, 27, 12)  # three per target: the prior is symmetric, too
    forwards, backwards = batch_of([targets], [27]), batch_of([targets.flip(0)], [27])
    symmetric, plain = (SdtwLoss(gamma=5.0, diagonal_prior=1.0, horizontal=0.1, time_symmetric=value) for value in (True, False))
    ways = ((logits, forwards), (logits.flip(1), backwards))
    costs = [[loss.validation_cost(*way) for way in ways] for loss in (symmetric, plain)]
    torch.testing.assert_close(*costs[0])
    assert abs(costs[1][0] - costs[1][1]) > 1e-3
    torch.testing.assert_close(costs[0][0], sum(costs[1]) / 2)
    told = [[loss.health(*way, seed=0) for way in ways] for loss in (symmetric, plain)]
    assert told[0][0] | {"rewarp_following": 0} == pytest.approx(told[0][1] | {"rewarp_following": 0}, nan_ok=True), "but what is drawn"
    for name in ("largest_target_share", "entry_spread_share", "path_entropy_share"):
        assert told[0][0][name] == pytest.approx((told[1][0][name] + told[1][1][name]) / 2)
        assert told[1][0][name] != pytest.approx(told[1][1][name], rel=1e-3)
    together = batch_of([targets, torch.randint(0, 2, (14, 12)).float()], [27, 41])
    padded = torch.cat([torch.nn.functional.pad(logits, (0, 0, 0, 14), value=3.0), torch.randn(1, 41, 12)])
    torch.testing.assert_close(symmetric.validation_cost(padded, together)[:1], costs[0][0])


def test_health_backwards_is_that_of_everything_reversed_in_unequal_batches_too() -> None:
    """A prior without symmetry (26 frames for 9 rows) is turned with the costs; padding is no part of an item."""
    torch.manual_seed(9)
    targets = [torch.randint(0, 2, (rows, 12)).float() for rows in (9, 14)]
    logits, frames = torch.randn(2, 41, 12), [26, 41]
    options = {"gamma": 5.0, "weights": StepWeights(horizontal=0.1), "seed": 0}
    symmetric = SdtwLoss(gamma=5.0, diagonal_prior=1e4, horizontal=0.1, diagonal=1.0, time_symmetric=True)
    alone = []
    for each, item, count in zip(targets, logits, frames, strict=True):
        cost = bce_cost(item[None, :count], each[None])
        prior = 1e4 * diagonal_prior_cost(torch.tensor([count]), torch.tensor([len(each)]), count, len(each))
        assert (prior - prior.flip(1, 2)).abs().max() > 1
        forwards = health_numbers(cost, targets=each[None], prior=prior, **options)
        backwards = health_numbers(cost.flip(1, 2), targets=each[None].flip(1), prior=prior.flip(1, 2), **options)
        alone.append({name: (forwards[name] + backwards[name]) / 2 for name in forwards if name != "rewarp_following"})
        told = symmetric.health(item[None, :count], batch_of([each], [count]), seed=0)
        assert {name: told[name] for name in alone[-1]} == pytest.approx(alone[-1])
    together = symmetric.health(logits, batch_of(targets, frames), seed=0)
    assert {name: together[name] for name in alone[0]} == pytest.approx({name: (alone[0][name] + alone[1][name]) / 2 for name in alone[0]})


def test_the_energy_loss_refuses_features_that_it_would_misread(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the settings begin at C1; a loss that knew others would teach other pitches. Without a weight it does not matter."""
    falling = replace(settings, loss={**settings.loss, "energy": {"start": 5.0, "end": 0.0, "shape": "linear"}})
    for name, value in list(KNOWN_FEATURES.items()):
        assert value == getattr(HcqtSettings(), name)
        with monkeypatch.context() as changed:
            changed.setitem(KNOWN_FEATURES, name, 99)
            with pytest.raises(InputError, match=rf"loss.energy: knows features with {name} 99.*Remedy"):
                train(falling, tmp_path)
    assert KNOWN_FEATURES.keys() == {"minimum_midi", "octaves", "bins_per_semitone"}
    SdtwLoss(**CONSTANT).check_features(HcqtSettings())


@pytest.mark.parametrize("outputs", [12, 72])
def test_the_energy_loss_falls_where_the_input_sounds_and_nowhere_else(outputs: int) -> None:
    """Its gradient raises the note that sounds, at its frame alone, lowers others, and leaves silence and padding alone."""
    features = torch.zeros(2, 6, 10 + 2 * CONTEXT_FRAMES, 216)
    features[:, :, CONTEXT_FRAMES + 4, 3 * 40 + 1] = 1  # E4 in frame 4
    logits = torch.zeros(2, 10, outputs, requires_grad=True)
    energy_loss(logits, features, torch.tensor([10, 4])).sum().backward()
    gradient = logits.grad
    assert gradient is not None
    note = 40 % outputs
    assert gradient[0, 4, note] < 0
    others = torch.arange(outputs) != note
    assert (gradient[0, 4, others] > 0).all()
    gradient[0, 4] = 0
    assert not gradient.any()


def test_framewise_cost_is_torchs_over_the_frames_that_exist() -> None:
    torch.manual_seed(3)
    logits, truth = torch.randn(2, 10, 12), torch.randint(0, 2, (2, 10, 12)).float()
    cost = framewise_cost(logits, truth, torch.tensor([10, 4]))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[1, :4], truth[1, :4], reduction="sum") / 4
    torch.testing.assert_close(cost[1], expected)


@pytest.mark.parametrize(("frames", "targets"), [(12, 12), (13, 5), (40, 7), (5, 1)])
def test_the_prior_is_zero_where_even_timing_puts_the_targets_and_grows_from_there(frames: int, targets: int) -> None:
    prior = diagonal_prior_cost(torch.tensor([frames]), torch.tensor([targets]), frames, targets)[0]
    even = torch.arange(frames) * targets // frames
    assert (prior[torch.arange(frames), even] == 0).all()
    assert ((prior == 0).sum(dim=1) == 1).all()
    for target in range(targets):
        outside = prior[(even == target).nonzero()[-1, 0] :, target]
        assert (outside.diff() > 0).all()
    assert (prior < 1).all()


def test_baselines_refuse_what_they_cannot_use() -> None:
    batch = batch_of([torch.zeros(5, 12)], [10])
    logits = torch.zeros(1, 10, 12)
    with pytest.raises(InputError, match="truth"):
        create_loss({"name": "strong"})(logits, batch, 0.0)
    with pytest.raises(InputError, match="stretched"):
        create_loss({"name": "static"})(logits, batch, 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "ctc"},
        {},
        {"name": "strong", "gamma": 1},
        {"name": "sdtw"} | CONSTANT | {"gamma": {"start": 0.0}},
        {"name": "sdtw"} | CONSTANT | {"horizontal": -1.0},
        {"name": "sdtw"} | CONSTANT | {"diagonal": {"start": 1.0, "end": -1.0, "shape": "linear"}},
        {"name": "sdtw"} | CONSTANT | {"energy": "start:5"},
        {"name": "sdtw"} | CONSTANT | {"energy": -1.0},
        {"name": "sdtw"} | CONSTANT | {"time_symmetric": "yes"},
    ],
)
def test_unknown_losses_and_settings_are_named(settings: dict) -> None:
    with pytest.raises(InputError, match="loss"):
        create_loss(settings)
