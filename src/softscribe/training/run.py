"""A training run from its settings to its folder: config.yaml is the caller's; everything else in the folder is written here."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from softscribe.alignment import gpu_is_usable
from softscribe.corpora import FeatureStore
from softscribe.errors import InputError, concerning, shown
from softscribe.models import create_model, load_model
from softscribe.plots import plot_curves, save
from softscribe.report import curve_points, write_environment, write_run_report
from softscribe.sound import HcqtSettings
from softscribe.training.checkpoints import LAST, model_weights, read_checkpoint
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.exclusion import exclude_doubtful
from softscribe.training.finished_model import write_model
from softscribe.training.health_check import HealthCheck, forget_alarms, read_alarms
from softscribe.training.losses import AligningLoss, SdtwLoss, create_loss
from softscribe.training.module import MONITORED_COST, TranscriptionModule
from softscribe.training.resuming import check_resumable, settings_in_words, settings_since
from softscribe.training.settings import TrainSettings
from softscribe.training.trainer import fit, make_trainer


def train(settings: TrainSettings, folder: Path, *, resume: bool = False, callbacks: Sequence[Callback] = ()) -> Path:
    """Train a model and write the run's folder: metrics.csv, TensorBoard events, checkpoints/, plots/, model/, report.html.

    Args:
        settings: see `TrainSettings`.
        folder: the run's folder.
        resume: go on from the folder's last checkpoint instead of from the beginning.
        callbacks: further callbacks of Lightning's; they come before those that save.

    Returns:
        The model folder.

    Raises:
        InputError: settings, corpus, model or checkpoint cannot be used, or the training broke down.
        RunInterruptedError: a signal stopped the run, which has saved itself if it had begun.
    """
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    used, excluded = exclude_doubtful(recordings, features, folder) if settings.audit == "exclude" else (recordings, [])
    last = folder / "checkpoints" / LAST
    checkpoint = read_checkpoint(last) if resume else {"global_step": 0}
    first_step = int(checkpoint["global_step"])

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.manual_seed(settings.seed)
    loss = create_loss(settings.loss)
    aligns = isinstance(loss, AligningLoss)
    # A run that goes on has its weights: the model that it once started from need not be there any more.
    model = build_model(settings.model | ({"init": None} if resume else {}), features, settings.targets.outputs)
    trainer_settings = settings.trainer
    module = TranscriptionModule(
        model,
        loss,
        settings.optimizer,
        total_steps=trainer_settings.steps,
        validation_interval=trainer_settings.validation_interval_steps,
        seed=settings.seed,
    )
    data = SegmentDataModule(
        used,
        features,
        settings.targets,
        transposition_semitones=settings.augmentation.transposition_semitones,
        batch_size=trainer_settings.batch_size,
        worker_count=trainer_settings.worker_count,
        seed=settings.seed,
    )
    if loss.needs_truth and any(prepared.recording.truth is None for prepared in recordings if prepared.recording.split != "test"):
        raise InputError(
            f"loss={settings.loss['name']} needs a truth file for every recording. Remedy: a loss that needs none, such as sdtw."
        )
    if isinstance(loss, SdtwLoss):
        loss.check_features(features)
    if settings.health.policy in ("act", "stop") and not aligns:
        raise InputError(f"health={settings.health.policy}: loss={settings.loss['name']} shows no alignment to watch. Remedy: health=warn.")
    trainer = make_trainer(settings, folder, first_step, aligns=aligns, further_callbacks=callbacks)
    if resume:
        _go_on(checkpoint, last, settings, trainer, module, data)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"model: {settings.model['name']}, {parameters:,} parameters, {_reach(model, features)}")
    if trainer.strategy.root_device.type == "cuda" and not gpu_is_usable():
        print("alignment: on the CPU, for numba-cuda is missing or finds no driver. Remedy: pip install 'softscribe[cuda12]' (or cuda13).")
    if settings.health.policy != "ignore" and not aligns:
        print(f"health: not watched, for loss={settings.loss['name']} shows no alignment.")
    read_alarms(folder / "alarms.jsonl")  # all processes refuse what is none, or they would wait for the one that does
    if trainer.is_global_zero:
        forget_alarms(folder / "alarms.jsonl", after_step=first_step)
        write_environment(folder)
    fit(trainer, module, data, folder, resume=resume)
    if not trainer.is_global_zero:
        return folder / "model"
    if module.progress < 1:
        print(f"stopped at step {trainer.global_step} of {settings.trainer.steps}: schedules stop at {module.progress:.0%} of their way.")
    curves = {name: points for name, points in curve_points(folder / "metrics.csv").items() if name != MONITORED_COST}
    if curves:
        save(plot_curves(curves, title=settings.name), folder / "plots" / "curves.png")
    model_folder = write_model(settings, module.model, recordings, folder, excluded=excluded)
    print(f"report: {write_run_report(folder)}")
    return model_folder


def _go_on(
    checkpoint: dict[str, Any],
    path: Path,
    settings: TrainSettings,
    trainer: pl.Trainer,
    module: TranscriptionModule,
    data: SegmentDataModule,
) -> None:
    """Say what the config changed since a checkpoint, and whether a run can go on from it."""
    step = checkpoint["global_step"]
    changed = settings_since(checkpoint, settings_in_words(asdict(settings)))
    edited = changed.pop("model.init", "")  # where the run began no longer changes
    began_with_another = not edited.startswith("None ->") if edited else bool(settings.model.get("init"))
    if "trainer.accumulated_batches" in changed:
        raise InputError(
            f"trainer.accumulated_batches: {changed['trainer.accumulated_batches']} since step {step}, and steps are counted "
            "by it. Remedy: undo that, or change trainer.batch_size instead."
        )
    module.changed_settings = frozenset(name for name in changed if name.startswith("optimizer.") or name == "trainer.steps")
    with concerning(path):
        check_resumable(checkpoint, trainer, module, data)
    if began_with_another:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            # Of a run that was not watched; where it began may be gone.
            if isinstance(callback, HealthCheck) and not callback.healthy_weights:
                callback.remember(model_weights(checkpoint), step)
    if changed and trainer.is_global_zero:
        told = "; ".join(f"{name} {change}" for name, change in changed.items())
        print(shown(f"config.yaml was changed since step {step}, and holds from here on: {told}"))


def build_model(settings: dict[str, Any], features: HcqtSettings, outputs: int) -> nn.Module:
    """Create the model, with the weights of another one if `init` names its folder."""
    arguments = {name: value for name, value in settings.items() if name != "init"}
    model = create_model(arguments, in_channels=features.channels, outputs=outputs)
    if settings.get("init"):
        source, card = load_model(Path(settings["init"]))
        if card["features"] != features.to_dict() or card["outputs"] != outputs:
            raise InputError(
                f"model.init: {settings['init']} was trained on other features or outputs. Remedy: the same, or model.init=null."
            )
        try:
            model.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"model.init: {settings['init']} is another model ({card['model']}). Remedy: the same model settings."
            ) from error
    return model


def _reach(model: nn.Module, features: HcqtSettings) -> str:
    frames = getattr(model, "receptive_field_frames", None)
    return "receptive field unknown" if frames is None else f"receptive field {frames} frames ({frames / features.frames_per_second:.2f} s)"
