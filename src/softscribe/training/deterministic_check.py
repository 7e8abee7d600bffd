"""Whether this machine keeps the promise of exact resumption: a few steps of a run, trained thrice."""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from softscribe.errors import InputError
from softscribe.report import read_curves
from softscribe.training.checkpoints import RunInterruptedError
from softscribe.training.run import train
from softscribe.training.settings import ThresholdSettings, TrainSettings
from softscribe.training.trainer import CURVES_INTERVAL_STEPS

CHECK_STEPS = 2 * CURVES_INTERVAL_STEPS
"""Enough for two rows of training and two validations."""

STOP_STEP = CURVES_INTERVAL_STEPS + 2


def check_determinism(settings: TrainSettings) -> bool:
    """Train `CHECK_STEPS` steps of `settings` three times in a temporary folder and print whether weights and metrics agree bit by bit.

    Two of the runs are left alone, the third is stopped by SIGTERM in its middle and resumed. Schedules shrink with the run.

    Args:
        settings: of the run in question; it has to be one of a single process.

    Returns:
        True if all three agree.

    Raises:
        InputError: the settings cannot be trained, or name several processes.
        RunInterruptedError: a signal stopped the check.
    """
    if settings.trainer.devices not in (1, "1") or settings.trainer.nodes != 1:
        raise InputError("deterministic_check: runs in one process only. Remedy: trainer.devices=1 trainer.nodes=1 trainer.strategy=auto.")
    # An alarm about so short a training is none of the check's business.
    policy = "warn" if settings.health.policy == "stop" else settings.health.policy
    short = replace(
        settings,
        trainer=replace(
            settings.trainer,
            steps=CHECK_STEPS,
            validation_interval_steps=CHECK_STEPS // 2,
            checkpoint_interval_steps=CHECK_STEPS,
            minutes=None,
            early_stopping_patience=None,
            pictures_every_validations=0,
        ),
        health=replace(settings.health, interval_steps=CHECK_STEPS // 4, policy=policy),
        threshold=ThresholdSettings(fixed=0.5),
        logger={},
    )
    with tempfile.TemporaryDirectory(prefix="softscribe-check-") as name:
        first, second, resumed = (Path(name) / run for run in ("first", "second", "resumed"))
        train(short, first)
        train(short, second)
        stop = _StopAt(STOP_STEP)
        try:
            train(short, resumed, callbacks=[stop])
        except RunInterruptedError:
            if not stop.sent:
                raise
            train(short, resumed, resume=True)
        repeatable, resumable = difference(first, second), difference(first, resumed)
    print(f"deterministic check: {CHECK_STEPS} steps, trained twice: {repeatable or 'the same bits'}.")
    print(f"deterministic check: {CHECK_STEPS} steps, interrupted at step {STOP_STEP} and resumed: {resumable or 'the same bits'}.")
    if repeatable:
        print("This training is not repeatable on this machine. Remedy: trainer.accelerator=cpu, or seed your loss and model.")
    elif resumable:
        print("This training is repeatable, but not resumable. Remedy: report it; a loss or a model of your own must keep no state.")
    return not repeatable and not resumable


def difference(first: Path, second: Path) -> str:
    """Return in words how the weights and the metrics of two runs differ, nothing if they agree bit by bit."""
    weights, others = (load_file(folder / "model" / "weights.safetensors") for folder in (first, second))
    words = []
    if weights.keys() != others.keys():
        words.append("other weights")
    elif unequal := [name for name in weights if not torch.equal(weights[name], others[name])]:
        largest = max((weights[name] - others[name]).abs().max().item() for name in unequal)
        words.append(f"{len(unequal)} of {len(weights)} tensors of weights differ by up to {largest:.3g}")
    rows, other_rows = (read_curves(folder / "metrics.csv") for folder in (first, second))
    if rows != other_rows:
        step = next((row["step"] for row, other in zip(rows, other_rows, strict=False) if row != other), "of the end")
        words.append(f"metrics.csv differs from step {step} on")
    return ", ".join(words)


class _StopAt(Callback):
    """Sends this process SIGTERM when step `step` is done, as a cluster would."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.sent = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            self.sent = True
            signal.raise_signal(signal.SIGTERM)
