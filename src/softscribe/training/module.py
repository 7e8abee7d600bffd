"""The Lightning module: one training step, one validation step, and what must never happen between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from softscribe.errors import InputError
from softscribe.training.losses import Loss
from softscribe.training.schedules import Schedule
from softscribe.training.segments import Batch

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
"""Name -> class. An optimizer of your own joins by `OPTIMIZERS["mine"] = Mine`."""

VALIDATION_COST = "validation/cost"
"""The mean expected path cost per frame, at the final temperature and without prior."""

MONITORED_COST = "validation/monitored_cost"
"""What chooses the best checkpoint, stops early and lowers the learning rate: VALIDATION_COST once all schedules of the loss have settled.

Before, a falling pseudo-cost stands in for it (as in Zeitler, Krause, Mueller, ISMIR 2023). A model trained at a high temperature is
blurred and cautious, which the cost rewards: it would choose a model from the middle of the annealing, worse than the last one.
"""

_PSEUDO_COST = 1e6

BAD_STEPS_UNTIL_STOP = 5


@dataclass
class OptimizerSettings:
    """The optimizer, its learning rate, and what lowers it.

    Attributes:
        name: key of `OPTIMIZERS`.
        arguments: further arguments of the optimizer, such as weight_decay.
        learning_rate: a `Schedule`, as a mapping.
        plateau_patience: validations without improvement after which the learning rate is halved; `null` never does. With a patience, the
            learning rate's schedule has to be constant.
    """

    name: str = "adamw"
    arguments: dict[str, Any] = field(default_factory=dict)
    learning_rate: dict[str, Any] = field(default_factory=lambda: {"start": 1e-3})
    plateau_patience: int | None = None

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise InputError(f"optimizer.name: {self.name!r} is not known. Remedy: one of {', '.join(sorted(OPTIMIZERS))}.")
        schedule = self.schedule
        if schedule.start <= 0 or schedule.final < 0:
            raise InputError(f"optimizer.learning_rate: from {schedule.start} to {schedule.final}. Remedy: positive rates, such as 1e-3.")
        if self.plateau_patience is not None and (self.plateau_patience < 1 or schedule.shape != "constant"):
            raise InputError("optimizer.plateau_patience: needs at least 1 and a constant learning rate. Remedy: plateau_patience=null.")

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a function of training's progress."""
        return make_schedule(self.learning_rate, "optimizer.learning_rate")


def make_schedule(settings: Mapping[str, Any], name: str) -> Schedule:
    """Build a schedule from a config's mapping; an unknown key is an InputError that names it."""
    try:
        return Schedule(**settings)
    except TypeError as error:
        raise InputError(f"{name}: {error}. Remedy: start, end, shape, begin, until.") from error


class TranscriptionModule(pl.LightningModule):
    """Trains a model of `softscribe.models` with a loss of `softscribe.training.losses`.

    Args:
        model: from features (B, C, N + 2 * CONTEXT_FRAMES, bins) to logits (B, N, K).
        loss: see `softscribe.training.losses`.
        optimizer: see `OptimizerSettings`.
        total_steps: optimizer steps of the whole training: schedules refer to it.
        validation_interval: optimizer steps between validations.
        seed: decides dropout, with the number of the step.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, optimizer: OptimizerSettings, *, total_steps: int, validation_interval: int, seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.total_steps = total_steps
        self.validation_interval = validation_interval
        self.seed = seed
        self.bad_steps = 0

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    def forward(self, batch: Batch) -> Tensor:
        return self.model(batch.features).float()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout depends on the seed and the position alone: a resumed run draws what the uninterrupted one would have drawn.
        torch.manual_seed(hash((self.seed, self.trainer.global_rank, batch_idx)) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch)
        # A loss needs finite costs; a NaN in the logits is left to reach the gradient, where the guard below names the batch.
        finite = bool(torch.isfinite(logits).all())
        loss = self.loss(logits, batch, self.progress) if finite else logits.sum() * float("nan")
        self.log("train/loss", loss, batch_size=len(batch.frame_counts))
        for name, schedule in self.loss.schedules().items():
            self.log(f"train/{name}", schedule(self.progress), batch_size=1)
        self._last_batch = batch
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self.log("train/gradient_norm", norm, batch_size=1)
        if torch.isfinite(norm):
            self.bad_steps = 0
            return
        for parameter in self.parameters():
            parameter.grad = None
        self.bad_steps += 1
        names = ", ".join(self.trainer.datamodule.segment_names(self._last_batch))  # type: ignore[attr-defined]
        message = f"step {self.global_step}: the gradient is not finite, so the step was left out. Its segments: {names}."
        if self.bad_steps >= BAD_STEPS_UNTIL_STOP:
            raise InputError(f"{message} That was the {self.bad_steps}th in a row. Remedy: a lower learning rate, or look at these files.")
        self.print(message)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self(batch)
        if not torch.isfinite(logits).all():
            names = self.trainer.datamodule.segment_names(batch, "validation")  # type: ignore[attr-defined]
            raise InputError(f"validation: the network's output is not finite for one of {', '.join(names)}. Remedy: look at these files.")
        cost = self.loss.validation_cost(logits, batch)
        settled = all(schedule.settled(self.progress) for schedule in self.loss.schedules().values())
        pseudo_cost = 0.0 if settled else _PSEUDO_COST * (1 - self.progress)
        self.log(VALIDATION_COST, cost.mean(), batch_size=len(cost), sync_dist=True)
        self.log(MONITORED_COST, cost.mean() + pseudo_cost, batch_size=len(cost), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        schedule = self.optimizer.schedule
        try:
            optimizer = OPTIMIZERS[self.optimizer.name](self.parameters(), lr=schedule.start, **self.optimizer.arguments)  # type: ignore[call-arg]
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer: {error}. Remedy: arguments that {self.optimizer.name} takes.") from error
        if self.optimizer.plateau_patience is not None:
            return optimizer
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / self.total_steps) / schedule.start)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}
