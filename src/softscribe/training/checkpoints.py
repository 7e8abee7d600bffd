"""Checkpoints that are whole or absent, and how a run stops when it is told to."""

import io
import signal
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from softscribe.errors import InputError
from softscribe.files import replacing
from softscribe.training.module import MONITORED_COST, TranscriptionModule, step_is_done

LAST = "last.ckpt"
BEST = "best.ckpt"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What asks a run to save and stop: a machine that is wanted back, Ctrl-C, SLURM before a time limit."""


class RunInterruptedError(Exception):
    """The run was told to stop by a signal, and has saved itself if it had begun.

    Attributes:
        signal_number: the signal, for the exit status 128 + number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


@contextmanager
def signals_kept() -> Iterator[None]:
    """Leave the handlers of `STOP_SIGNALS` as they were before the block: a training puts its own in their place (`LastCheckpoint`).

    Lightning gives them back before its last hooks, so that no hook of a callback comes at the right moment.
    """
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)  # Lightning's own removes a whole folder, if that is what a path names

    def load_checkpoint(self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU without executing anything that it holds.

    Raises:
        InputError: the file is missing, or is no checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint. Remedy: name the folder of a run that has saved at least once.")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch never compresses; a file that unpacks to more than itself could fill the memory.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("compressed")
            damaged = archive.testzip()  # torch itself does not look at checksums
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged!r} is wrong")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged archive, or damaged instructions inside, end in almost any error.
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of softscribe ({error}). Remedy: resume from another run.") from error
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    named = isinstance(weights, dict) and all(isinstance(key, str) and isinstance(weights[key], torch.Tensor) for key in weights)
    if not named or type(checkpoint.get("global_step")) is not int or checkpoint["global_step"] < 0:
        raise InputError(f"{path}: not a checkpoint of softscribe. Remedy: resume from another run.")
    return checkpoint


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of the model in the checkpoint of a `TranscriptionModule`."""
    return {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith("model.")}


def load_weights(path: Path, model: nn.Module) -> None:
    """Give a model the weights that the checkpoint of a `TranscriptionModule` holds of it.

    Raises:
        InputError: as `read_checkpoint`; they are those of another model, or NaN or infinite.
    """
    weights = model_weights(read_checkpoint(path))
    shapes, expected = ({name: tensor.shape for name, tensor in each.items()} for each in (weights, model.state_dict()))
    if shapes != expected:
        raise InputError(f"{path}: the weights are those of another model. Remedy: the checkpoint of this run.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise InputError(f"{path}: weights that are NaN or infinite. Remedy: train anew with a lower learning rate.")
    model.load_state_dict(weights)


class BestCheckpoint(ModelCheckpoint):
    """Saves `best.ckpt` at each lowest MONITORED_COST; unlike Lightning's own it remembers that cost in a folder that was moved, too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder,
            filename=Path(BEST).stem,
            monitor=MONITORED_COST,
            mode="min",
            save_top_k=1,
            enable_version_counter=False,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best_k_models"]
        # A name is asked for since Lightning removes what it takes for an older one; a number since it misses it only when it saves next.
        if not isinstance(best, dict) or len(best) > 1 or not all(map(_is_best, best, best.values())):
            raise InputError(f"it names {best!r} as the best checkpoint of its run. Remedy: resume from another run.")
        path = str(Path(str(self.dirpath)) / BEST) if best else ""
        cost = next((cost.reshape(()) for cost in best.values()), None)
        known = {
            "best_model_score": cost,
            "best_model_path": path,
            "kth_best_model_path": path,
            "last_model_path": "",
            "dirpath": self.dirpath,
        }
        known |= {"best_k_models": {path: cost}, "kth_value": cost} if best else {"best_k_models": {}, "kth_value": self.kth_value}
        super().load_state_dict(known)


def _is_best(path: Any, cost: Any) -> bool:
    named = isinstance(path, str) and Path(path).name == BEST
    return named and isinstance(cost, torch.Tensor) and cost.is_floating_point() and cost.numel() == 1 and bool(cost.isfinite())


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, from which a run goes on, and stops the run when one of `STOP_SIGNALS` asks for it.

    It is written before the first step (so that a run can be resumed wherever it was killed, and an unwritable disk shows at once),
    every `interval_steps`, and after every validation. At a step that is validated it waits for the validation, so that what the
    validation decided (the best checkpoint, early stopping, a lower learning rate) is in it: a run that is killed in between goes back
    before the step and repeats both. What the config changed (`TranscriptionModule.take_changes`) is taken before anything is saved,
    since a checkpoint says by which settings it was. A second Ctrl-C ends the run at once. With several processes all of them stop at
    the same step, whichever got the signal. Who trains gives the signals back (`signals_kept`), and looks at `noted_signal`: one may
    have come after the last step.

    Args:
        folder: where it lies.
        interval_steps: optimizer steps between two of them.
        settings: in words, by name (`settings_in_words`): saved along, so that a resumed run can say what was changed.

    Attributes:
        noted_signal: the last of `STOP_SIGNALS` that this process got, 0 for none.
    """

    def __init__(self, folder: Path, interval_steps: int, settings: Mapping[str, str]) -> None:
        self.path = folder / LAST
        self.settings = settings
        self.interval_steps = interval_steps
        self.noted_signal = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)
        if trainer.received_sigterm:  # before the handlers above stood; Lightning would end with status 0
            self.noted_signal = signal.SIGTERM
        assert isinstance(pl_module, TranscriptionModule)
        rates = trainer.lr_scheduler_configs
        pl_module.take_changes(trainer.optimizers[0], rates[0].scheduler if rates else None, trainer.global_step)
        stop = self._stop_signal(trainer)
        if trainer.global_step == 0 or stop:
            self._save(trainer, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TranscriptionModule)
        validation_follows = trainer.global_step % pl_module.validation_interval == 0
        if not step_is_done(trainer, batch_idx) or validation_follows:
            return
        stop = self._stop_signal(trainer)
        if stop or trainer.global_step % self.interval_steps == 0:
            self._save(trainer, stop)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, self._stop_signal(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, stop=0)  # Lightning is done with training, and has hooks to call

    def state_dict(self) -> dict[str, Any]:
        return {"settings": dict(self.settings)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted_signal and number == signal.SIGINT:  # clusters send SIGTERM more than once
            raise RunInterruptedError(number)
        self.noted_signal = number

    def _stop_signal(self, trainer: pl.Trainer) -> int:
        """The highest signal that any of the processes got, 0 for none: saving is a matter of all of them."""
        return int(trainer.strategy.reduce(torch.tensor(self.noted_signal, device=trainer.strategy.root_device), reduce_op="max"))

    def _save(self, trainer: pl.Trainer, stop: int) -> None:
        trainer.save_checkpoint(self.path)
        if stop:
            raise RunInterruptedError(stop)
