"""A corpus of a few seconds, prepared: melodies of decaying harmonics, unevenly timed, with their scores and truth."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import interrupted_runs  # noqa: F401  # registers the model "tiny"
from softscribe.corpora import FeatureStore, Recording, Segment
from softscribe.scores import PerformedNotes, Score
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, run, train
from softscribe.training.module import OptimizerSettings
from softscribe.training.segments import TargetSettings
from softscribe.training.settings import AugmentationSettings, ThresholdSettings, TrainerSettings

SAMPLE_RATE = 22_050
SPLITS = ("train", "train", "train", "validation", "test")


def _record(folder: Path, name: str, split: str, seed: int, notes: int) -> Recording:
    """Notes of one quarter each, played with uneven lengths, recorded as one segment."""
    rng = np.random.default_rng(seed)
    pitches = 60 + np.cumsum(rng.choice([-5, -3, -2, 2, 4, 7], size=notes)) % 24
    durations_seconds = rng.uniform(0.25, 0.7, size=notes)
    onsets_seconds = 0.2 + np.concatenate([[0], np.cumsum(durations_seconds)[:-1]])
    end_seconds = float(onsets_seconds[-1] + durations_seconds[-1])
    time = np.arange(int((end_seconds + 0.3) * SAMPLE_RATE)) / SAMPLE_RATE
    samples = np.zeros(len(time))
    for onset, duration, pitch in zip(onsets_seconds, durations_seconds, pitches, strict=True):
        inside = (time >= onset) & (time < onset + duration)
        frequency_hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(0.6**k * np.sin(2 * np.pi * frequency_hz * (k + 1) * time[inside]) for k in range(5))
        samples[inside] += 0.15 * tone * np.exp(-1.5 * (time[inside] - onset))
    audio_path = folder / f"{name}.wav"
    soundfile.write(audio_path, samples.astype(np.float32), SAMPLE_RATE)
    quarters = np.arange(float(notes))
    score = Score(quarters, np.ones(notes), pitches, np.zeros(notes, dtype=np.int64), float(notes))
    truth = PerformedNotes(onsets_seconds, onsets_seconds + durations_seconds, pitches, quarters)
    segment = Segment("0000", float(onsets_seconds[0]), end_seconds, 0.0, score)
    return Recording(name, audio_path, folder / f"{name}.csv", split, (segment,), truth)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def undrawn_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as training so little; two files ask for the picture."""
    if request.path.name not in ("test_run.py", "test_several_processes.py"):
        monkeypatch.setattr(run, "save", lambda figure, path: None)


@pytest.fixture(scope="session")
def features() -> HcqtSettings:
    return HcqtSettings()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, features: HcqtSettings) -> Path:
    """The root of a feature store with five melodies."""
    return _prepare(tmp_path_factory.mktemp("melodies"), features, SPLITS)


@pytest.fixture(scope="session")
def one_channel() -> HcqtSettings:
    """Features that are made and trained on fast."""
    return HcqtSettings(harmonics=(1,))


@pytest.fixture(scope="session")
def short_store(tmp_path_factory: pytest.TempPathFactory, one_channel: HcqtSettings) -> Path:
    """A store with melodies of three notes."""
    return _prepare(tmp_path_factory.mktemp("short"), one_channel, SPLITS, notes=3)


@pytest.fixture(scope="session")
def even_store(tmp_path_factory: pytest.TempPathFactory, one_channel: HcqtSettings) -> Path:
    """A store whose splits two processes can share: four melodies for training; three for validation, which are shared unevenly."""
    return _prepare(tmp_path_factory.mktemp("even"), one_channel, ("train",) * 4 + ("validation",) * 3, notes=3)


@pytest.fixture(scope="session")
def long_store(tmp_path_factory: pytest.TempPathFactory, one_channel: HcqtSettings) -> Path:
    """A store with a minute and a half of melodies for validation."""
    return _prepare(tmp_path_factory.mktemp("long"), one_channel, ("train", *("validation",) * 9, "test"), notes=20)


def _prepare(folder: Path, features: HcqtSettings, splits: Sequence[str], notes: int = 8) -> Path:
    store = FeatureStore(folder / "store", features)
    recordings = [_record(folder, f"melody{number}", split, seed=number, notes=notes) for number, split in enumerate(splits)]
    for recording in recordings:
        store.write(recording)
    store.set_corpus(recording.name for recording in recordings)
    return folder / "store"


@pytest.fixture(scope="session")
def demanding(short_store: Path, one_channel: HcqtSettings) -> TrainSettings:
    """Settings of a run of seconds that has everything whose state could be lost: dropout, augmentation, schedules, accumulation."""
    return TrainSettings(
        name="demanding",
        store=str(short_store),
        features=one_channel.to_dict(),
        targets=TargetSettings(outputs=12, kind="stretched"),
        model={"name": "tiny", "dropout": 0.3},
        loss={
            "name": "sdtw",
            "gamma": {"start": 5.0, "end": 0.5, "shape": "geometric", "until": 0.7},
            "diagonal_prior": {"start": 3.0, "end": 0.0, "shape": "linear", "until": 0.4},
        },
        optimizer=OptimizerSettings(learning_rate={"start": 1e-3, "end": 1e-4, "shape": "cosine"}),
        augmentation=AugmentationSettings(transposition_semitones=5),
        threshold=ThresholdSettings(fixed=0.5),
        trainer=TrainerSettings(
            precision="32-true",
            batch_size=2,
            accumulated_batches=2,
            steps=12,
            validation_interval_steps=3,
            checkpoint_interval_steps=2,
            pictures_every_validations=0,
        ),
    )


@pytest.fixture(scope="session")
def uninterrupted(demanding: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demanding run, left alone from its beginning to its end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(demanding, folder)
    return folder


@pytest.fixture
def settings(store: Path, features: HcqtSettings, tmp_path: Path) -> TrainSettings:
    """Settings of a run that takes seconds."""
    return TrainSettings(
        name="melodies",
        runs=str(tmp_path / "runs"),
        store=str(store),
        features=features.to_dict(),
        targets=TargetSettings(outputs=12, kind="stretched"),
        model={"name": "mcnn", "channels": [8, 8, 8, 1]},
        loss={
            "name": "sdtw",
            "gamma": {"start": 5.0, "end": 0.5, "shape": "geometric", "until": 0.7},
            "diagonal_prior": {"start": 3.0, "end": 0.0, "shape": "linear", "until": 0.4},
        },
        optimizer=OptimizerSettings(learning_rate={"start": 1e-3, "end": 1e-4, "shape": "cosine"}),
        trainer=TrainerSettings(
            batch_size=2, steps=8, validation_interval_steps=4, checkpoint_interval_steps=2, pictures_every_validations=0
        ),
    )


@pytest.fixture
def run_folder(settings: TrainSettings, tmp_path: Path) -> Path:
    """A run's folder with nothing but its config, as the command line leaves it before training."""
    folder = tmp_path / "runs" / "melodies" / "one"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(settings)))
    return folder
