"""What an alarm does to a run: it is written down, ends the run, or changes it, and a resumed run does the same."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from interrupted_runs import Stop, stopped
from softscribe.cli.settings import compose_config, read_settings
from softscribe.errors import InputError
from softscribe.health import BEYOND_GOING_BACK, HealthMonitor, Limit
from softscribe.report import read_curves
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, health_check, train
from softscribe.training.health_check import HealthCheck, read_alarms
from softscribe.training.losses import LOSSES, SdtwLoss, StaticLoss, aligning, create_loss
from softscribe.training.module import OptimizerSettings, TranscriptionModule
from softscribe.training.run import build_model
from softscribe.training.segments import Batch
from softscribe.training.settings import HealthSettings

NEVER_KEPT = (Limit("collapse", "largest_target_share", highest=0.0),)


@pytest.fixture
def always_alarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))


def watched(settings: TrainSettings, policy: str, **options: int) -> TrainSettings:
    return replace(settings, health=HealthSettings(policy=policy, interval_steps=2, segments=1, relief_share=0.125, **options))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "alarm"),
    [
        ("provoke_collapse", "collapse"),
        ("provoke_diagonalization", "diagonalization"),
        ("provoke_blur", "blur"),
        ("provoke_shift", "shift"),
        ("demo", None),
    ],
)
def test_what_is_provoked_is_called_by_its_name_in_time(long_store: Path, tmp_path: Path, experiment: str, alarm: str | None) -> None:
    """The configs as they are, with a network and music that no limit was set on; before half the steps are done, or never.

    So little music does not move a network of 15 frames far; one of 75 it does.
    """
    words = [f"experiment={experiment}", f"store={long_store}", "features.harmonics=[1]", "model=linear"]
    words += [f"model.frames={75 if alarm == 'shift' else 15}", "optimizer.learning_rate.start=1e-2"]
    words += ["trainer.steps=80", "trainer.batch_size=2", "trainer.precision=32-true", "health.interval_steps=5", "threshold.fixed=0.5"]
    settings = read_settings(TrainSettings, compose_config("train", words))
    train(replace(settings, logger={}), tmp_path)
    sounded = {line["name"]: line["step"] for line in reversed(read_alarms(tmp_path / "alarms.jsonl"))}
    assert sounded[alarm] < 40 if alarm else not sounded


def test_a_run_says_which_alarms_no_observation_could_judge(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    limits = (Limit("collapse", "largest_target_share", highest=1.0), Limit("blur", "unheard_of", highest=1.0))
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits))
    train(watched(settings, "warn"), tmp_path / "run")
    assert "health: blur could not sound, for" in capsys.readouterr().out


@pytest.mark.parametrize("edited", [False, True])
def test_a_run_that_nothing_watched_at_first_goes_back_to_where_it_was_watched_from(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    """Not to random weights, if it began with another model's, which may be gone by then."""
    limits = (Limit("collapse", "density_ratio", highest=-1.0),)
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits, patience=1))
    shutil.copytree(uninterrupted / "model", tmp_path / "start")
    fine_tuned = replace(
        demanding,
        model=demanding.model | {"init": str(tmp_path / "start")},
        optimizer=OptimizerSettings(learning_rate={"start": 1e-6}),
        health=HealthSettings(policy="ignore"),
    )
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(fine_tuned, tmp_path / "run")
    began = load_file(tmp_path / "start" / "weights.safetensors")
    shutil.rmtree(tmp_path / "start")
    acting = replace(fine_tuned, health=HealthSettings(policy="act", interval_steps=3, relief_share=1.0))
    if edited:  # since that model is gone
        acting = replace(acting, model=demanding.model | {"init": None})
    train(acting, tmp_path / "run", resume=True)
    (alarm,) = [line for line in read_alarms(tmp_path / "run" / "alarms.jsonl") if line["action"] != "none"]
    assert "back to the weights of step 6," in alarm["action"]
    ended = load_file(tmp_path / "run" / "model" / "weights.safetensors")
    assert all(torch.allclose(ended[name], began[name], atol=1e-4) for name in began)


@pytest.mark.usefixtures("always_alarmed")
def test_an_alarm_may_end_the_run(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 2: collapse: .*Remedy.*set health.policy to warn in this one's config.yaml and resume it"):
        train(watched(settings, "stop"), tmp_path / "run")
    assert read_alarms(tmp_path / "run" / "alarms.jsonl")[0]["action"] == "the run ends"
    train(watched(settings, "warn"), tmp_path / "run", resume=True)
    train(watched(settings, "warn"), tmp_path / "warned")
    assert read_alarms(tmp_path / "run" / "alarms.jsonl") == read_alarms(tmp_path / "warned" / "alarms.jsonl")
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("run", "warned")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), "nothing was lost"


@pytest.mark.usefixtures("always_alarmed")
def test_an_alarm_may_lead_back_so_many_times_and_no_more(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="collapse"):
        train(watched(settings, "act", actions_at_most=2), tmp_path / "run")
    actions = [alarm["action"] for alarm in read_alarms(tmp_path / "run" / "alarms.jsonl")]
    assert [action.rpartition("(")[2] for action in actions[:2]] == ["1 of 2)", "2 of 2)"]
    assert actions[2:] == ["the run ends"]


def test_two_alarms_at_once_lead_back_once(settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (NEVER_KEPT[0], replace(NEVER_KEPT[0], alarm="blur"))
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits, patience=1))
    with pytest.raises(InputError, match=r"step 4: collapse: .* blur: "):
        train(watched(settings, "act", actions_at_most=1), tmp_path / "run")
    alarms = [(alarm["step"], alarm["name"], alarm["action"][-8:]) for alarm in read_alarms(tmp_path / "run" / "alarms.jsonl")]
    assert alarms == [(2, "collapse", "(1 of 1)"), (2, "blur", "none"), (4, "collapse", "run ends"), (4, "blur", "run ends")]


def test_alarms_during_the_relief_are_told_and_no_more(settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight steps the relief takes four: what fails at step 4 is only told, and what still fails at step 6 counts anew."""
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))
    acting = watched(settings, "act")
    train(replace(acting, health=replace(acting.health, relief_share=0.5)), tmp_path / "run")
    alarms = [(alarm["step"], alarm["action"][-8:]) for alarm in read_alarms(tmp_path / "run" / "alarms.jsonl")]
    assert alarms == [(2, "(1 of 3)"), (4, "none"), (6, "(2 of 3)"), (8, "none")]


def test_weights_that_break_any_limit_are_not_gone_back_to(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is asked for from half of the training on is broken from the start: the run goes back to where it began."""
    limits = (replace(NEVER_KEPT[0], from_progress=0.5),)
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(limits, patience=1))
    states: list[dict[str, torch.Tensor]] = []
    original = HealthCheck._act

    def acting(check: HealthCheck, trainer: object, module: TranscriptionModule) -> None:
        original(check, trainer, module)  # type: ignore[arg-type]
        states.append({name: tensor.clone() for name, tensor in module.model.state_dict().items()})

    class AtStart(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, TranscriptionModule)
            states.append({name: tensor.clone() for name, tensor in pl_module.model.state_dict().items()})

    monkeypatch.setattr(HealthCheck, "_act", acting)
    train(watched(settings, "act"), tmp_path / "run", callbacks=[AtStart()])
    assert len(states) > 1
    assert "back to the weights of step 0, " in read_alarms(tmp_path / "run" / "alarms.jsonl")[0]["action"]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("resumed", [False, True])
def test_the_last_healthy_weights_are_gone_back_to(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    """Kept at steps 2 and 4 and broken at 6, a limit leads back to the weights of step 4; also in a run that stopped at step 5."""
    shares = {2: 0.1, 4: 0.1, 6: 0.9, 8: 0.1}
    states: dict[int, dict[str, torch.Tensor]] = {}
    act = HealthCheck._act

    def measured(check: HealthCheck, trainer: Trainer, module: TranscriptionModule) -> dict[str, float]:
        states[trainer.global_step] = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
        return {"largest_target_share": shares[trainer.global_step]}

    def acting(check: HealthCheck, trainer: Trainer, module: TranscriptionModule) -> None:
        act(check, trainer, module)
        states[-trainer.global_step] = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}

    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor((replace(NEVER_KEPT[0], highest=0.5),), patience=1))
    monkeypatch.setattr(HealthCheck, "measure", measured)
    monkeypatch.setattr(HealthCheck, "_act", acting)
    if resumed:
        interrupted(watched(settings, "act"), tmp_path / "run")
    train(watched(settings, "act"), tmp_path / "run", resume=resumed)
    assert sorted(states) == [-6, 2, 4, 6, 8]
    assert "back to the weights of step 4, " in read_alarms(tmp_path / "run" / "alarms.jsonl")[0]["action"]
    assert all(torch.equal(states[-6][name], states[4][name]) for name in states[4])
    assert not all(torch.equal(states[-6][name], states[2][name]) for name in states[2])


def test_a_loss_that_aligns_nothing_cannot_be_acted_upon(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"health=stop: loss=static shows no alignment.*Remedy"):
        train(replace(watched(settings, "stop"), loss={"name": "static"}), tmp_path / "run")


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
    assert [(alarm["name"], alarm["action"]) for alarm in alarms] == [("blur", "none"), ("diagonalization", "none"), ("shift", "none")]
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("act", "ignore")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_alarms_of_steps_that_come_again_are_forgotten(settings: TrainSettings, tmp_path: Path) -> None:
    """They sound again, or, with other settings, perhaps not."""
    interrupted(settings, tmp_path)
    (tmp_path / "alarms.jsonl").write_text('{"step": 2, "name": "blur"}\n{"step": 7, "name": "shift"}\n')
    train(settings, tmp_path, resume=True)
    assert [line["step"] for line in read_alarms(tmp_path / "alarms.jsonl")] == [2]


def test_a_run_that_acted_resumes_to_the_same_bits(settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It acts whenever it looks; the crash comes at step 5."""
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))
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


def interrupted(settings: TrainSettings, folder: Path) -> None:
    """Train five of eight steps."""
    with stopped(Stop("exception", "batch", 5)), pytest.raises(ZeroDivisionError):
        train(settings, folder)


@pytest.mark.parametrize("before", ["warn", "ignore"])
def test_a_policy_that_is_changed_answers_what_fails_already(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A failure was told at step 2; resumed with another policy it sounds again, and the run goes back to weights that were healthy, or to
    its beginning, not to those that fail already."""
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))
    states: list[dict[str, torch.Tensor]] = []
    original = HealthCheck._act

    def acting(check: HealthCheck, trainer: Trainer, module: TranscriptionModule) -> None:
        original(check, trainer, module)
        states.append({name: tensor.clone() for name, tensor in module.model.state_dict().items()})

    monkeypatch.setattr(HealthCheck, "_act", acting)
    interrupted(watched(settings, before), tmp_path)
    assert [line["step"] for line in read_alarms(tmp_path / "alarms.jsonl")] == ([2] if before == "warn" else [])
    train(watched(settings, "act"), tmp_path, resume=True)
    assert [line["action"][-8:] for line in read_alarms(tmp_path / "alarms.jsonl")][-2:] == ["(1 of 3)", "(2 of 3)"]
    torch.manual_seed(settings.seed)
    beginning = build_model(settings.model, HcqtSettings.from_dict(settings.features), settings.targets.outputs).state_dict()
    assert all(torch.equal(states[0][name], beginning[name]) for name in beginning)


def test_an_action_raises_gamma_and_drops_momentum(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Right after it gamma is ten times what its schedule says, the prior greater by ten, and Adam knows of no steps."""
    monkeypatch.setattr(health_check, "HealthMonitor", lambda: HealthMonitor(NEVER_KEPT, patience=1))
    seen: dict[int, tuple[dict[str, float], int]] = {}

    class InForce(Callback):
        def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
            assert isinstance(pl_module, TranscriptionModule)
            counted = [int(state["step"]) for state in optimizer.state.values()]
            seen[trainer.global_step] = pl_module.loss.in_force(pl_module.progress), max(counted, default=0)

    acting = watched(settings, "act", actions_at_most=1)
    train(replace(acting, health=replace(acting.health, relief_share=1.0)), tmp_path, callbacks=[InForce()])
    assert "health: the last action was at step 2, too late" in capsys.readouterr().out
    scheduled = create_loss(settings.loss).in_force(2 / 8)
    assert seen[2][0] == pytest.approx({"gamma": 10 * scheduled["gamma"], "diagonal_prior": 10 + scheduled["diagonal_prior"]})
    assert [seen[step][1] for step in (1, 2, 3)] == [1, 0, 1]
    train(watched(settings, "warn"), tmp_path / "warned", callbacks=[InForce()])
    assert seen[2][0] == pytest.approx(scheduled)
    assert "too late" not in capsys.readouterr().out


def test_a_run_that_is_no_longer_watched_keeps_no_alarm_of_steps_that_come_again(settings: TrainSettings, tmp_path: Path) -> None:
    early = replace(settings.trainer, early_stopping_patience=9)
    interrupted(replace(watched(settings, "warn"), trainer=early), tmp_path)
    (tmp_path / "alarms.jsonl").write_text('{"step": 2, "name": "blur"}\n{"step": 7, "name": "shift"}\n')
    with warnings.catch_warnings(action="error"):  # Lightning would miss callbacks that the settings no longer ask for
        train(watched(settings, "ignore"), tmp_path, resume=True)
    assert [line["step"] for line in read_alarms(tmp_path / "alarms.jsonl")] == [2]
    train(watched(settings, "ignore"), tmp_path)
    assert read_alarms(tmp_path / "alarms.jsonl") == [], "begun anew"


class Mine:
    """Somebody's own loss, which has what `AligningLoss` asks for and inherits nothing."""

    needs_truth = False
    relief = 0.0

    def __init__(self, **options: Any) -> None:
        self.inner = SdtwLoss(**options)
        for name in ("validation_cost", "schedules", "in_force", "final_alignment"):
            setattr(self, name, getattr(self.inner, name))

    def __call__(self, logits: torch.Tensor, batch: Batch, progress: float) -> torch.Tensor:
        return self.inner(logits, batch, progress)

    def health(self, logits: torch.Tensor, batch: Batch, seed: int) -> dict[str, float]:
        return {"largest_target_share": 0.123}


class Silent(StaticLoss):
    """One that shows no alignment."""


def test_a_loss_of_ones_own_is_watched_by_what_it_shows(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(LOSSES, "mine", Mine)
    monkeypatch.setitem(LOSSES, "silent", Silent)
    train(replace(watched(settings, "warn"), loss={**settings.loss, "name": "mine"}), tmp_path / "mine")
    assert {row["health/largest_target_share"] for row in read_curves(tmp_path / "mine" / "metrics.csv")} - {""} == {"0.123"}
    assert "not watched" not in capsys.readouterr().out
    mine = Mine(**{name: value for name, value in settings.loss.items() if name != "name"})
    assert aligning(mine) is mine, "pictures and evaluation align by it, too"
    train(replace(watched(settings, "warn"), loss={"name": "silent"}), tmp_path / "silent")
    assert "health: not watched, for loss=silent shows no alignment." in capsys.readouterr().out
    train(replace(watched(settings, "ignore"), loss={"name": "silent"}), tmp_path / "ignored")
    assert "not watched" not in capsys.readouterr().out, "nobody asked"


@pytest.mark.parametrize(
    ("policy", "numbers", "named"),
    [
        ("warn", [("largest_target_share", 0.5)], "Mine.health: returned"),
        ("warn", {"largest_target_share": "0.5"}, "Mine.health: returned"),
        ("act", {"my_number": 0.5, "entry_spread_share": 0.1}, "health=act: Mine.health gives none of .*largest_target_share"),
    ],
)
def test_what_a_loss_of_ones_own_says_of_its_health_is_checked(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, numbers: object, named: str
) -> None:
    monkeypatch.setitem(LOSSES, "mine", Mine)
    monkeypatch.setattr(Mine, "health", lambda *_, **__: numbers)
    with pytest.raises(InputError, match=f"{named}.*Remedy"):
        train(replace(watched(settings, policy), loss={**settings.loss, "name": "mine"}), tmp_path)


def test_a_callback_of_the_callers_that_a_resumed_run_lacks_is_missed_aloud(settings: TrainSettings, tmp_path: Path) -> None:
    class Counting(Callback):
        def state_dict(self) -> dict[str, int]:
            return {"count": 1}

    with stopped(Stop("exception", "batch", 5)), pytest.raises(ZeroDivisionError):
        train(watched(settings, "warn"), tmp_path, callbacks=[Counting()])
    with pytest.warns(UserWarning, match=r"Please add the following callbacks: .*Counting"):
        train(watched(settings, "ignore"), tmp_path, resume=True)


def test_relief_fades(tmp_path: Path) -> None:
    check = HealthCheck(HealthSettings(relief_share=0.1), tmp_path / "alarms.jsonl")
    assert check.relief(5, 100) == 0
    check.actions = [60]
    assert [check.relief(step, 100) for step in (60, 65, 70, 100)] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("text", ["{", '["a"]\n', '{"step": "x"}\n'])
def test_a_file_of_alarms_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "alarms.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"alarms\.jsonl(, line 1)?: .*Remedy"):
        read_alarms(tmp_path / "alarms.jsonl")


@pytest.mark.parametrize(
    "option", [{"policy": "shout"}, {"interval_steps": 0}, {"segments": 0}, {"actions_at_most": 0}, {"relief_share": 0}]
)
def test_settings_are_checked(option: dict) -> None:
    with pytest.raises(InputError, match=rf"health\.{next(iter(option))}: .*Remedy"):
        HealthSettings(**option)
