"""A training run from its settings to its folder: config.yaml is the caller's; everything else in the folder is written here."""

import errno
import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from softscribe.alignment import gpu_is_usable
from softscribe.corpora import FeatureStore
from softscribe.errors import InputError, concerning, shown
from softscribe.models import create_model, has_fast_bfloat16, load_model
from softscribe.plots import plot_curves, save
from softscribe.report import curve_points, write_environment, write_run_report
from softscribe.sound import HcqtSettings
from softscribe.training.checkpoints import (
    LAST,
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    RunInterruptedError,
    read_checkpoint,
    signals_kept,
)
from softscribe.training.curves import CurvesLogger, StepCurves
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.exclusion import exclude_doubtful
from softscribe.training.finished_model import write_model
from softscribe.training.health_check import HealthCheck, forget_alarms, read_alarms
from softscribe.training.losses import AligningLoss, SdtwLoss, create_loss
from softscribe.training.module import MONITORED_COST, TranscriptionModule
from softscribe.training.patience import LastingEarlyStopping, LowerRateOnPlateau
from softscribe.training.pictures import SegmentPictures
from softscribe.training.progress import StepProgress
from softscribe.training.resuming import check_resumable, remembers_health, settings_in_words, settings_since
from softscribe.training.settings import TrainSettings

CURVES_INTERVAL_STEPS = 10
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OTHERS_ENDED = re.compile("gloo|NCCL")
"""In what torch says when another process of the training is gone."""
SIGNALLED_TOO = re.compile(f"DataLoader worker|{OTHERS_ENDED.pattern}")
"""In what torch says when a signal reached more than this process: clusters send it to all, and workers and others may end before a run."""

LIGHTNING_WARNINGS = (
    ".*LeafSpec.*",  # a deprecated call inside Lightning itself
    ".*does not have many workers.*",  # two cores have no worker to spare; worker_count is the user's to set
    ".*exists and is not empty.*",  # a resumed run goes on in its folder
    ".*sync_dist=True.*",  # what is logged of a validation is the same in all processes
    # Settings that changed are told by their names; of a caller's own callback that is missing Lightning may warn.
    r""".*callbacks used to create the checkpoint.* \[('(HealthCheck|LowerRateOnPlateau)'|"LastingEarlyStopping[^"]*"|, )*\]""",
    ".*not resumable.*",  # ours is: the stream's position follows from the number of steps
)


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
    # A run that goes on has its weights. Where it began is asked for only to be gone back to, by a health check that has just come to it.
    comes_to_watch = aligns and settings.health.policy != "ignore" and not remembers_health(checkpoint)
    begins = not resume or comes_to_watch
    model = build_model(settings.model if begins else settings.model | {"init": None}, features, settings.targets.outputs)
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
    if module.loss.needs_truth and any(prepared.recording.truth is None for prepared in recordings if prepared.recording.split != "test"):
        raise InputError(
            f"loss={settings.loss['name']} needs a truth file for every recording. Remedy: a loss that needs none, such as sdtw."
        )
    if isinstance(module.loss, SdtwLoss):
        module.loss.check_features(features)
    if settings.health.policy in ("act", "stop") and not aligns:
        raise InputError(f"health={settings.health.policy}: loss={settings.loss['name']} shows no alignment to watch. Remedy: health=warn.")
    try:
        trainer = _trainer(settings, folder, first_step, aligns, callbacks)
    except InputError:
        raise
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"trainer: {error} Remedy: see configs/trainer/.") from error
    if resume:
        changed = settings_since(checkpoint, settings_in_words(asdict(settings)))
        changed.pop("model.init", None)  # its weights were where the run began
        if "trainer.accumulated_batches" in changed:
            raise InputError(
                f"trainer.accumulated_batches: {changed['trainer.accumulated_batches']} since step {first_step}, and steps are counted "
                "by it. Remedy: undo that, or change trainer.batch_size instead."
            )
        module.changed_settings = frozenset(name for name in changed if name.startswith("optimizer.") or name == "trainer.steps")
        with concerning(last):
            check_resumable(checkpoint, trainer, module, data)
        if changed and trainer.is_global_zero:
            told = "; ".join(f"{name} {change}" for name, change in changed.items())
            print(shown(f"config.yaml was changed since step {first_step}, and holds from here on: {told}"))
    keeper = next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint))
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
    try:
        with warnings.catch_warnings(), _full_disks_told_once(), signals_kept():
            for message in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", message)
            trainer.fit(module, data, ckpt_path=last if resume else None)
        if keeper.noted_signal:  # after the last step
            raise RunInterruptedError(keeper.noted_signal)
    except BaseException as error:
        # The report of a run that broke down is wanted most; if it cannot be written either, the first error is the one to tell.
        if trainer.is_global_zero:
            with suppress(InputError, OSError):
                write_run_report(folder)
        # Lightning ends so of Ctrl-C before the first step.
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise RunInterruptedError(signal.SIGINT) from error
        if keeper.noted_signal and isinstance(error, RuntimeError) and SIGNALLED_TOO.search(str(error)):
            raise RunInterruptedError(keeper.noted_signal) from error
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and OTHERS_ENDED.search(str(error)):
            raise InputError(
                f"process {trainer.global_rank} lost the others: one of them has ended, and its own message says why. "
                f"Remedy: mend that, then softscribe train resume={folder}."
            ) from error
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:  # neither TensorBoard nor Numba's cache name a file
            raise InputError(f"{folder}: {error.strerror}, while training. Remedy: free disk space, then resume={folder}.") from error
        raise
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


def _trainer(settings: TrainSettings, folder: Path, first_step: int, aligns: bool, further_callbacks: Sequence[Callback]) -> pl.Trainer:
    options = settings.trainer
    clusters = _clusters()
    precision = options.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_fast_bfloat16() else "32-true"
    trainer = pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.nodes,
        strategy=options.strategy,
        precision=precision,  # type: ignore[arg-type]  # checked by TrainerSettings
        max_steps=options.steps,
        max_time=None if options.minutes is None else timedelta(minutes=options.minutes),
        accumulate_grad_batches=options.accumulated_batches,
        gradient_clip_val=options.gradient_clip_norm,
        val_check_interval=options.validation_interval_steps * options.accumulated_batches,
        check_val_every_n_epoch=None,
        callbacks=[*further_callbacks, *_callbacks(settings, folder, aligns)],
        logger=_loggers(settings, folder, first_step),
        plugins=[AtomicCheckpointIO(), *clusters],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    for cluster in clusters:  # Lightning does so too, but late, and not for one process
        cluster.validate_settings(trainer.num_devices, trainer.num_nodes)
    return trainer


@contextmanager
def _full_disks_told_once() -> Iterator[None]:
    """TensorBoard's thread would print a traceback of a full disk, and then make the training fail of it, too, which is told in words."""
    print_traceback = threading.excepthook

    def unless_full(raised: threading.ExceptHookArgs) -> None:
        if not (isinstance(raised.exc_value, OSError) and raised.exc_value.errno in DISK_IS_FULL):
            print_traceback(raised)

    threading.excepthook = unless_full
    try:
        yield
    finally:
        threading.excepthook = print_traceback


def _clusters() -> list[SLURMEnvironment]:
    """Under SLURM: its environment without Lightning's requeueing, which saves in the middle of a step."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _reach(model: nn.Module, features: HcqtSettings) -> str:
    frames = getattr(model, "receptive_field_frames", None)
    return "receptive field unknown" if frames is None else f"receptive field {frames} frames ({frames / features.frames_per_second:.2f} s)"


def _callbacks(settings: TrainSettings, folder: Path, aligns: bool) -> list[Callback]:
    callbacks: list[Callback] = [StepProgress(), StepCurves(CURVES_INTERVAL_STEPS)]
    if settings.health.policy != "ignore" and aligns:
        callbacks.append(HealthCheck(settings.health, folder / "alarms.jsonl"))
    if settings.optimizer.plateau_patience is not None:
        callbacks.append(LowerRateOnPlateau(settings.optimizer.plateau_patience))
    if settings.trainer.early_stopping_patience is not None:
        callbacks.append(LastingEarlyStopping(MONITORED_COST, patience=settings.trainer.early_stopping_patience, min_delta=1e-4))
    if settings.trainer.pictures_every_validations:
        callbacks.append(SegmentPictures(folder / "plots", settings.trainer.pictures_every_validations, settings.trainer.pictures_pieces))
    checkpoints = folder / "checkpoints"
    # Checkpoints come last, so that they hold what the other callbacks decided; the best one first, since the last one holds its score.
    interval_steps = settings.trainer.checkpoint_interval_steps
    return [*callbacks, BestCheckpoint(checkpoints), LastCheckpoint(checkpoints, interval_steps, settings_in_words(asdict(settings)))]


def _loggers(settings: TrainSettings, folder: Path, first_step: int) -> list[Logger]:
    loggers: list[Logger] = [CurvesLogger(folder / "metrics.csv", first_step)]
    if settings.logger.get("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version="", purge_step=first_step or None))
    return loggers
