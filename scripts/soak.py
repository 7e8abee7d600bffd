"""Does training leak? Many passes over a tiny corpus, then many trainings, with memory, open files and threads measured on the way.

`make soak` or `python scripts/soak.py --minutes 5`. Exits 1 if the last quarter of either holds more than the second did, and prints
lines for docs/benchmarks.md. Everything that a run can do goes on: validation, health, checkpoints, pictures, TensorBoard, a worker. The
trainings, one after another in one process as several seeds are, are stopped by a signal and resumed.
"""

import argparse
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import numpy as np
import soundfile
from lightning.pytorch.callbacks import Callback

from softscribe.corpora import FeatureStore, Recording, Segment
from softscribe.scores import PerformedNotes, Score
from softscribe.sound import HcqtSettings
from softscribe.training import RunInterruptedError, TrainSettings, train
from softscribe.training.module import OptimizerSettings
from softscribe.training.settings import TrainerSettings

INTERVAL_STEPS = 20
LIMITS = {"memory": 20.0, "open files": 10, "threads": 0}
"""By how much the median of the last quarter may exceed that of the second, memory in MB. Caches fill in the first quarter; the rows of
metrics.csv are kept in memory; batches on their way from a worker are open files."""
FEWEST_MEASUREMENTS = 12

SAMPLE_RATE = 22_050
NOTE_SECONDS = 0.5
PITCHES = (60, 64, 67, 72)


@dataclass(frozen=True)
class Measurement:
    """Of this process and its workers. Memory that they share counts for each: else it would grow when a worker stops sharing."""

    memory_mb: float
    open_files: int
    threads: int


def measure() -> Measurement:
    processes = [Path(f"/proc/{process}") for process in ("self", *children())]
    memory_kb = files = threads = 0
    for process in processes:
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            memory_kb += int(status["VmRSS"].split()[0])
            threads += int(status["Threads"])
            files += sum(1 for _ in (process / "fd").iterdir())
        except (OSError, KeyError):  # a worker that has just ended
            continue
    return Measurement(memory_kb / 1024, files, threads)


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


class Watch(Callback):
    """Measures at the same place of the loop every `INTERVAL_STEPS`; what comes behind the loop, such as the report, is no matter of it."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % INTERVAL_STEPS == 0:
            gc.collect()  # pictures are garbage that waits for its collection, tens of megabytes at times
            self.measurements.append(measure())


def write_corpus(folder: Path, features: HcqtSettings) -> Path:
    """Four recordings of two seconds, prepared."""
    store = FeatureStore(folder / "store", features)
    onsets = np.arange(len(PITCHES)) * NOTE_SECONDS
    quarters, whole = np.arange(len(PITCHES), dtype=float), len(PITCHES) * NOTE_SECONDS
    time_seconds = np.arange(int((whole + 0.2) * SAMPLE_RATE)) / SAMPLE_RATE
    for number, split in enumerate(("train", "train", "train", "validation")):
        pitches = np.array(PITCHES) + number
        playing = np.minimum((time_seconds / NOTE_SECONDS).astype(int), len(PITCHES) - 1)
        samples = 0.2 * np.sin(2 * np.pi * 440 * 2 ** ((pitches[playing] - 69) / 12) * time_seconds)
        audio = folder / f"piece{number}.wav"
        soundfile.write(audio, samples.astype(np.float32), SAMPLE_RATE)
        score = Score(quarters, np.ones(len(pitches)), pitches, np.zeros(len(pitches), dtype=np.int64), float(len(pitches)))
        truth = PerformedNotes(onsets, onsets + NOTE_SECONDS, pitches, quarters)
        store.write(Recording(audio.stem, audio, audio.with_suffix(".csv"), split, (Segment("0000", 0.0, whole, 0.0, score),), truth))
    store.set_corpus(f"piece{number}" for number in range(4))
    return folder / "store"


class StopAtStep(Callback):
    """Tells this process to stop, as a cluster does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def one_long(settings: TrainSettings, folder: Path, minutes: float) -> list[Measurement]:
    """Train once, for so long."""
    watch = Watch()
    train(replace(settings, trainer=replace(settings.trainer, minutes=minutes)), folder, callbacks=[watch])
    return watch.measurements


def many_short(settings: TrainSettings, folder: Path, minutes: float) -> list[Measurement]:
    """Train anew for so long, each time ten steps with a stop in their middle; measured after each training."""
    short = replace(settings, trainer=replace(settings.trainer, steps=10))
    measurements: list[Measurement] = []
    end = time.monotonic() + 60 * minutes
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        while time.monotonic() < end:
            run = folder / str(len(measurements))
            with suppress(RunInterruptedError):
                train(short, run, callbacks=[StopAtStep(5)])
            train(short, run, resume=True)
            gc.collect()
            measurements.append(measure())
    return measurements


def grown(measurements: Sequence[Measurement]) -> tuple[str, list[str]]:
    """Return in words what the second and the last quarter hold, and the names of what grew in between.

    >>> flat = [Measurement(500.0, 30, 4)] * 16
    >>> grown(flat)[1], grown([*flat[:12], *[Measurement(530.0, 30, 5)] * 4])[1]
    ([], ['memory', 'threads'])
    """
    quarter = len(measurements) // 4
    early, late = measurements[quarter : 2 * quarter], measurements[-quarter:]
    before, after = (Measurement(*(median(values) for values in zip(*map(astuple, part), strict=True))) for part in (early, late))
    return (
        f"memory {before.memory_mb:.0f} to {after.memory_mb:.0f} MB, open files {before.open_files:.0f} to {after.open_files:.0f}, "
        f"threads {before.threads:.0f} to {after.threads:.0f} (medians of the second and the last quarter)"
    ), [name for name, early, late in zip(LIMITS, astuple(before), astuple(after), strict=True) if late - early > LIMITS[name]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long each of the two parts trains")
    options = parser.parse_args()
    features = HcqtSettings(harmonics=(1,))
    status = 0
    with tempfile.TemporaryDirectory(prefix="softscribe-soak-") as name:
        settings = TrainSettings(
            name="soak",
            store=str(write_corpus(Path(name), features)),
            features=features.to_dict(),
            model={"name": "linear"},
            loss={"name": "sdtw", "gamma": {"start": 1.0}, "diagonal_prior": {"start": 1.0}},
            optimizer=OptimizerSettings(learning_rate={"start": 1e-3}),
            logger={"tensorboard": True},
            trainer=TrainerSettings(
                batch_size=3,
                steps=10**6,
                validation_interval_steps=10,
                checkpoint_interval_steps=5,
                worker_count=1,
                pictures_every_validations=5,
            ),
        )
        for part, unit in (
            (one_long, f"times {INTERVAL_STEPS} passes over 3 pieces"),
            (many_short, "trainings, each resumed once"),
        ):
            began = time.monotonic()
            measurements = part(settings, Path(name) / part.__name__, options.minutes)
            if len(measurements) < FEWEST_MEASUREMENTS:
                print("too few measurements. Remedy: more --minutes.", file=sys.stderr)
                return 1
            words, grew = grown(measurements)
            print(f"| soak: {len(measurements):,} {unit}, {(time.monotonic() - began) / 60:.1f} min | `make soak` | {words} |")
            if grew:
                print(f"grew: {', '.join(grew)}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
