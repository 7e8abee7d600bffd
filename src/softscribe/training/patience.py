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
        counted = type(waited) is int and waited >= 0
        if not counted or not isinstance(best, torch.Tensor) or not best.is_floating_point() or best.shape != () or not best > -math.inf:
            raise InputError(f"early stopping: {waited!r} validations since the best cost {best!r}. Remedy: resume from another run.")
        # The patience may have been changed since.
        super().load_state_dict({**self.state_dict(), "wait_count": waited, "best_score": best})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class LowerRateOnPlateau(Callback):
    """Halves the learning rate after `patience` validations without a lower MONITORED_COST, down to `LOWEST_RATE`.

    Lightning's own handling counts batches, and comes after the checkpoint of the validation.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.lowest = float("inf")
        self.waited = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        cost = float(trainer.callback_metrics[MONITORED_COST])
        if cost < self.lowest:
            self.lowest, self.waited = cost, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = max(group["lr"] / 2, min(group["lr"], LOWEST_RATE))

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        lowest, waited = state_dict["lowest"], state_dict["waited"]
        if type(lowest) is not float or not lowest > -math.inf or type(waited) is not int or waited < 0:  # NaN is above nothing
            raise InputError(f"plateau: {waited!r} validations since the lowest cost {lowest!r}. Remedy: resume from another run.")
        self.lowest, self.waited = lowest, waited
