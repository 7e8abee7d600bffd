"""Watches over the alignment while training goes on, and does what the policy says when it fails."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from softscribe.errors import InputError, concerning
from softscribe.files import read_json_lines, replacing
from softscribe.health import BEYOND_GOING_BACK, LIMITS, Alarm, HealthMonitor, estimate_time_shift, onset_strength, rises
from softscribe.models import CONTEXT_FRAMES
from softscribe.sound import HcqtSettings
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.losses import AligningLoss
from softscribe.training.module import TranscriptionModule, step_is_done
from softscribe.training.segments import AnnotatedSegment, collate
from softscribe.training.settings import HealthSettings

ENDED = "the run ends"
"""An alarm's action in alarms.jsonl that was the run's last."""


class HealthCheck(Callback):
    """Measures the health of a few validation segments now and then, logs it as `health/...`, and writes alarms to alarms.jsonl.

    No label is looked at: the segments' targets are those of the score. All that is decided depends on the weights and the step alone, and
    what is remembered is part of a checkpoint, so that a resumed run decides the same.

    Args:
        settings: see `HealthSettings`; the policy `ignore` has no health check.
        alarms: the file; what it holds when training starts stays.
    """

    def __init__(self, settings: HealthSettings, alarms: Path) -> None:
        self.settings = settings
        self.path = alarms
        self.lines: list[dict[str, Any]] = []
        self.monitor = HealthMonitor()
        self.actions: list[int] = []
        self.healthy_weights: dict[str, torch.Tensor] = {}
        self.healthy_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        self.lines = read_alarms(self.path)
        if not self.healthy_weights:  # the beginning, also of a run that goes on: a checkpoint's weights are loaded after this
            self.remember(pl_module.model.state_dict(), step=0)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        assert isinstance(pl_module.loss, AligningLoss)
        pl_module.loss.relief = self.relief(trainer.global_step, pl_module.total_steps)

    def relief(self, step: int, total_steps: int) -> float:
        """Return how much of the last action's relief is left at a step, in [0, 1]."""
        return max(0.0, 1 - (step - self.actions[-1]) / (self.settings.relief_share * total_steps)) if self.actions else 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        if not step_is_done(trainer, batch_idx) or trainer.global_step % self.settings.interval_steps:
            return
        numbers = self._measure_for_all(trainer, pl_module)
        for logger in trainer.loggers:  # Lightning's own way would wait for the next step at which it logs
            logger.log_metrics({f"health/{name}": value for name, value in numbers.items()}, step=trainer.global_step - 1)
            logger.save()
        total_steps = pl_module.total_steps
        recovering = self.relief(trainer.global_step, total_steps) > 0
        if not recovering and self.relief(trainer.global_step - self.settings.interval_steps, total_steps) > 0:
            self.monitor.forget()  # what still fails when the relief is over sounds again
        alarms = self.monitor.observe(numbers, progress=pl_module.progress)
        if alarms:
            self._sound(alarms, recovering, trainer, pl_module)
        if self.monitor.healthy:
            self.remember(pl_module.model.state_dict(), step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        if trainer.global_step == pl_module.total_steps and self.relief(trainer.global_step, pl_module.total_steps) > 0:
            pl_module.print(
                f"health: the last action was at step {self.actions[-1]}, too late for gamma and prior to come back to their schedules. "
                "Remedy: more steps, or another recipe."
            )
        if names := self.monitor.never_judged():
            pl_module.print(f"health: {', '.join(names)} could not sound, for no number was known twice in a row when it was asked for.")

    def _measure_for_all(self, trainer: pl.Trainer, module: TranscriptionModule) -> dict[str, float]:
        """The first process measures, since others' rounding must not decide otherwise; what it cannot use, it says to all."""
        numbers: dict[str, float] = {}
        error = None
        if trainer.is_global_zero:
            try:
                numbers = self.measure(trainer, module)
            except InputError as unusable:
                error = str(unusable)
        numbers, error = trainer.strategy.broadcast((numbers, error))
        if error is not None:
            raise InputError(error)
        return numbers

    def measure(self, trainer: pl.Trainer, module: TranscriptionModule) -> dict[str, float]:
        """Return the health numbers of the present weights."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentDataModule)
        assert isinstance(module.loss, AligningLoss)
        dataset = data.validation_set
        chosen = spread(len(dataset), self.settings.segments)
        batch = collate([dataset[index, index] for index in chosen])
        was_training = module.model.training
        module.model.eval()
        with torch.no_grad():
            logits = module.model(batch.features.to(module.device)).float().cpu()
        module.model.train(was_training)
        segments = [dataset.segments[index] for index in chosen]
        curves = [_rises(each, segment, dataset.features) for each, segment in zip(logits, segments, strict=True)]
        sounds, activations = zip(*curves, strict=True)
        shift = estimate_time_shift(sounds, activations, dataset.features.frames_per_second)
        numbers = module.loss.health(logits, batch, seed=trainer.global_step)
        return {"time_shift_frames": shift.certain_frames, **self._checked(numbers, type(module.loss).__name__)}

    def _checked(self, numbers: Any, loss: str) -> dict[str, float]:
        """What a loss of somebody else's says of its health."""
        if not isinstance(numbers, Mapping) or not all(isinstance(name, str) and isinstance(each, Real) for name, each in numbers.items()):
            raise InputError(f"{loss}.health: returned {numbers!r}. Remedy: numbers by name; NaN for one that is not known.")
        acted_upon = {limit.number for limit in LIMITS if limit.alarm not in BEYOND_GOING_BACK}
        if self.settings.policy == "act" and not acted_upon & numbers.keys():
            raise InputError(f"health=act: {loss}.health gives none of {', '.join(sorted(acted_upon))}. Remedy: one, or health=warn.")
        return {name: float(each) for name, each in numbers.items()}

    def _sound(self, alarms: list[Alarm], recovering: bool, trainer: pl.Trainer, module: TranscriptionModule) -> None:
        """Do once what the policy says, tell and write down all alarms of this step."""
        step, policy = trainer.global_step, self.settings.policy
        action = "none"
        if policy == "act" and not recovering and any(alarm.name not in BEYOND_GOING_BACK for alarm in alarms):
            policy = "stop" if len(self.actions) == self.settings.actions_at_most else policy
            if policy == "act":
                self._act(trainer, module)
                done = f"{len(self.actions)} of {self.settings.actions_at_most}"
                action = f"back to the weights of step {self.healthy_step}, gamma and prior raised ({done})"
        if policy == "stop":
            action = ENDED
        for alarm in alarms:
            helped = action if alarm.name not in BEYOND_GOING_BACK or action == ENDED else "none"
            self.lines.append({"step": step, **asdict(alarm), "action": helped})
            module.print(f"step {step}: ALARM {alarm} Action: {helped}.")
        if trainer.is_global_zero:
            write_alarms(self.path, self.lines)
        if policy == "stop":
            raise InputError(
                f"step {step}: {' '.join(map(str, alarms))} So the run ended (health={self.settings.policy}). Begin another "
                "one with a remedy, or set health.policy to warn in this one's config.yaml and resume it."
            )

    def _act(self, trainer: pl.Trainer, module: TranscriptionModule) -> None:
        module.model.load_state_dict(self.healthy_weights)
        for optimizer in trainer.optimizers:
            optimizer.state.clear()  # its momentum leads back to where the failure is
        self.actions.append(trainer.global_step)
        self.monitor.forget()

    def remember(self, weights: Mapping[str, torch.Tensor], step: int) -> None:
        """Remember where to go back to, whatever the policy: a run that is resumed may have another."""
        self.healthy_step = step
        self.healthy_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.settings.policy,
            "monitor": self.monitor.state_dict(),
            "actions": list(self.actions),
            "healthy_weights": self.healthy_weights,
            "healthy_step": self.healthy_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state_dict["monitor"])
        if state_dict["policy"] != self.settings.policy:
            self.monitor.forget()  # what still fails sounds again, so that the new policy answers
        self.actions, self.healthy_step = state_dict["actions"], state_dict["healthy_step"]
        self.healthy_weights = state_dict["healthy_weights"]

    def check_memory(self, model: torch.nn.Module, step: int) -> None:
        """Ask whether what was remembered can be of this model, at this step.

        Raises:
            InputError: it cannot.
        """
        steps = [*self.actions, self.healthy_step] if isinstance(self.actions, list) else [None]
        if not all(type(each) is int and 0 <= each <= step for each in steps):
            raise InputError(f"health: acted at {self.actions!r}, healthy at {self.healthy_step!r}. Remedy: resume from another run.")
        kept, present = self.healthy_weights, model.state_dict()
        if not (
            isinstance(kept, dict)
            and {name: getattr(tensor, "shape", None) for name, tensor in kept.items()}
            == {name: each.shape for name, each in present.items()}
            and all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
        ):
            raise InputError("health: the weights to go back to are not of this model, or not finite. Remedy: resume from another run.")


def spread(items: int, wanted: int) -> list[int]:
    """Return which of so many items in order to take, to have as many as wanted, evenly spread, or all.

    >>> spread(22, 4), spread(2, 4)
    ([0, 7, 14, 21], [0, 1])
    """
    return np.linspace(0, items - 1, min(items, wanted)).round().astype(int).tolist()


def _rises(logits: torch.Tensor, segment: AnnotatedSegment, settings: HcqtSettings) -> tuple[np.ndarray, np.ndarray]:
    """Of a segment's sound, and of what the network makes of it."""
    features = segment.features()
    if not np.isfinite(features).all():  # what surrounds the segment reaches the network, too
        raise InputError(f"{segment.prepared.features_path}: NaN or infinity in or around {segment.name}. Remedy: prepare it again.")
    sound = onset_strength(features[CONTEXT_FRAMES:-CONTEXT_FRAMES], settings)
    with concerning(f"the network's output for {segment.name}"):
        return sound, rises(logits[: segment.frame_count].sigmoid().numpy())


def read_alarms(path: Path) -> list[dict[str, Any]]:
    """Return the alarms of a run, none if there is no such file.

    Raises:
        InputError: the file holds something else.
    """
    if not path.exists():
        return []
    lines = read_json_lines(path)
    if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
        raise InputError(f"{path}: not the alarms of a run. Remedy: move the file away; the run goes on with a new one.")
    return lines


def write_alarms(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write the alarms of a run, replacing those that are there."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def forget_alarms(path: Path, after_step: int) -> None:
    """Drop the alarms of later steps, which a run that is resumed, or begun anew, comes to again; they may sound then, or not.

    Raises:
        InputError: see `read_alarms`.
    """
    alarms = read_alarms(path)
    kept = [alarm for alarm in alarms if alarm["step"] <= after_step]
    if kept != alarms:
        write_alarms(path, kept)
