"""Checkpoints that are whole or absent, and how a run stops when it is told to."""

import io
import pickle
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from softscribe.errors import InputError
from softscribe.files import replacing
from softscribe.training.module import MONITORED_COST

LAST = "last.ckpt"
BEST = "best.ckpt"


class RunInterruptedError(Exception):
    """The run was told to stop by a signal, and has saved itself.

    Attributes:
        signal_number: the signal, for the exit status 128 + number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target, flushes it to the disk and renames it; reads plain tensors and values only.

    Lightning's own writing passes through the system's temporary folder without a flush: across file systems that is a copy, which a
    kill can cut in half.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU without executing anything that it holds.

    Raises:
        InputError: the file is missing, or is no checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint. Remedy: name the folder of a run that has saved at least once.") from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a checkpoint of softscribe ({error}). Remedy: resume from another run.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: not a checkpoint of softscribe. Remedy: resume from another run.")
    return checkpoint


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of the model inside the checkpoint of a `TranscriptionModule`."""
    return {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith("model.")}


def checkpoint_callbacks(folder: Path, interval_steps: int) -> list[Callback]:
    """Return what saves `last.ckpt` every `interval_steps` and `best.ckpt` at each lowest validation cost, in `folder`."""
    last = ModelCheckpoint(
        dirpath=folder,
        filename=Path(LAST).stem,
        every_n_train_steps=interval_steps,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    best = ModelCheckpoint(
        dirpath=folder,
        filename=Path(BEST).stem,
        monitor=MONITORED_COST,
        mode="min",
        save_top_k=1,
        enable_version_counter=False,
        auto_insert_metric_name=False,
        save_on_train_epoch_end=False,
    )
    return [last, best]


class StopOnSignal(Callback):
    """On SIGTERM or SIGINT: finish the step, save `last.ckpt`, raise `RunInterruptedError`. A second signal ends the process at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise RunInterruptedError(number)
        self.received = number

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.received is not None:
            trainer.save_checkpoint(self.folder / LAST)
            raise RunInterruptedError(self.received)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
