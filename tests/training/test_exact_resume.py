"""A run that is stopped anywhere and resumed ends with the bits of the run that was not."""

import gc
import io
import json
import multiprocessing
import os
import signal
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.optim import Optimizer

from interrupted_runs import Stop, differences, start, stopped, traces, train_with_stops
from softscribe import cli
from softscribe.cli import main
from softscribe.cli.runs import begin_seeds, run_one
from softscribe.report import curve_points
from softscribe.training import RunInterruptedError, TrainSettings, train
from softscribe.training.checkpoints import BEST, LAST, STOP_SIGNALS, read_checkpoint
from softscribe.training.module import OptimizerSettings, TranscriptionModule
from softscribe.training.segments import Batch

STEPS = 12


def test_the_reference_is_demanding(uninterrupted: Path, demanding: TrainSettings, tmp_path: Path) -> None:
    """Rows of training and of validation are written, and the seed matters: equality below is no accident."""
    points = curve_points(uninterrupted / "metrics.csv")
    assert points["validation/cost"][0] == [3, 6, 9, 12]
    assert points["train/loss"][0] == [10]
    train(replace(demanding, seed=1), tmp_path / "other")
    assert {"model/weights.safetensors", "metrics.csv", "optimizer"} <= set(differences(uninterrupted, tmp_path / "other"))


# Three items in steps of two batches of two: batch 2 ends a pass over the items in the middle of a step, batch 5 a pass and a step.
PLACES = {
    "before anything": Stop("exception", "batch", 0),
    "after batch 1": Stop("exception", "batch", 1),
    "a pass ends in mid-step": Stop("exception", "batch", 3),
    "a pass and a step end": Stop("exception", "batch", 6),
    "all schedules move": Stop("exception", "batch", 7),
    "prior settled, gamma moves": Stop("exception", "batch", 13),
    "learning rate alone moves": Stop("exception", "batch", 20),
    "in validation": Stop("exception", "validation", 6),
    "in the last validation": Stop("exception", "validation", STEPS),
    "writing the model": Stop("exception", "model"),
}


@pytest.mark.parametrize("place", PLACES)
def test_stopped_by_an_exception(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, place: str) -> None:
    train_with_stops(demanding, tmp_path / "run", [PLACES[place]])
    assert not differences(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize(
    "stop",
    [Stop("SIGTERM", "batch", 1), Stop("SIGTERM", "batch", 18), Stop("SIGTERM", "batch", 19), Stop("SIGINT", "validation", 9)],
    ids=str,
)
def test_stopped_by_a_signal(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, stop: Stop) -> None:
    """Batches 18 and 19 make step 10, whose row of metrics.csv has to stand before the run ends."""
    train_with_stops(demanding, tmp_path / "run", [stop])
    assert not differences(uninterrupted, tmp_path / "run")


def test_stopped_and_resumed_twice_with_workers(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    """Batches that workers loaded in advance are drawn again; how many workers there are changes no bit."""
    with_workers = replace(demanding, trainer=replace(demanding.trainer, worker_count=2))
    train_with_stops(with_workers, tmp_path / "run", [Stop("SIGTERM", "batch", 5), Stop("exception", "batch", 15)])
    assert not differences(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize(
    "recipe",
    [
        {
            "optimizer": OptimizerSettings("sgd", {"momentum": 0.9}, {"start": 3.0}, plateau_patience=1),
            "early_stopping_patience": 20,
            "gradient_clip_norm": 0.01,
        },
        {  # whose cost rises and falls, so that the best checkpoint is one from before the stops
            "seed": 1,
            "loss": {"gamma": 1.0, "diagonal_prior": 0.0},
            "optimizer": OptimizerSettings("sgd", {"momentum": 0.9}, {"start": 3.0}),
        },
        {"precision": "bf16-mixed"},
        {"loss": {"horizontal": {"start": 5, "end": 1, "shape": "linear"}, "energy": {"start": 2, "end": 0, "shape": "cosine"}}},
    ],
    ids=["plateau", "best in the middle", "bfloat16", "all schedules"],
)
def test_other_recipes_go_on_as_exactly(demanding: TrainSettings, tmp_path: Path, recipe: dict[str, Any]) -> None:
    settings = replace(
        demanding,
        loss=demanding.loss | recipe.pop("loss", {}),
        seed=recipe.pop("seed", demanding.seed),
        optimizer=recipe.pop("optimizer", demanding.optimizer),
        trainer=replace(demanding.trainer, validation_interval_steps=1, **recipe),
    )
    train(settings, tmp_path / "whole")
    train_with_stops(settings, tmp_path / "run", [Stop("exception", "batch", 11), Stop("SIGTERM", "batch", 15)])
    assert not differences(tmp_path / "whole", tmp_path / "run")


class Unread(io.StringIO):
    """A pipe whose reader is gone, as that of `softscribe train | tee log` after Ctrl-C, which both of them get."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(("interrupted", "saved"), [(11, 4), (12, 7)])
def test_a_signal_is_what_ended_a_run_whose_output_is_no_longer_read(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int, saved: int
) -> None:
    """The first ends a step that is validated, whose line cannot be printed before anything is saved."""

    def interrupt(module: TranscriptionModule, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx == interrupted:
            monkeypatch.setattr(sys, "stdout", Unread())
            os.kill(os.getpid(), signal.SIGINT)
        return step(module, batch, batch_idx)

    step = TranscriptionModule.training_step
    monkeypatch.setattr(TranscriptionModule, "training_step", interrupt)
    with pytest.raises(RunInterruptedError, match="SIGINT"):
        train(demanding, tmp_path / "run")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == saved
    train(demanding, tmp_path / "run", resume=True)
    assert not differences(uninterrupted, tmp_path / "run")


def test_output_that_is_no_longer_read_ends_a_run_in_words(
    demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `softscribe train | head`: at the next line, which is that of a validation."""
    cut = AtEachStep(lambda _: monkeypatch.setattr(sys, "stdout", Unread()))
    monkeypatch.setattr(cli, "_train", lambda _: train(demanding, tmp_path / "run", callbacks=[cut]) and 0)
    assert main(["train"]) == 128 + signal.SIGPIPE
    assert capsys.readouterr().err.endswith("softscribe train: ended, for what it writes to a pipe is no longer read.\n")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 2


def test_a_second_interrupt_ends_at_once(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    """In the first batch of step 7, whose end it does not wait for."""
    step = TranscriptionModule.training_step

    def interrupted_twice(module: TranscriptionModule, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx == 12:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(module, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TranscriptionModule, "training_step", interrupted_twice)
        with pytest.raises(RunInterruptedError, match="SIGINT"):
            train(demanding, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 6
    train(demanding, tmp_path / "run", resume=True)
    assert not differences(uninterrupted, tmp_path / "run")


class SignalWorkers(Callback):
    """Sends a signal to each worker when batch 3 comes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        for worker in multiprocessing.active_children() if batch_idx == 3 else []:
            os.kill(worker.pid, self.number)
            self.sent += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_workers_leave_signals_to_the_trainer(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, number: int) -> None:
    """A cluster may signal each process of a job."""
    signals = SignalWorkers(number)
    train(replace(demanding, trainer=replace(demanding.trainer, worker_count=2)), tmp_path / "run", callbacks=[signals])
    assert signals.sent >= 2
    assert not differences(uninterrupted, tmp_path / "run")


def test_stopped_moved_and_resumed(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    """Which checkpoint was the best, and at what cost, is known in the new place, and no path leads to the old one."""
    with stopped(Stop("exception", "batch", 20)), pytest.raises(ZeroDivisionError):
        train(demanding, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    train(demanding, tmp_path / "new", resume=True)
    assert not differences(uninterrupted, tmp_path / "new")
    checkpoints = [read_checkpoint(folder / "checkpoints" / LAST) for folder in (uninterrupted, tmp_path / "new")]
    known, kept = (next(state for state in each["callbacks"].values() if "best_model_score" in state) for each in checkpoints)
    assert kept["best_model_score"] == known["best_model_score"]
    assert list(kept["best_k_models"]) == [str(tmp_path / "new" / "checkpoints" / BEST)]


def test_tensorboard_shows_each_step_once(demanding: TrainSettings, tmp_path: Path) -> None:
    """Step 10's row is written, lost with the steps after the checkpoint of step 9, and written again."""
    settings = replace(demanding, logger={"tensorboard": True}, trainer=replace(demanding.trainer, checkpoint_interval_steps=100))
    train(settings, tmp_path / "whole")
    train_with_stops(settings, tmp_path / "run", [Stop("exception", "batch", 21)])
    whole, resumed = (scalars(tmp_path / name) for name in ("whole", "run"))
    assert [step for step, _ in whole["train/loss"]] == [9]
    assert resumed == whole


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_what_stopped_early_stays_so(demanding: TrainSettings, tmp_path: Path) -> None:
    """Stopped by its patience, the run fails while it writes its model; resumed, it writes the same and trains no further."""
    impatient = replace(
        demanding,
        optimizer=OptimizerSettings(learning_rate={"start": 1.0}),
        trainer=replace(demanding.trainer, early_stopping_patience=1, steps=30),
        loss={"name": "sdtw", "gamma": 1.0, "diagonal_prior": 0.0},
    )
    train(impatient, tmp_path / "whole")
    steps = curve_points(tmp_path / "whole" / "metrics.csv")["validation/cost"][0]
    assert steps[-1] < 30, "patience ended it"
    train_with_stops(impatient, tmp_path / "run", [Stop("exception", "model")])
    assert not differences(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", -signal.SIGTERM)])
def test_a_signal_while_the_model_is_written_ends_at_once(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, name: str, status: int
) -> None:
    """Ctrl-C tells how to go on."""
    run = start(demanding, tmp_path / "run", stop=Stop(name, "model"))
    assert run.status() == status, run.output
    assert (f"resume={tmp_path / 'run'}" in run.output) == (name == "SIGINT")
    assert start(None, tmp_path / "run").status() == 0
    assert not differences(uninterrupted, tmp_path / "run")


class AtEachStep(Callback):
    """Does something when a step is done."""

    def __init__(self, what: Callable[[pl.Trainer], None]) -> None:
        self.what = what

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        self.what(trainer)


class AtTheEnd(Callback):
    """Does something when the last step is done."""

    def __init__(self, what: Callable[[pl.Trainer], None]) -> None:
        self.what = what

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.what(trainer)


def test_a_signal_after_the_last_step_is_not_lost(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(RunInterruptedError, match="SIGTERM"):
        train(demanding, tmp_path / "run", callbacks=[AtTheEnd(lambda _: os.kill(os.getpid(), signal.SIGTERM))])
    train(demanding, tmp_path / "run", resume=True)
    assert not differences(uninterrupted, tmp_path / "run")


def test_a_training_gives_signals_back_and_is_forgotten(demanding: TrainSettings, tmp_path: Path) -> None:
    """Else SIGTERM would be swallowed ever after, and one training after another (several seeds) would fill the memory."""
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    trainers: list[weakref.ref] = []
    train(demanding, tmp_path / "run", callbacks=[AtTheEnd(lambda trainer: trainers.append(weakref.ref(trainer)))])
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    gc.collect()
    assert [trainer() for trainer in trainers] == [None]


def test_interrupted_seeds_go_on(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped in the second of three seeds: resumed, that one goes on, the first is left alone, the third begins, and all are summed up."""
    assert run_one(replace(demanding, seed=1), tmp_path / "runs" / "seed-1") == 0
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "seed-1" / "checkpoints").iterdir()}
    with stopped(Stop("SIGTERM", "batch", 5)):
        assert begin_seeds(demanding, [1, 0, 2], tmp_path / "runs") == 143
    assert f"all 3 seeds: softscribe train resume={tmp_path / 'runs'}\n" in capsys.readouterr().err
    assert main(["train", f"resume={tmp_path / 'runs'}"]) == 0
    assert "\n3 seeds: mean" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert not differences(uninterrupted, tmp_path / "runs" / "seed-0")
    summary = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    measured = [json.loads((tmp_path / "runs" / f"seed-{seed}" / "metrics.json").read_text()) for seed in (1, 0, 2)]
    assert summary["seeds"] == [1, 0, 2]
    assert summary["frame_f_measure"]["mean"] == pytest.approx(np.mean([each["frame_f_measure"] for each in measured]))


@pytest.mark.slow
@pytest.mark.parametrize("worker_count", [0, 2])
@pytest.mark.parametrize(
    "stops",
    [
        (Stop("SIGKILL", "batch", 1),),
        (Stop("SIGKILL", "batch", 9), Stop("SIGKILL", "validation", 6), Stop("SIGKILL", "batch", 19)),
        (Stop("SIGKILL", "model"),),
        (Stop("SIGTERM group", "batch", 5), Stop("SIGINT group", "batch", 15), Stop("SIGUSR1 group", "validation", 9)),
        (Stop("SIGTERM workers", "batch", 5),),
    ],
    ids=lambda stops: " + ".join(map(str, stops)),
)
def test_killed_for_real(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, stops: tuple[Stop, ...], worker_count: int) -> None:
    """Processes of their own, killed by the system or told to stop together with their workers, which may die of it."""
    statuses = {"SIGKILL": -9, "SIGTERM group": 143, "SIGINT group": 130, "SIGUSR1 group": 138, "SIGTERM workers": 143}
    settings: TrainSettings | None = replace(demanding, trainer=replace(demanding.trainer, worker_count=worker_count))
    for stop in stops:
        run = start(settings, tmp_path / "run", stop=stop)
        assert run.status() == statuses[stop.how], run.output
        assert "Traceback" not in run.output
        if stop.how.endswith("group"):  # the workers lived on, so that the step could be ended and saved
            reached = stop.number // 2 + 1 if stop.where == "batch" else stop.number
            assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == reached
        settings = None
    run = start(None, tmp_path / "run")
    assert run.status() == 0, run.output
    assert not differences(uninterrupted, tmp_path / "run"), traces(tmp_path / "run")["metrics.csv"].decode()
