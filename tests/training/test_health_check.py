"""What an alarm does to a run: it is written down, ends the run, or changes it, and a resumed run does the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softscribe.errors import InputError
from softscribe.health import BEYOND_GOING_BACK, HealthMonitor, Limit
from softscribe.report import read_curves
from softscribe.training import TrainSettings, health_check, train
from softscribe.training.health_check import HealthCheck, read_alarms
from softscribe.training.settings import HealthSettings

NEVER_KEPT = (Limit("collapse", "largest_target_share", highest=0.0),)


@pytest.fixture
def always_alarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))


def watched(settings: TrainSettings, policy: str, **options: int) -> TrainSettings:
    return replace(settings, health=HealthSettings(policy=policy, interval_steps=2, segments=1, relief_steps=1, **options))


@pytest.mark.usefixtures("always_alarmed")
def test_a_warning_is_written_down_and_changes_nothing(settings: TrainSettings, tmp_path: Path) -> None:
    train(watched(settings, "warn"), tmp_path / "warned")
    train(watched(settings, "ignore"), tmp_path / "ignored")
    (alarm,) = read_alarms(tmp_path / "warned" / "alarms.jsonl")
    assert alarm["name"] == "collapse"
    assert alarm["step"] == 2
    assert alarm["action"] == "none"
    rows = read_curves(tmp_path / "warned" / "metrics.csv")
    assert [int(row["step"]) + 1 for row in rows if row["health/largest_target_share"]] == [2, 4, 6, 8]
    assert not any(name.startswith("health/") for name in read_curves(tmp_path / "ignored" / "metrics.csv")[0])
    assert not (tmp_path / "ignored" / "alarms.jsonl").exists()
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("warned", "ignored")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_prior_that_stays_is_part_of_what_is_watched(settings: TrainSettings, tmp_path: Path) -> None:
    """One that ends is not: numbers are those of the training's end."""
    for name, prior in {"ends": settings.loss["diagonal_prior"], "stays": 1e4}.items():
        loss, trainer = {**settings.loss, "diagonal_prior": prior}, replace(settings.trainer, steps=2, validation_interval_steps=2)
        train(watched(replace(settings, loss=loss, trainer=trainer), "warn"), tmp_path / name)
    ratios = {name: float(read_curves(tmp_path / name / "metrics.csv")[-1]["health/neutral_distance_ratio"]) for name in ("ends", "stays")}
    assert ratios["ends"] == 1.0
    assert ratios["stays"] < 0.5


@pytest.mark.usefixtures("always_alarmed")
def test_an_alarm_may_end_the_run(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 2: collapse: .*Remedy"):
        train(watched(settings, "stop"), tmp_path / "run")
    assert read_alarms(tmp_path / "run" / "alarms.jsonl")[0]["action"] == "the run ends"


@pytest.mark.usefixtures("always_alarmed")
def test_an_alarm_may_lead_back_so_many_times_and_no_more(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="collapse"):
        train(watched(settings, "act", actions_at_most=2), tmp_path / "run")
    actions = [alarm["action"] for alarm in read_alarms(tmp_path / "run" / "alarms.jsonl")]
    assert [action.rpartition("(")[2] for action in actions[:2]] == ["1 of 2)", "2 of 2)"]
    assert actions[2:] == ["the run ends"]


def test_what_earlier_weights_do_not_help_leads_nowhere_back(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on as if it were only warned, and its weights stay those to go back to."""
    names = sorted(BEYOND_GOING_BACK)
    limits = tuple(replace(NEVER_KEPT[0], alarm=name) for name in names)
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits, patience=1))
    for policy in ("act", "ignore"):
        train(watched(settings, policy, actions_at_most=1), tmp_path / policy)
    alarms = read_alarms(tmp_path / "act" / "alarms.jsonl")
    assert [(alarm["name"], alarm["action"]) for alarm in alarms] == [("diagonalization", "none"), ("shift", "none")]
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("act", "ignore")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_that_acted_resumes_to_the_same_bits(settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alarm at step 2; the crash comes at step 5."""
    limits = (Limit("collapse", "largest_target_share", highest=0.0), Limit("collapse", "largest_target_share", lowest=0.0))
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits, patience=1))
    acting = watched(settings, "act", actions_at_most=9)
    train(acting, tmp_path / "whole")
    assert read_alarms(tmp_path / "whole" / "alarms.jsonl")
    original = HealthCheck.on_train_batch_start

    def crashing(check: HealthCheck, trainer: object, module: object, batch: object, index: int) -> None:
        if index == 5:
            raise ZeroDivisionError
        original(check, trainer, module, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(HealthCheck, "on_train_batch_start", crashing)
        with pytest.raises(ZeroDivisionError):
            train(acting, tmp_path / "crashed")
    train(acting, tmp_path / "crashed", resume=True)
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("whole", "crashed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name in ("alarms.jsonl", "metrics.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "crashed" / name).read_bytes()


def test_relief_fades(tmp_path: Path) -> None:
    check = HealthCheck(HealthSettings(relief_steps=10), tmp_path / "alarms.jsonl")
    assert check.relief(5) == 0
    check.actions = [100]
    assert [check.relief(step) for step in (100, 105, 110, 200)] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("text", ["{", '["a"]\n', '{"step": "x"}\n'])
def test_a_file_of_alarms_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "alarms.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"alarms\.jsonl: .*Remedy"):
        read_alarms(tmp_path / "alarms.jsonl")


@pytest.mark.parametrize(
    "option", [{"policy": "shout"}, {"interval_steps": 0}, {"segments": 0}, {"actions_at_most": 0}, {"relief_steps": 0}]
)
def test_settings_are_checked(option: dict) -> None:
    with pytest.raises(InputError, match=rf"health\.{next(iter(option))}: .*Remedy"):
        HealthSettings(**option)
