"""Runs of a tiny model that are stopped at a stated place, in this process or in one of their own, and what is compared of them."""

import gc
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softscribe import cli
from softscribe.models import CONTEXT_FRAMES, MODELS
from softscribe.training import RunInterruptedError, TrainSettings, run, train
from softscribe.training.checkpoints import LAST, read_checkpoint
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.module import TranscriptionModule


class TinyModel(nn.Module):
    """One linear layer per frame behind dropout: everything around the model is what is tested."""

    def __init__(self, in_channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_channels * 216, outputs)

    def forward(self, features: Tensor) -> Tensor:
        inside = features[:, :, CONTEXT_FRAMES:-CONTEXT_FRAMES].transpose(1, 2).flatten(start_dim=2)
        return self.linear(self.dropout(inside))


MODELS["tiny"] = TinyModel


@dataclass(frozen=True)
class Stop:
    """How and where a run is stopped.

    Attributes:
        how: "exception", or the name of a signal; "group" behind it sends it to the whole process group, "workers" to the workers, which
            die of it.
        where: "batch" (before training batch `number`, from 0), "validation" (the one after step `number`), "model" (writing it)
            or "loader" (making that of the training segments, when Lightning's handlers of signals stand and softscribe's do not yet).
    """

    how: str
    where: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.how} at {self.where} {self.number}"

    def happen(self) -> None:
        if self.how == "exception":
            raise ZeroDivisionError
        name, whom = self.how.split() if " " in self.how else (self.how, "trainer")
        number = signal.Signals[name]
        if whom == "group":
            os.killpg(0, number)
            return
        os.kill(os.getpid(), number)
        if whom == "workers":
            for worker in multiprocessing.active_children():
                # From a stranger, since a worker takes its parent's SIGTERM for an orderly end; it is left to torch to take note of it.
                subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)
                os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def stopped(stop: Stop | None) -> Iterator[None]:
    """Make trainings stop at the stated place."""
    owner, name = {
        "batch": (TranscriptionModule, "training_step"),
        "validation": (TranscriptionModule, "validation_step"),
        "model": (run, "write_model"),
        "loader": (SegmentDataModule, "train_dataloader"),
    }[stop.where if stop else "model"]
    original = getattr(owner, name)

    def stopping(*arguments: Any, **options: Any) -> Any:
        assert stop is not None
        number = {"batch": lambda: arguments[2], "validation": lambda: arguments[0].global_step}.get(stop.where, lambda: 0)()
        if number == stop.number:
            stop.happen()
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        if stop:
            patch.setattr(owner, name, stopping)
        yield


def train_with_stops(settings: TrainSettings, folder: Path, stops: Sequence[Stop]) -> None:
    """Train in this process, stop at each of `stops` in turn, resume after each, and end."""
    for index, stop in enumerate(stops):
        with stopped(stop), pytest.raises((ZeroDivisionError, RunInterruptedError)):
            train(settings, folder, resume=index > 0)
        gc.collect()  # a process that ended would have no workers left, nor would the next training's inherit what belongs to them
    train(settings, folder, resume=len(stops) > 0)


PROCESSES = multiprocessing.get_context("forkserver")
"""Its server imports everything once; each process is then forked from it within milliseconds, and is a real one: it can be killed."""
PROCESSES.set_forkserver_preload(["softscribe.cli", "softscribe.training"])


def _in_process(words: list[str], settings: TrainSettings | None, folder: Path, stop: Stop | None, environment: dict, output: Path) -> None:
    """The command line's own path, with its messages and exit statuses, for settings that come without Hydra."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
    multiprocessing.set_start_method("fork", force=True)  # of the run's own workers, as in a process that nobody forked
    os.environ.update(environment)
    torch.set_num_threads(1)
    for number, descriptor in enumerate((os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND),) * 2, start=1):
        os.dup2(descriptor, number)
    if settings is not None:
        cli._train = lambda _: cli.run_one(settings, folder)
    with stopped(stop):
        raise SystemExit(cli.main(words))


@dataclass
class Started:
    """A run in a process of its own."""

    process: Any
    output_path: Path

    def status(self) -> int:
        self.process.join(timeout=120)
        if self.process.exitcode is None:
            self.process.kill()
            pytest.fail(f"still running: {self.output}")
        return self.process.exitcode

    @property
    def output(self) -> str:
        return self.output_path.read_text()


def start(
    settings: TrainSettings | None, folder: Path, *, stop: Stop | None = None, patches: Any = None, environment: dict | None = None
) -> Started:
    """Start a run of `settings` (None: resume that of `folder`) in a process of its own, in which `patches()` is called first."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder.with_name(f"{folder.name}-output-{len(list(folder.parent.glob(f'{folder.name}-output-*')))}.txt")
    output.touch()  # a process that dies before it has said anything has an output, too
    words = ["train"] if settings else ["train", f"resume={folder}"]
    arguments = (words, settings, folder, stop, environment or {}, output)
    process = PROCESSES.Process(target=partial(_patched, patches), args=arguments)
    process.start()
    return Started(process, output)


def _patched(patches: Any, *arguments: Any) -> None:
    if patches is not None:
        patches()
    _in_process(*arguments)


def traces(folder: Path) -> dict[str, bytes]:
    """What has to be the same, bit by bit, whatever happened on the way."""
    files = {name: (folder / name).read_bytes() for name in ("model/weights.safetensors", "model/card.json", "metrics.csv")}
    last = read_checkpoint(folder / "checkpoints" / LAST)
    moments = [value for state in last["optimizer_states"][0]["state"].values() for value in state.values()]
    return files | {
        "optimizer": b"".join(moment.numpy().tobytes() for moment in moments),
        "learning rate": repr(last["optimizer_states"][0]["param_groups"][0]["lr"]).encode(),
        "step": repr(last["global_step"]).encode(),
    }


def differences(first: Path, second: Path) -> list[str]:
    """Return the names of the traces in which two runs differ."""
    mine, others = traces(first), traces(second)
    return [name for name in mine if mine[name] != others[name]]
