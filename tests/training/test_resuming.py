"""Whether a run can go on from a checkpoint is known, and told in words, before it does."""

import copy
import math
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from interrupted_runs import Stop, TinyModel, differences, stopped, train_with_stops
from softscribe.errors import InputError
from softscribe.training import RunInterruptedError, TrainSettings, train
from softscribe.training.checkpoints import BEST, LAST, AtomicCheckpointIO, read_checkpoint
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.losses import create_loss
from softscribe.training.module import MONITORED_COST, OPTIMIZERS, OptimizerSettings, TranscriptionModule
from softscribe.training.patience import LOWEST_RATE, LastingEarlyStopping, LowerRateOnPlateau
from softscribe.training.resuming import settings_in_words, settings_since, step_on_trial
from softscribe.training.settings import HealthSettings


class AtEachStep(Callback):
    """Does something when a step is done."""

    def __init__(self, what: Callable[[pl.Trainer], None]) -> None:
        self.what = what

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        self.what(trainer)


def lose(key: str) -> Callable[[dict], None]:
    return lambda checkpoint: checkpoint.pop(key)


def change_to(key: str, value: object) -> Callable[[dict], None]:
    return lambda checkpoint: checkpoint.__setitem__(key, value)


def price_the_best(cost: complex) -> Callable[[dict], None]:
    def change(checkpoint: dict) -> None:
        state = next(state for state in checkpoint["callbacks"].values() if "best_k_models" in state)
        state["best_k_models"] = {path: torch.tensor(cost) for path in state["best_k_models"]}

    return change


def forget_all_of_the_best(checkpoint: dict) -> None:
    checkpoint["callbacks"] = {key: state for key, state in checkpoint["callbacks"].items() if "best_k_models" not in state}


def remember_another_model(checkpoint: dict) -> None:
    checkpoint["callbacks"]["HealthCheck"]["healthy_weights"]["linear.bias"] = torch.zeros(72)


def remember_nothing(checkpoint: dict) -> None:
    checkpoint["callbacks"]["HealthCheck"]["healthy_weights"] = {}


def remember_no_number(checkpoint: dict) -> None:
    checkpoint["callbacks"]["HealthCheck"]["healthy_weights"]["linear.bias"][3] = torch.inf


def act_in_the_future(checkpoint: dict) -> None:
    checkpoint["callbacks"]["HealthCheck"]["actions"] = [120]


def widen(checkpoint: dict) -> None:
    checkpoint["state_dict"]["model.linear.bias"] = torch.zeros(72)


def uncount(checkpoint: dict) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = "text"


def spoil(checkpoint: dict) -> None:
    checkpoint["state_dict"]["model.linear.bias"][3] = torch.nan


def forget_the_best(checkpoint: dict) -> None:
    next(state for state in checkpoint["callbacks"].values() if "best_k_models" in state).pop("best_k_models")


def misplace_the_best(checkpoint: dict) -> None:
    next(state for state in checkpoint["callbacks"].values() if "best_k_models" in state)["best_k_models"] = {"best.ckpt": None}


def lose_a_moment(checkpoint: dict) -> None:
    del checkpoint["optimizer_states"][0]["state"][0]["exp_avg"]


def confuse_the_rate(checkpoint: dict) -> None:
    checkpoint["lr_schedulers"][0]["_step_count"] = "text"


def spoil_a_moment(checkpoint: dict) -> None:
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg"][0] = torch.inf


def confuse_the_callbacks(checkpoint: dict) -> None:
    checkpoint["callbacks"] = "text"


def pretend_a_gpu(checkpoint: dict) -> None:
    checkpoint["optimizer_states"][0]["param_groups"][0]["capturable"] = True


def misdate(checkpoint: dict) -> None:
    checkpoint["pytorch-lightning_version"] = "text"


def predate(checkpoint: dict) -> None:
    checkpoint["pytorch-lightning_version"] = "1.5.0"


def count_too_far(checkpoint: dict) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] = 10**30


def count_nothing(checkpoint: dict) -> None:
    checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] = {}


def list_the_callbacks(checkpoint: dict) -> None:
    checkpoint["callbacks"] = []


def lead_the_best_elsewhere(checkpoint: dict) -> None:
    """Lightning removes what it takes for an older checkpoint, a folder with all that is in it."""
    state = next(state for state in checkpoint["callbacks"].values() if "best_k_models" in state)
    state["best_k_models"] = {"..": torch.tensor(1e9)}
    state["kth_best_model_path"] = state["best_model_path"] = ".."


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lose("loops"), "loops missing"),
        (lose("bad_steps"), "bad_steps"),
        (widen, "another model"),
        (uncount, "loops count no steps"),
        (spoil, "weights that are, or would become, NaN"),
        (forget_the_best, "its run cannot go on .KeyError: 'best_k_models'"),
        (misplace_the_best, "names {'best.ckpt': None} as the best"),
        (lose("SegmentDataModule"), "its run cannot go on .KeyError: 'SegmentDataModule'"),
        (confuse_the_callbacks, "its callbacks have no states"),
        (change_to("bad_steps", -1), "loops count no steps"),
        (change_to("global_step", 2), "of step 2, and its loops of 12"),
        (price_the_best(math.nan), "as the best checkpoint"),
        (price_the_best(-math.inf), "as the best checkpoint"),
        (price_the_best(1j), "as the best checkpoint"),
        (forget_all_of_the_best, "does not say which checkpoint was the best"),
        (remember_another_model, "weights to go back to are not of this model"),
        (remember_nothing, "weights to go back to are not of this model, or not finite"),
        (remember_no_number, "weights to go back to are not of this model, or not finite"),
        (act_in_the_future, "health: acted at .120."),
        (change_to("lr_schedulers", 1.0), "no states of an optimizer"),
        (list_the_callbacks, "its callbacks have no states"),
        (lead_the_best_elsewhere, "names {'..': tensor.1.*. as the best checkpoint"),
        (pretend_a_gpu, "its optimizer cannot go on .AssertionError"),
        (misdate, "its run cannot go on .InvalidVersion"),
        (predate, "of Lightning 1.5.0"),
        (count_too_far, "loops count no steps"),
        (count_nothing, "loops count no steps"),
        (lose_a_moment, "its optimizer cannot go on .KeyError: 'exp_avg'"),
        (confuse_the_rate, "its optimizer cannot go on .TypeError"),
        (spoil_a_moment, "would become, NaN"),
    ],
)
def test_a_checkpoint_that_no_run_can_go_on_from_is_named(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, change: Callable[[dict], None], named: str
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    change(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / LAST)
    with pytest.raises(InputError, match=rf"last\.ckpt: .*{named}.*Remedy"):
        train(demanding, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "named"), [(widen, "another model"), (spoil, "NaN or infinite"), (lose("global_step"), "not a checkpoint")]
)
def test_a_best_checkpoint_of_another_run_is_named(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, change: Callable[[dict], None], named: str
) -> None:
    """It is looked at when the model is written."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / BEST)
    change(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / BEST)
    with pytest.raises(InputError, match=rf"best\.ckpt: .*{named}.*Remedy"):
        train(demanding, tmp_path / "run", resume=True)


def test_a_run_without_a_best_checkpoint_says_which_weights_it_keeps(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / BEST).unlink()
    train(demanding, tmp_path / "run", resume=True)
    assert "model: the last weights, for there is no best.ckpt.\n" in capsys.readouterr().out


def test_nothing_but_a_file_is_removed_as_an_old_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    with pytest.raises(OSError, match="precious"):
        AtomicCheckpointIO().remove_checkpoint(tmp_path / "precious")
    assert (tmp_path / "precious").is_dir()


def test_a_run_that_goes_on_with_other_settings_says_so(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, settings in (("same", demanding), ("other", replace(demanding, seed=5, trainer=replace(demanding.trainer, batch_size=1)))):
        shutil.copytree(uninterrupted, tmp_path / name)
        train(settings, tmp_path / name, resume=True)
    same, other = capsys.readouterr().out.split("report: ")[:2]
    assert "changed" not in same
    assert "config.yaml was changed since step 12, and holds from here on: seed 0 -> 5; trainer.batch_size 2 -> 1\n" in other


def test_the_optimizer_that_a_config_names_now_is_the_one_that_goes_on(demanding: TrainSettings, tmp_path: Path) -> None:
    """Its learning rate and arguments come back with its moments when a checkpoint is restored; the config has the last word."""
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(demanding, tmp_path / "run")
    other = replace(demanding, optimizer=OptimizerSettings(learning_rate={"start": 0.5}, arguments={"weight_decay": 0.25}))
    groups: list[dict] = []
    train(
        other,
        tmp_path / "run",
        resume=True,
        callbacks=[AtEachStep(lambda trainer: groups.append(dict(trainer.optimizers[0].param_groups[0])))],
    )
    assert len(groups) == 6
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.5, 0.25)}


@pytest.mark.parametrize("stops", [(Stop("exception", "batch", 1),) * 2, (Stop("exception", "batch", 13), Stop("SIGTERM", "loader"))])
def test_what_a_config_changed_is_not_lost_with_a_run_that_stops_again(
    demanding: TrainSettings, tmp_path: Path, stops: tuple[Stop, Stop]
) -> None:
    """A checkpoint is written before the first step after it, which says by which settings it was."""
    other = replace(demanding, optimizer=OptimizerSettings(learning_rate={"start": 0.5}, arguments={"weight_decay": 0.25}))
    for settings, stop in zip((demanding, other), stops, strict=True):
        with stopped(stop), pytest.raises((ZeroDivisionError, RunInterruptedError)):
            train(settings, tmp_path / "run", resume=settings is other)
    groups: list[dict] = []
    each_step = AtEachStep(lambda trainer: groups.append(dict(trainer.optimizers[0].param_groups[0])))
    train(other, tmp_path / "run", resume=True, callbacks=[each_step])
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.5, 0.25)}


def test_an_optimizer_of_another_name_comes_with_its_own_defaults(demanding: TrainSettings, tmp_path: Path) -> None:
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(demanding, tmp_path / "run")
    train(replace(demanding, optimizer=replace(demanding.optimizer, name="adam")), tmp_path / "run", resume=True)
    (group,) = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["optimizer_states"][0]["param_groups"]
    assert group["weight_decay"] == torch.optim.Adam([torch.zeros(1)]).defaults["weight_decay"] != 0.01


def test_more_steps_lengthen_the_way_of_the_learning_rate(demanding: TrainSettings, tmp_path: Path) -> None:
    falling = replace(demanding, optimizer=OptimizerSettings(learning_rate={"start": 0.5, "end": 0.1, "shape": "linear"}))
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(falling, tmp_path / "run")
    rates: list[float] = []
    each_step = AtEachStep(lambda trainer: rates.append(trainer.optimizers[0].param_groups[0]["lr"]))
    train(replace(falling, trainer=replace(falling.trainer, steps=15)), tmp_path / "run", resume=True, callbacks=[each_step])
    assert rates == pytest.approx([0.5 - 0.4 * step / 15 for step in range(6, 15)])


def test_a_rate_that_a_plateau_lowered_stays_so_until_the_config_names_another(demanding: TrainSettings, tmp_path: Path) -> None:
    rising = replace(
        demanding,
        optimizer=OptimizerSettings(learning_rate={"start": 1.0}, plateau_patience=1),  # so high that the cost rises
        loss={"name": "sdtw", "gamma": 1.0, "diagonal_prior": 0.0},
        trainer=replace(demanding.trainer, validation_interval_steps=1),
    )
    for batch, before in ((1, replace(rising.optimizer, plateau_patience=None)), (13, rising.optimizer)):
        with stopped(Stop("exception", "batch", batch)), pytest.raises(ZeroDivisionError):
            train(replace(rising, optimizer=before), tmp_path / "run", resume=batch == 13)
    for name, start, patience in (("same", 1.0, 50), ("other", 3.0, 50), ("no plateau", 1.0, None)):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        settings = replace(rising, seed=1, optimizer=replace(rising.optimizer, learning_rate={"start": start}, plateau_patience=patience))
        rates: list[float] = []
        each_step = AtEachStep(lambda trainer, rates=rates: rates.append(trainer.optimizers[0].param_groups[0]["lr"]))
        train(settings, tmp_path / name, resume=True, callbacks=[each_step])
        assert (rates[0] == start) == (name == "other"), rates
        assert name != "no plateau" or set(rates) == {rates[0]}, rates


@pytest.mark.usefixtures("without_shape_types")
def test_a_plateau_raises_no_rate_that_is_low_already() -> None:
    groups = [{"lr": rate} for rate in (1e-3, 1.5 * LOWEST_RATE, LOWEST_RATE, 1e-8)]
    trainer: Any = SimpleNamespace(callback_metrics={MONITORED_COST: 1.0}, optimizers=[SimpleNamespace(param_groups=groups)])
    plateau = LowerRateOnPlateau(patience=1)
    for _ in range(2):
        plateau.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert [group["lr"] for group in groups] == [5e-4, LOWEST_RATE, LOWEST_RATE, 1e-8]


class Grouped(torch.optim.AdamW):
    """An optimizer of somebody's own: another rate and no decay for biases, and a count that it keeps in its groups."""

    def __init__(self, parameters: Iterable, lr: float, weight_decay: float = 0.1) -> None:
        weights, biases = ([each for each in parameters if (each.ndim > 1) == wide] for wide in (True, False))
        weights, biases = weights or biases, biases
        super().__init__([{"params": weights}, {"params": biases, "lr": 10 * lr, "weight_decay": 0.0}], lr=lr, weight_decay=weight_decay)
        self.defaults["count"] = 0
        for group in self.param_groups:
            group["count"] = 0

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["count"] += 1
        return super().step(closure)


def test_an_optimizer_of_ones_own_keeps_its_groups(demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "grouped", Grouped)
    settings = replace(demanding, optimizer=OptimizerSettings("grouped", learning_rate={"start": 1e-3}))
    train(settings, tmp_path / "whole")
    train_with_stops(settings, tmp_path / "run", [Stop("exception", "batch", 13)])
    assert not differences(tmp_path / "whole", tmp_path / "run")
    changed = replace(
        settings, trainer=replace(settings.trainer, steps=14), optimizer=replace(settings.optimizer, arguments={"weight_decay": 0.5})
    )
    train(changed, tmp_path / "run", resume=True)
    groups = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["optimizer_states"][0]["param_groups"]
    assert [(group["lr"], group["weight_decay"], group["count"]) for group in groups] == [(1e-3, 0.5, 14), (1e-2, 0.0, 14)]


@pytest.mark.parametrize("patience", [1, None])
def test_a_schedule_may_take_a_plateau_s_place_and_back(demanding: TrainSettings, tmp_path: Path, patience: int | None) -> None:
    """The rate goes on as if it had always been the one that the config names now."""
    constant = replace(demanding, optimizer=OptimizerSettings(learning_rate={"start": 0.5}, plateau_patience=1))
    falling = replace(demanding, optimizer=OptimizerSettings(learning_rate={"start": 0.5, "end": 0.1, "shape": "linear"}))
    before, after = (falling, constant) if patience else (constant, falling)
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(before, tmp_path / "run")
    rates: list[float] = []
    train(
        after,
        tmp_path / "run",
        resume=True,
        callbacks=[AtEachStep(lambda trainer: rates.append(trainer.optimizers[0].param_groups[0]["lr"]))],
    )
    assert rates == pytest.approx([0.5 if patience else 0.5 - 0.4 * step / 12 for step in range(6, 12)])


def test_what_stopped_early_goes_on_with_more_patience(demanding: TrainSettings, tmp_path: Path) -> None:
    impatient = replace(
        demanding,
        optimizer=OptimizerSettings(learning_rate={"start": 1.0}),
        trainer=replace(demanding.trainer, early_stopping_patience=1, steps=30),
        loss={"name": "sdtw", "gamma": 1.0, "diagonal_prior": 0.0},
    )
    train(impatient, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] < 30
    train(replace(impatient, trainer=replace(impatient.trainer, early_stopping_patience=50)), tmp_path / "run", resume=True)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 30


@pytest.mark.parametrize(
    "state",
    [{"wait_count": "1"}, {"wait_count": -1}, {"best_score": []}, {"best_score": torch.zeros(2)}, {"best_score": torch.tensor(-math.inf)}],
)
def test_patience_that_a_checkpoint_counts_wrongly_is_named(state: dict) -> None:
    stopping = LastingEarlyStopping("cost", patience=3)
    with pytest.raises(InputError, match=r"early stopping.*Remedy"):
        stopping.load_state_dict({**stopping.state_dict(), **state})


@pytest.mark.parametrize("state", [{"waited": "1"}, {"waited": -1}, {"lowest": math.nan}, {"lowest": -math.inf}, {"lowest": []}])
def test_a_plateau_that_a_checkpoint_counts_wrongly_is_named(state: dict) -> None:
    plateau = LowerRateOnPlateau(3)
    with pytest.raises(InputError, match=r"plateau.*Remedy"):
        plateau.load_state_dict({**plateau.state_dict(), **state})


@pytest.mark.parametrize("policy", ["warn", "ignore"])
def test_a_model_that_a_run_started_from_is_not_asked_for_again(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    shutil.copytree(uninterrupted / "model", tmp_path / "start")
    demanding = replace(demanding, health=HealthSettings(policy=policy))
    settings = replace(demanding, model=demanding.model | {"init": str(tmp_path / "start")})
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(settings, tmp_path / "run")
    shutil.rmtree(tmp_path / "start")
    train(settings, tmp_path / "run", resume=True)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 12
    capsys.readouterr()
    train(demanding, tmp_path / "run", resume=True)
    assert "changed" not in capsys.readouterr().out, "where a run began no longer changes"


def test_steps_are_counted_by_the_number_of_batches_that_make_one(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    with pytest.raises(InputError, match=r"trainer.accumulated_batches: 2 -> 3 since step 12.*Remedy: undo"):
        train(replace(demanding, trainer=replace(demanding.trainer, accumulated_batches=3)), tmp_path / "run", resume=True)


@pytest.mark.parametrize("seconds", ["text", None, [], 10**400, math.nan, -1.0])
def test_a_clock_that_shows_no_time_is_named(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, seconds: object) -> None:
    timed = replace(demanding, trainer=replace(demanding.trainer, minutes=60.0))
    shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    checkpoint["callbacks"]["Timer"] = {"time_elapsed": {"train": seconds}}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / LAST)
    with pytest.raises(InputError, match=r"last\.ckpt: it(s run cannot go on| took (nan|-1.0) seconds).*Remedy"):
        train(timed, tmp_path / "run", resume=True)


def nested(levels: int) -> dict:
    tree: dict = {}
    for _ in range(levels):
        tree = {"seed": tree}
    return tree


@pytest.mark.parametrize("settings", [torch.zeros(3), {"seed": torch.zeros(3)}, nested(5000), {0: "1"}, None])
def test_settings_of_other_kinds_in_a_checkpoint_say_nothing(demanding: TrainSettings, uninterrupted: Path, settings: object) -> None:
    checkpoint = read_checkpoint(uninterrupted / "checkpoints" / LAST)
    checkpoint["callbacks"]["LastCheckpoint"]["settings"] = settings
    assert settings_since(checkpoint, settings_in_words(asdict(demanding))) == {}


def test_what_a_checkpoint_says_is_shown_without_being_obeyed(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    checkpoint["callbacks"]["LastCheckpoint"]["settings"]["name"] = "\x1b[2J" + 5000 * "a"
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / LAST)
    train(demanding, tmp_path / "run", resume=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("config.yaml was changed")]
    assert "name \\x1b[2Jaaa" in line
    assert len(line) < 2100


def test_settings_from_python_may_hold_more_than_a_config_can(demanding: TrainSettings, tmp_path: Path) -> None:
    """NumPy's numbers and paths would make a checkpoint that nothing but pickle reads."""
    settings = replace(demanding, corpus={"directory": tmp_path}, loss=demanding.loss | {"gamma": {"start": np.float64(2.0)}})
    with stopped(Stop("exception", "batch", 2)), pytest.raises(ZeroDivisionError):
        train(settings, tmp_path / "run")
    train(settings, tmp_path / "run", resume=True)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 12


def test_a_defect_before_the_first_step_is_not_blamed_on_the_checkpoint(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(data: SegmentDataModule) -> None:
        raise KeyError("a defect")

    shutil.copytree(uninterrupted, tmp_path / "run")
    monkeypatch.setattr(SegmentDataModule, "train_dataloader", defect)
    with pytest.raises(KeyError, match="a defect"):
        train(demanding, tmp_path / "run", resume=True)


def test_an_optimizer_for_gpus_alone_is_refused_on_the_cpu(demanding: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"optimizer\.arguments\.capturable.*Remedy"):
        train(replace(demanding, optimizer=OptimizerSettings(arguments={"capturable": True})), tmp_path / "run")


@pytest.mark.parametrize(("name", "arguments"), [("adam", {"capturable": True}), ("lbfgs", {})])
def test_optimizers_that_ask_for_more_than_a_gradient_can_go_on(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, bool]
) -> None:
    """One that works on GPUs alone, which is asked for no further than the trial, and one that asks for the loss."""
    monkeypatch.setitem(OPTIMIZERS, "lbfgs", torch.optim.LBFGS)
    optimizer = OptimizerSettings(learning_rate=demanding.optimizer.learning_rate, name=name, arguments=arguments)
    module = TranscriptionModule(TinyModel(6, 12), create_loss(demanding.loss), optimizer, total_steps=12, validation_interval=3, seed=0)
    configured = module.configure_optimizers()
    checkpoint = {
        "global_step": 0,
        "state_dict": module.state_dict(),
        "optimizer_states": [configured["optimizer"].state_dict()],
        "lr_schedulers": [configured["lr_scheduler"]["scheduler"].state_dict()],
    }
    step_on_trial(checkpoint, module)


STRANGE = (None, "text", "..", "1.5.0", b"text", -1, 0, 10**30, 2**62, 1.5, math.nan, math.inf, True, {}, [], (1, 2), torch.zeros(3))


def places(tree: object, path: tuple = ()) -> Iterator[tuple]:
    """All paths into a checkpoint."""
    if path:
        yield path
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*path, key))


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plateau", [False, True])
def test_one_strange_value_in_a_checkpoint_is_refused_or_does_no_harm(demanding: TrainSettings, tmp_path: Path, plateau: bool) -> None:
    """Each run that is not refused goes on to its end."""
    settings = demanding
    if plateau:
        rate, trainer = OptimizerSettings(plateau_patience=1), replace(demanding.trainer, early_stopping_patience=3, minutes=60.0)
        settings = replace(demanding, optimizer=rate, trainer=trainer)
    with stopped(Stop("exception", "batch", 13)), pytest.raises(ZeroDivisionError):
        train(settings, tmp_path / "run")
    good = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    rng, refused = random.Random(int(plateau)), []
    for number in range(150):
        changed, path, value = copy.deepcopy(good), rng.choice(list(places(good))), rng.choice(STRANGE)
        tree = changed
        for key in path[:-1]:
            tree = tree[key]
        if isinstance(tree, tuple):
            continue
        tree[path[-1]] = value
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "run", folder)
        AtomicCheckpointIO().save_checkpoint(changed, folder / "checkpoints" / LAST)
        try:
            train(settings, folder, resume=True)
        except InputError as error:
            refused.append(str(error))
        except Exception as error:
            raise AssertionError(f"{path}: {value!r}") from error
        shutil.rmtree(folder)
    assert 30 < len(refused) < 120
    assert all("Remedy" in text for text in refused)
