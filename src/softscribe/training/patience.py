"""What a run does when its validation costs fall no longer; what it decided is part of its checkpoints."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from softscribe.errors import InputError
from softscribe.training.module import MONITORED_COST

LOWEST_RATE = 1e-6


class LastingEarlyStopping(EarlyStopping):
    """Lightning's, but what ran out of patience stays stopped: resumed, such a run goes on with writing its model, not with training."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        waited, best = state_dict["wait_count"], state_dict["best_score"]
        if type(waited) is not int or waited < 0 or not isinstance(best, torch.Tensor) or best.shape != () or best.isnan():
            raise InputError(f"early stopping: {waited!r} validations since the best cost {best!r}. Remedy: resume from another run.")
        # The patience may have been changed since.
        super().load_state_dict({**self.state_dict(), "wait_count": waited, "best_score": best})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class LowerRateOnPlateau(Callback):
    """Halves the learning rate after `patience` validations without a lower MONITORED_COST.

    Lightning's own handling counts batches, and comes after the checkpoint of the validation.

    Args:
        patience: in validations.
        learning_rate: before it was ever halved.
    """

    def __init__(self, patience: int, learning_rate: float) -> None:
        self.patience = patience
        self.learning_rate = learning_rate
        self.lowest = float("inf")
        self.waited = 0
        self.halvings = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set_rate(trainer)  # a checkpoint brings along the rate that was set before

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        cost = float(trainer.callback_metrics[MONITORED_COST])
        if cost < self.lowest:
            self.lowest, self.waited = cost, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            self.halvings += 1
            self._set_rate(trainer)

    def _set_rate(self, trainer: pl.Trainer) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = max(math.ldexp(self.learning_rate, -self.halvings), LOWEST_RATE)

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "waited": self.waited, "halvings": self.halvings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        lowest, waited, halvings = (state_dict[name] for name in ("lowest", "waited", "halvings"))
        if (
            type(lowest) is not float
            or math.isnan(lowest)
            or not all(type(count) is int and 0 <= count < 10**6 for count in (waited, halvings))
        ):
            raise InputError(
                f"plateau: {waited!r} validations since the lowest cost {lowest!r}, {halvings!r} halvings. Remedy: resume from another run."
            )
        self.lowest, self.waited, self.halvings = lowest, waited, halvings
