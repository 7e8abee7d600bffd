"""The run's metrics.csv: one row for each step at which something was logged."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from softscribe.files import replacing
from softscribe.report import read_curves
from softscribe.training.module import step_is_done


class CurvesLogger(Logger):
    """Collects metrics by step in a CSV that is always whole, and goes on in it when a run is resumed.

    Lightning's own CSV logger deletes the rows of the interrupted run.

    Args:
        path: the file; rows of steps from `first_step` on are dropped, since a resumed run writes them again.
        first_step: the step at which this run begins.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, str]] = {}
        for row in read_curves(path):
            if int(row["step"]) < first_step:
                self.rows[int(row["step"])] = {name: value for name, value in row.items() if name != "step" and value}

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> None:
        return None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Hyper-parameters stand in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = self.rows.setdefault(step or 0, {})
        row.update({name: repr(float(value)) for name, value in metrics.items() if name != "epoch"})

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return
        names = sorted({name for row in self.rows.values() for name in row})
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *names])
            writer.writeheader()
            writer.writerows({"step": step, **self.rows[step]} for step in sorted(self.rows))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


class StepCurves(Callback):
    """Writes the numbers of every `interval_steps`-th training step, before the checkpoint of that step is saved.

    Lightning itself writes them after its callbacks: a run that ends with a checkpoint, or is killed just behind it, would lose them.
    """

    def __init__(self, interval_steps: int) -> None:
        self.interval_steps = interval_steps

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if step_is_done(trainer, batch_idx) and trainer.global_step % self.interval_steps == 0:
            values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step - 1)
                logger.save()
