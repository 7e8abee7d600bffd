"""What a run shows on the screen while it trains."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softscribe.console import Console, Progress
from softscribe.training.module import VALIDATION_COST, TranscriptionModule


class StepProgress(Callback):
    """A bar over the optimizer steps with the time left, and a line that stays for every validation.

    Lightning's own bars count batches of an epoch; training here is one stream of steps.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TranscriptionModule)
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(),
        )
        self._progress.start()
        self._task = self._progress.add_task("training", total=pl_module.total_steps, completed=trainer.global_step, loss="-")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._progress is not None and self._task is not None:
            loss = trainer.callback_metrics.get("train/loss")
            self._progress.update(self._task, completed=trainer.global_step, loss="-" if loss is None else f"{loss:.3f}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._progress is not None and not trainer.sanity_checking:
            cost = trainer.callback_metrics[VALIDATION_COST]
            self._progress.console.print(f"step {trainer.global_step:>6}   validation cost per frame {cost:.4f}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
