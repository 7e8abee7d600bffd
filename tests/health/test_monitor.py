"""Alarms: when they sound, what they say, and in a training loop of plain PyTorch."""

import math

import numpy as np
import pytest
import torch

from softscribe.alignment import TWO_ONE_STEPS, StepWeights, Subsequence, bce_cost, soft_dtw
from softscribe.health import LIMITS, HealthMonitor, Limit, health_numbers
from softscribe.health.monitor import REMEDIES

LIMIT = (Limit("blur", "spread", highest=2.0, from_progress=0.5),)


def sounded(values: list[float], patience: int = 2) -> list[int]:
    monitor = HealthMonitor(LIMIT, patience)
    return [len(monitor.observe({"spread": value}, progress=0.9)) for value in values]


def test_an_alarm_sounds_once_until_the_limit_was_kept_again() -> None:
    assert sounded([3, 3, 3, 3]) == [0, 1, 0, 0]
    assert sounded([3, 1, 3, 3, 1, 3, 3]) == [0, 0, 0, 1, 0, 0, 1]
    assert sounded([3, 3], patience=1) == [1, 0]


def test_what_is_not_known_breaks_no_limit() -> None:
    assert sounded([3, math.nan, 3]) == [0, 0, 0]
    assert HealthMonitor(LIMIT).observe({}, progress=1.0) == []


def test_a_limit_waits_for_its_progress() -> None:
    monitor = HealthMonitor(LIMIT, patience=1)
    assert monitor.observe({"spread": 9.0}, progress=0.4) == []
    (alarm,) = monitor.observe({"spread": 9.0}, progress=0.5)
    assert str(alarm) == f"blur: spread 9.00, healthy up to 2.00. Remedy: {REMEDIES['blur']}."


def test_a_resumed_monitor_goes_on_where_it_was() -> None:
    first = HealthMonitor(LIMIT)
    first.observe({"spread": 3.0}, progress=1.0)
    second = HealthMonitor(LIMIT)
    second.load_state_dict(first.state_dict())
    assert second.never_judged() == first.never_judged() == ["blur"]
    assert len(second.observe({"spread": 3.0}, progress=1.0)) == 1
    assert second.never_judged() == []


@pytest.mark.parametrize(
    ("numbers", "progress", "never"),
    [
        ([3, 3], [0.1, 0.4], ["blur"]),
        ([3, math.nan, 3], [0.5, 0.6, 0.7], ["blur"]),
        ([3, 3], [0.4, 0.5], ["blur"]),
        ([1, 1], [0.5, 0.6], []),
    ],
    ids=["before it is asked for", "never twice in a row", "asked for once", "asked for twice"],
)
def test_an_alarm_that_could_not_have_sounded_was_never_judged(numbers: list[float], progress: list[float], never: list[str]) -> None:
    monitor = HealthMonitor(LIMIT)
    for number, share in zip(numbers, progress, strict=True):
        monitor.observe({"spread": number}, progress=share)
    assert monitor.never_judged() == never


def test_what_is_forgotten_has_to_be_asked_for_anew() -> None:
    monitor = HealthMonitor(LIMIT)
    monitor.observe({"spread": 1.0}, progress=0.5)
    monitor.forget()
    monitor.observe({"spread": 1.0}, progress=0.6)
    assert monitor.never_judged() == ["blur"]


@pytest.mark.parametrize("change", [{"broken": {"blur": "2"}}, {"asked": []}, {"healthy": 1}, {"judged": [0]}, {"judged": "blur"}])
def test_a_state_that_is_none_is_refused(change: dict) -> None:
    monitor = HealthMonitor()
    with pytest.raises(ValueError, match=r"state: .*Remedy"):
        monitor.load_state_dict(monitor.state_dict() | change)


def test_every_limit_has_a_remedy_and_a_number_that_exists() -> None:
    targets = torch.eye(4).repeat_interleave(3, dim=0)[None]
    numbers = health_numbers(torch.rand(1, 12, 12), targets=targets, logits=torch.randn(1, 12, 4))
    assert {limit.number for limit in LIMITS} <= {*numbers, "time_shift_frames"}  # the latter is asked of the recording, not of the cost
    assert {limit.alarm for limit in LIMITS} <= REMEDIES.keys()


def test_weights_are_worth_going_back_to_if_no_limit_of_collapse_is_broken() -> None:
    """Not even one that is asked for later; those aside that going back does not help."""
    limits = (Limit("collapse", "density_ratio", lowest=0.25, from_progress=0.5), Limit("blur", "path_entropy_share", highest=1.5))
    monitor = HealthMonitor(limits, patience=1)
    assert not monitor.healthy, "nothing was seen yet"
    assert not monitor.observe({"density_ratio": math.nan}, progress=0.0)
    assert not monitor.healthy, "nothing is known"
    assert not monitor.observe({"path_entropy_share": 0.1}, progress=0.0)
    assert not monitor.healthy, "nothing is known of collapse"
    assert monitor.never_judged() == ["collapse"]
    assert not monitor.observe({"density_ratio": 0.1}, progress=0.0)
    assert not monitor.healthy
    assert monitor.observe({"density_ratio": 0.5, "path_entropy_share": 1.7}, progress=0.1)
    assert monitor.healthy
    monitor.forget()
    assert not monitor.healthy


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("numbers", "progress", "named"),
    [
        ({}, 50.0, "progress"),
        ({}, math.nan, "progress"),
        ({"target_gini": None}, 0.5, "target_gini"),
        ({"target_gini": "1"}, 0.5, "target_gini"),
    ],
)
def test_what_is_observed_is_checked(numbers: dict, progress: float, named: str) -> None:
    with pytest.raises(ValueError, match=rf"{named}.*Remedy"):
        HealthMonitor().observe(numbers, progress=progress)
    with pytest.raises(ValueError, match=r"state.*Remedy"):
        HealthMonitor().load_state_dict({})


def bad_arguments() -> dict[str, tuple[str, dict]]:
    targets = torch.eye(3)[None]
    return {
        "a matrix alone": ("cost", {"cost": torch.rand(3, 3), "targets": targets}),
        "no items": ("cost", {"cost": torch.rand(0, 3, 3), "targets": torch.rand(0, 3, 3)}),
        "no tensor": ("cost", {"cost": np.zeros((1, 3, 3)), "targets": targets}),
        "counts as a list": ("frame_counts", {"frame_counts": [3]}),
        "counts beyond the frames": ("frame_counts", {"frame_counts": torch.tensor([200])}),
        "too few counts": (
            "target_counts",
            {"cost": torch.rand(2, 3, 3), "targets": targets.repeat(2, 1, 1), "target_counts": torch.tensor([3])},
        ),
        "logits of other frames": ("logits", {"logits": torch.rand(1, 8, 3)}),
        "logits in a list": ("logits", {"logits": [[[0.0, 0.0, 0.0]]]}),
        "a negative seed": ("seed", {"seed": -1}),
        "half a seed": ("seed", {"seed": 1.5}),
    }


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("case", bad_arguments())
def test_health_numbers_refuse_what_makes_no_sense(case: str) -> None:
    named, changed = bad_arguments()[case]
    with pytest.raises(ValueError, match=rf"^{named}: .*Remedy"):
        health_numbers(**{"cost": torch.rand(1, 3, 3), "targets": torch.eye(3)[None]} | changed)


def test_health_is_that_of_the_loss_that_is_trained_with() -> None:
    """A target that costs nothing takes nearly all frames, unless steps of at most two frames forbid it, or paths may skip targets."""
    cost = torch.full((1, 40, 40), 10.0)
    cost[:, :, 20] = 0.0
    classical, bounded, anywhere = (
        health_numbers(cost, targets=torch.eye(40)[None], **options)
        for options in ({"weights": StepWeights()}, {"steps": TWO_ONE_STEPS}, {"boundaries": Subsequence(targets="both")})
    )
    assert classical["largest_target_share"] > 0.4
    assert bounded["largest_target_share"] <= 2 / 40
    assert anywhere["largest_target_share"] > 0.9


def test_weights_that_keep_an_alignment_from_collapse_hold_no_diagonal() -> None:
    """Where 1-1-2 gives one target more than half of the frames it is no measure of what .1-1-1 does."""
    starts = torch.tensor([0, 4, 14, 18, 30, 36, 52, 60, 66, 84, 98, 106])
    played = torch.zeros(120, 12)
    played[torch.arange(120), torch.searchsorted(starts, torch.arange(120), right=True) - 1] = 1.0
    cost = 5 - 0.5 * played[None]
    cost[:, :, 5] -= 1.0
    unequal, neutral = (
        health_numbers(cost, targets=torch.eye(12)[None], weights=weights)
        for weights in (StepWeights(horizontal=0.1), StepWeights(diagonal=2))
    )
    assert unequal["largest_target_share"] < 0.2
    assert neutral["largest_target_share"] > 0.8
    assert math.isnan(unequal["neutral_distance_ratio"])


def test_patience_is_checked() -> None:
    with pytest.raises(ValueError, match=r"patience: 0.*Remedy"):
        HealthMonitor(patience=0)


def train_linear(weights: StepWeights, signal: float, steps: int = 120) -> tuple[list[str], float]:
    """Train a linear model on noisy scenes by gradient descent, as anybody would; return the alarms and the share of right frames."""
    generator = torch.Generator().manual_seed(0)
    chords = (torch.rand(16, 6, 12, generator=generator) > 0.65).float()
    lengths = torch.rand(16, 6, generator=generator) + 0.4
    frames = torch.stack([torch.searchsorted((row / row.sum()).cumsum(0)[:-1], (torch.arange(60) + 0.5) / 60) for row in lengths])
    truth = chords.gather(1, frames[:, :, None].expand(-1, -1, 12))
    features = signal * truth + torch.randn(truth.shape, generator=generator)
    model = torch.nn.Linear(12, 12)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer, monitor, alarms = torch.optim.Adam(model.parameters(), lr=0.05), HealthMonitor(), []
    for step in range(steps):
        logits = model(features)
        cost = bce_cost(logits, chords)
        if step % 10 == 0:
            numbers = health_numbers(cost, targets=chords, logits=logits, weights=weights, seed=step)
            alarms += [alarm.name for alarm in monitor.observe(numbers, progress=step / steps)]
        optimizer.zero_grad()
        (soft_dtw(cost, weights=weights).sum() / 60).backward()
        optimizer.step()
    return alarms, float(((logits > 0) == truth.bool()).float().mean())


def test_a_plain_training_loop_hears_of_its_collapse_and_not_of_its_health() -> None:
    collapsed, _ = train_linear(StepWeights(), signal=0.3)
    healthy, right = train_linear(StepWeights(horizontal=0.1), signal=3.0)
    assert "collapse" in collapsed
    assert healthy == []
    assert right > 0.9
