"""Does a long training leak? Many short passes over a tiny corpus, with memory, open files and threads measured on the way.

`make soak` or `python scripts/soak.py --minutes 5`. Exits 1 if the second half of the run holds more than the first did, and prints a
line for docs/benchmarks.md. Everything that a run can do goes on: validation, health, checkpoints, pictures, TensorBoard, a worker.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
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
from softscribe.training import TrainSettings, train
from softscribe.training.module import OptimizerSettings
from softscribe.training.settings import TrainerSettings

INTERVAL_STEPS = 20
LIMITS = {"memory": 20.0, "open files": 10, "threads": 0}
"""By how much the median of the last quarter may exceed that of the second, memory in MB. Caches fill in the first quarter; the rows of
metrics.csv are kept in memory; batches on their way from a worker are open files."""

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to train")
    options = parser.parse_args()
    features = HcqtSettings(harmonics=(1,))
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
                minutes=options.minutes,
                validation_interval_steps=10,
                checkpoint_interval_steps=5,
                worker_count=1,
                pictures_every_validations=5,
            ),
        )
        watch = Watch()
        began = time.monotonic()
        train(settings, Path(name) / "run", callbacks=[watch])
        minutes = (time.monotonic() - began) / 60
    quarter = len(watch.measurements) // 4
    if quarter < 3:
        print("too few measurements. Remedy: more --minutes.", file=sys.stderr)
        return 1
    early, late = watch.measurements[quarter : 2 * quarter], watch.measurements[-quarter:]
    before, after = (Measurement(*(median(values) for values in zip(*map(astuple, part), strict=True))) for part in (early, late))
    print(
        f"| soak: {len(watch.measurements) * INTERVAL_STEPS:,} passes over 3 pieces in {minutes:.1f} min | `make soak` | "
        f"memory {before.memory_mb:.0f} to {after.memory_mb:.0f} MB, open files {before.open_files:.0f} to {after.open_files:.0f}, "
        f"threads {before.threads:.0f} to {after.threads:.0f} (medians of the second and the last quarter) |"
    )
    grew = [name for name, early, late in zip(LIMITS, astuple(before), astuple(after), strict=True) if late - early > LIMITS[name]]
    if grew:
        print(f"grew: {', '.join(grew)}", file=sys.stderr)
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
