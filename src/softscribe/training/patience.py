"""What a run does when its validation costs fall no longer; what it decided is part of its checkpoints."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping

from softscribe.training.module import MONITORED_COST

LOWEST_RATE = 1e-6


class LastingEarlyStopping(EarlyStopping):
    """Lightning's, but what ran out of patience stays stopped: resumed, such a run goes on with writing its model, not with training."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class LowerRateOnPlateau(Callback):
    """Halves the learning rate after `patience` validations without a lower MONITORED_COST.

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
                group["lr"] = max(group["lr"] / 2, LOWEST_RATE)

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lowest, self.waited = state_dict["lowest"], state_dict["waited"]
