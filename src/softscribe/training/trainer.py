"""Lightning's trainer as softscribe uses it: made of a run's settings, and started so that each way in which it ends is told in words."""

import errno
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from softscribe.errors import InputError
from softscribe.models import has_fast_bfloat16
from softscribe.report import write_run_report
from softscribe.training.checkpoints import LAST, AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, RunInterruptedError, signals_kept
from softscribe.training.curves import CurvesLogger, StepCurves
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.health_check import HealthCheck
from softscribe.training.module import MONITORED_COST, TranscriptionModule
from softscribe.training.patience import LastingEarlyStopping, LowerRateOnPlateau
from softscribe.training.pictures import SegmentPictures
from softscribe.training.progress import StepProgress
from softscribe.training.resuming import settings_in_words
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


def make_trainer(
    settings: TrainSettings, folder: Path, first_step: int, *, aligns: bool, further_callbacks: Sequence[Callback]
) -> pl.Trainer:
    """Return the trainer of a run that begins at a step.

    Args:
        settings: of the run.
        folder: the run's.
        first_step: what later steps have written there is dropped.
        aligns: whether the loss shows an alignment that can be watched.
        further_callbacks: they come before softscribe's own.

    Raises:
        InputError: Lightning cannot do what `settings.trainer` asks for.
    """
    options = settings.trainer
    precision = options.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_fast_bfloat16() else "32-true"
    callbacks, loggers = [*further_callbacks, *_callbacks(settings, folder, aligns)], _loggers(settings, folder, first_step)
    try:
        clusters = _clusters()
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
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO(), *clusters],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        for cluster in clusters:  # Lightning does so too, but late, and not for one process
            cluster.validate_settings(trainer.num_devices, trainer.num_nodes)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"trainer: {error} Remedy: see configs/trainer/.") from error
    return trainer


def fit(trainer: pl.Trainer, module: TranscriptionModule, data: SegmentDataModule, folder: Path, *, resume: bool) -> None:
    """Train, and say in words what ended it too early; its report is written then, too.

    Raises:
        RunInterruptedError: a signal.
        InputError: another process ended, or the disk is full; and what the training itself says.
    """
    keeper = next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint))
    try:
        with warnings.catch_warnings(), _full_disks_told_once(), signals_kept():
            for message in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", message)
            trainer.fit(module, data, ckpt_path=folder / "checkpoints" / LAST if resume else None)
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
        # Who read the output may have got the signal as well.
        signalled_too = isinstance(error, BrokenPipeError) or (isinstance(error, RuntimeError) and SIGNALLED_TOO.search(str(error)))
        if keeper.noted_signal and signalled_too:
            raise RunInterruptedError(keeper.noted_signal) from error
        if trainer.world_size > 1 and isinstance(error, RuntimeError) and OTHERS_ENDED.search(str(error)):
            raise InputError(
                f"process {trainer.global_rank} lost the others: one of them has ended, and its own message says why. "
                f"Remedy: mend that, then softscribe train resume={folder}."
            ) from error
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:  # neither TensorBoard nor Numba's cache name a file
            raise InputError(f"{folder}: {error.strerror}, while training. Remedy: free disk space, then resume={folder}.") from error
        raise


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
