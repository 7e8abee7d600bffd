"""The Lightning module: one training step, one validation step, and what must never happen between them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from softscribe.errors import InputError
from softscribe.training.losses import Loss
from softscribe.training.non_finite import BAD_STEPS_UNTIL_STOP, Attempt, blame, what_is_not_finite, write_dump
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

HIGHEST_RATE = 1e6
"""Of learning: an optimizer's step has to be a number in the precision of the weights."""

_PSEUDO_COST = 1e6


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
        if not (0 < schedule.start <= HIGHEST_RATE and 0 <= schedule.final <= HIGHEST_RATE):
            raise InputError(
                f"optimizer.learning_rate: from {schedule.start} to {schedule.final}. "
                f"Remedy: positive rates up to {HIGHEST_RATE:g}, such as 1e-3."
            )
        for name, value in self.arguments.items():
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(each, float) and not math.isfinite(each) for each in values):
                raise InputError(f"optimizer.arguments.{name}: {value}. Remedy: finite numbers.")
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


def step_is_done(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the batch is the last of those whose gradients make one step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class TranscriptionModule(pl.LightningModule):
    """Trains a model of `softscribe.models` with a loss of `softscribe.training.losses`.

    Args:
        model: from features (B, C, N + 2 * CONTEXT_FRAMES, bins) to logits (B, N, K).
        loss: see `softscribe.training.losses`.
        optimizer: see `OptimizerSettings`.
        total_steps: optimizer steps of the whole training: schedules refer to it.
        validation_interval: optimizer steps between validations.
        seed: decides dropout, with the number of the step.

    Attributes:
        changed_settings: names, such as optimizer.learning_rate.start, of what the checkpoint that a run goes on from was saved with
            otherwise (`take_changes`).

    Raises:
        InputError: a weight or buffer of the model is NaN or infinite.
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
        self.changed_settings: frozenset[str] = frozenset()
        self._attempts: list[Attempt] = []
        self._validation_costs: list[Tensor] = []
        if bad := self._not_finite():
            raise InputError(
                f"model: {', '.join(bad)} not finite before training. Remedy: finite weights; a mask as a buffer that is not saved."
            )

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    def on_train_start(self) -> None:
        groups = self.trainer.optimizers[0].param_groups
        if self.device.type == "cpu" and any(group.get("capturable") and not group.get("fused") for group in groups):
            raise InputError("optimizer.arguments.capturable: on the CPU, where torch cannot do it. Remedy: false, or a GPU.")

    def take_changes(self, optimizer: torch.optim.Optimizer, rate: Any | None, step: int) -> None:
        """Give an optimizer that was restored at a step what the settings say otherwise than those it was saved with; all else stays.

        A learning rate that is changed holds as it is from here on, whatever a plateau had made of the old one; one that is not stays as
        low as a plateau has made it, also if none is to lower it further.
        """
        if not self.changed_settings:
            return
        configured: Any = self.configure_optimizers()
        anew = configured["optimizer"] if isinstance(configured, dict) else configured
        arguments = {name.removeprefix("optimizer.arguments.") for name in self.changed_settings}
        rate_changed = any(name.startswith("optimizer.learning_rate") for name in self.changed_settings)
        for group, wanted in zip(optimizer.param_groups, anew.param_groups, strict=True):
            names = wanted.keys() - {"params", "lr"} if "optimizer.name" in self.changed_settings else arguments & wanted.keys()
            group.update({name: wanted[name] for name in names})
            if rate is not None:
                group["initial_lr"] = wanted["initial_lr"] if rate_changed else group.get("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * rate.lr_lambdas[0](step)
            else:
                group.pop("initial_lr", None)  # a schedule's, which is over
                group["lr"] = wanted["lr"] if rate_changed else group["lr"]
        if rate is not None:
            rate.last_epoch, rate.base_lrs = step, [group["initial_lr"] for group in optimizer.param_groups]

    def forward(self, batch: Batch) -> Tensor:
        return self.model(batch.features).float()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout depends on the seed and the position alone: a resumed run draws what the uninterrupted one would have drawn.
        torch.manual_seed(hash((self.seed, self.trainer.global_rank, batch_idx)) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._attempts.clear()
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        logits = self(batch)
        not_finite = what_is_not_finite(features=batch.features, targets=batch.targets, output=logits)
        if not_finite is None:
            loss = self.loss(logits, batch, self.progress)
            not_finite = what_is_not_finite(loss=loss)
        if not_finite is not None:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):  # such as the statistics of normalised batches
                buffer.copy_(before)
            # NaN is made to reach every gradient, also of the other processes, so that all of them leave out the step below.
            loss = torch.stack([parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum() * float("nan")
        self._attempts.append(Attempt(batch, not_finite, self._segment_names(batch, "train")))
        # What is shown and written of a step is `StepProgress`'s and `StepCurves`'s matter.
        self.log("train/loss", loss, batch_size=len(batch.frame_counts), logger=False)
        for name, value in self.loss.in_force(self.progress).items():
            self.log(f"train/{name}", value, batch_size=1, logger=False)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self.log("train/gradient_norm", norm, batch_size=1, logger=False)
        if torch.isfinite(norm):
            self.bad_steps = 0
            return
        for parameter in self.parameters():
            parameter.grad = None
        self.bad_steps += 1
        what, segments = blame(self._attempts)
        message = f"step {self.global_step}: {what} not finite, so the step was left out. Its segments: {', '.join(segments)}."
        mine = any(attempt.not_finite is not None for attempt in self._attempts)
        somebodys = self.trainer.strategy.reduce(torch.tensor(float(mine), device=self.device), reduce_op="max")
        if somebodys > mine:  # another process names its batches
            if self.bad_steps == BAD_STEPS_UNTIL_STOP:
                raise InputError(
                    f"step {self.global_step}: the {self.bad_steps}th bad step in a row. Remedy: see another process's message."
                )
            return
        if self.bad_steps < BAD_STEPS_UNTIL_STOP:
            print(message)
            return
        process = f"-process-{self.global_rank}" if self.trainer.world_size > 1 else ""
        dump = Path(self.trainer.default_root_dir) / f"not-finite-step-{self.global_step:06d}{process}.safetensors"
        write_dump(dump, self.global_step, self._attempts)
        raise InputError(
            f"{message} That was the {self.bad_steps}th in a row; its batches are kept in {dump}. "
            "Remedy: a lower learning rate, or look at these files."
        )

    def on_validation_epoch_start(self) -> None:
        self._validation_costs = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self(batch)
        not_finite = what_is_not_finite(features=batch.features, targets=batch.targets, output=logits)
        if not_finite is not None:
            self._check_weights()
            names = ", ".join(self._segment_names(batch, "validation"))
            raise InputError(f"validation: {not_finite} not finite for one of {names}. Remedy: look at these files.")
        self._validation_costs.append(self.loss.validation_cost(logits, batch))

    def on_validation_epoch_end(self) -> None:
        costs = torch.cat(self._validation_costs)
        # Lightning's own mean over processes rounds the number of items per process down, which is wrong if they hold unequally many.
        total, count = self.trainer.strategy.reduce(torch.stack([costs.sum(), costs.new_tensor(len(costs))]), reduce_op="sum")
        settled = all(schedule.settled(self.progress) for schedule in self.loss.schedules().values())
        pseudo_cost = 0.0 if settled else _PSEUDO_COST * (1 - self.progress)
        self.log(VALIDATION_COST, total / count)
        self.log(MONITORED_COST, total / count + pseudo_cost)
        # Lightning writes the costs at the step that is called "step"; its own count is off by one in runs that were resumed.
        self.log("step", float(self.global_step - 1))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A step can make them so of finite gradients. All processes come here.
        self._check_weights()
        checkpoint["bad_steps"] = self.bad_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.bad_steps = checkpoint["bad_steps"]

    def _not_finite(self) -> list[str]:
        return [name for name, tensor in self.state_dict().items() if not torch.isfinite(tensor).all()]

    def _check_weights(self) -> None:
        if bad := self._not_finite():
            raise InputError(
                f"step {self.global_step}: weights that are NaN or infinite ({', '.join(bad)}); the last checkpoint is older. "
                "Remedy: a lower learning rate, or other arguments of the optimizer, then a new run."
            )

    def _segment_names(self, batch: Batch, split: str) -> list[str]:
        return self.trainer.datamodule.segment_names(batch, split)  # type: ignore[attr-defined]

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
