"""Whether a run can go on from a checkpoint is known, and told in words, before it does."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interrupted_runs import Stop, TinyModel, stopped
from softscribe.errors import InputError
from softscribe.training import TrainSettings, train
from softscribe.training.checkpoints import LAST, AtomicCheckpointIO, read_checkpoint
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.losses import create_loss
from softscribe.training.module import OPTIMIZERS, OptimizerSettings, TranscriptionModule
from softscribe.training.resuming import settings_in_words, settings_since, step_on_trial


def lose(key: str) -> Callable[[dict], None]:
    return lambda checkpoint: checkpoint.pop(key)


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
    checkpoint["lr_schedulers"][0]["last_epoch"] = "text"


def spoil_a_moment(checkpoint: dict) -> None:
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg"][0] = torch.inf


def confuse_the_callbacks(checkpoint: dict) -> None:
    checkpoint["callbacks"] = "text"


def pretend_a_gpu(checkpoint: dict) -> None:
    checkpoint["optimizer_states"][0]["param_groups"][0]["capturable"] = True


def misdate(checkpoint: dict) -> None:
    checkpoint["pytorch-lightning_version"] = "text"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lose("loops"), "loops missing"),
        (lose("bad_steps"), "bad_steps"),
        (widen, "another model"),
        (uncount, "loops count no steps"),
        (spoil, "weights that are, or would become, NaN"),
        (forget_the_best, "its run cannot go on .KeyError: 'best_k_models'"),
        (misplace_the_best, "its run cannot go on .AttributeError"),
        (lose("SegmentDataModule"), "its run cannot go on .KeyError: 'SegmentDataModule'"),
        (confuse_the_callbacks, "its run cannot go on .ValueError"),
        (pretend_a_gpu, "its optimizer cannot go on .AssertionError"),
        (misdate, "its run cannot go on .InvalidVersion"),
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


def test_a_run_that_goes_on_with_other_settings_says_so(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, settings in (("same", demanding), ("other", replace(demanding, seed=5, trainer=replace(demanding.trainer, batch_size=1)))):
        shutil.copytree(uninterrupted, tmp_path / name)
        train(settings, tmp_path / name, resume=True)
    same, other = capsys.readouterr().out.split("report: ")[:2]
    assert "changed" not in same
    assert "config.yaml was changed since step 12, and holds from here on: seed 0 -> 5; trainer.batch_size 2 -> 1\n" in other


def nested(levels: int) -> dict:
    tree: dict = {}
    for _ in range(levels):
        tree = {"seed": tree}
    return tree


@pytest.mark.parametrize("settings", [torch.zeros(3), {"seed": torch.zeros(3)}, nested(5000), {0: "1"}, None])
def test_settings_of_other_kinds_in_a_checkpoint_say_nothing(demanding: TrainSettings, uninterrupted: Path, settings: object) -> None:
    checkpoint = read_checkpoint(uninterrupted / "checkpoints" / LAST)
    checkpoint["callbacks"]["LastCheckpoint"]["settings"] = settings
    assert settings_since(checkpoint, settings_in_words(asdict(demanding))) == []


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
        "state_dict": module.state_dict(),
        "optimizer_states": [configured["optimizer"].state_dict()],
        "lr_schedulers": [configured["lr_scheduler"]["scheduler"].state_dict()],
    }
    step_on_trial(checkpoint, module)
