"""Fuzzing of every reader: whatever happened to a file, a reader returns something that makes sense or refuses it in words.

FUZZ_EXAMPLES=5000 damages each kind of file 5000 times, at random; without it the same few are tried at every run, and more with CI=true.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz import mutations, wholes
from fuzz.guard import read_or_refuse
from softscribe import cli
from softscribe.cli.runs import seeds_of
from softscribe.corpora.manifest import read_manifest
from softscribe.models import load_model
from softscribe.report import curve_points
from softscribe.scores import PerformedNotes, Score, read_performed_notes, read_score
from softscribe.sound import HcqtSettings, audio_duration_seconds, read_audio
from softscribe.training import TrainSettings
from softscribe.training.checkpoints import read_checkpoint
from softscribe.training.health_check import read_alarms
from softscribe.transcription import Transcriber

GIVEN = os.environ.get("FUZZ_EXAMPLES")
EXAMPLES = int(GIVEN or (60 if os.environ.get("CI") == "true" else 10))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,  # guard.py bounds the time, and stops what takes longer
    database=None,
    derandomize=GIVEN is None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)

pytestmark = pytest.mark.usefixtures("without_shape_types")


@dataclass(frozen=True)
class Case:
    """A file to damage: its name, what does the damage, who reads it, and what must hold of a result."""

    file: str
    damage: st.SearchStrategy[bytes]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]


def check_notes(notes: Score | PerformedNotes) -> None:
    assert ((notes.pitches >= 0) & (notes.pitches <= 127)).all()
    assert len(notes) or isinstance(notes, PerformedNotes)
    times = notes.onsets_quarters if isinstance(notes, Score) else notes.onsets_seconds
    assert (np.isfinite(times) & (times >= 0)).all()
    if isinstance(notes, Score):
        assert 0 < notes.end_quarters < math.inf


def check_sound(samples: np.ndarray) -> None:
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert len(samples) >= wholes.RATE


def check_manifest(recordings: list) -> None:
    for rows in recordings:
        for row in rows:
            assert abs(row.transpose_semitones) <= 127
            for path in (row.audio, row.score, row.truth):
                assert path is None or "\0" not in str(path)


def check_model(loaded: tuple[Transcriber, dict]) -> None:
    transcriber, card = loaded
    assert card["outputs"] in (12, 72)
    assert all(torch.isfinite(parameter).all() for parameter in transcriber.model.parameters())


def check_checkpoint(checkpoint: dict) -> None:
    assert isinstance(checkpoint["global_step"], int)
    assert all(isinstance(tensor, torch.Tensor) for tensor in checkpoint["state_dict"].values())


def check_settings(read: TrainSettings) -> None:
    assert read.seed >= 0
    assert "/root" not in json.dumps(read.model)


def check_alarms(alarms: list) -> None:
    assert all(isinstance(alarm["step"], int) for alarm in alarms)


def check_curves(curves: dict) -> None:
    for steps, values in curves.values():
        assert len(steps) == len(values)
        assert min(steps) >= 1


def check_seeds(seeds: list) -> None:
    assert all(type(seed) is int and seed >= 0 for seed in seeds)


def sheet_music(**options: str) -> Callable[[Path], Score]:
    def read(path: Path) -> Score:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # music21's own, about details that hold no notes
            return read_score(path, **options)

    return read


def score_and_performance(path: Path) -> Score:
    performed = read_or_refuse(read_performed_notes, path)
    if not isinstance(performed, str):
        check_notes(performed)
    return read_score(path)


def sound_and_duration(path: Path) -> np.ndarray:
    duration = read_or_refuse(audio_duration_seconds, path)
    samples = read_audio(path, wholes.RATE)
    assert not isinstance(duration, str), "what can be decoded has a length"
    return samples


def model_at_work(path: Path) -> tuple[Transcriber, dict]:
    return Transcriber.load(path.parent), load_model(path.parent)[1]


def text(whole: bytes) -> st.SearchStrategy[bytes]:
    return mutations.reworded(whole) | mutations.reworded(whole) | mutations.damaged(whole)


def archive(whole: bytes) -> st.SearchStrategy[bytes]:
    return mutations.damaged(whole) | mutations.repacked(whole)


def tree(whole: Any) -> st.SearchStrategy[bytes]:
    return mutations.replanted(whole).map(wholes.tree_bytes) | text(wholes.tree_bytes(whole))


def framed(whole: bytes, prefix: int) -> st.SearchStrategy[bytes]:
    """A safetensors file (prefix 0) or .npy (prefix 8: magic and version), whose header was reworded and its length set right."""
    size_bytes = 8 if prefix == 0 else 2
    start = prefix + size_bytes
    end = start + int.from_bytes(whole[prefix:start], "little")

    def framed_again(header: bytes) -> bytes:
        return whole[:prefix] + len(header).to_bytes(size_bytes, "little") + header + whole[end:]

    short = mutations.reworded(whole[start:end]).filter(lambda header: len(header) < 1 << 8 * size_bytes)
    return short.map(framed_again) | mutations.damaged(whole)


SOUNDS = ("WAV", "FLAC", "OGG", "OPUS", "MP3", "AIFF", "CAF")
CASES: dict[str, Case] = {
    "midi": Case("a.mid", mutations.damaged(wholes.midi()), score_and_performance, check_notes),
    "musicxml": Case("a.musicxml", text(wholes.musicxml()), sheet_music(), check_notes),
    "musicxml-expanded": Case("a.xml", text(wholes.musicxml()), sheet_music(repeats="expanded"), check_notes),
    "mxl": Case("a.mxl", archive(wholes.mxl()), sheet_music(), check_notes),
    "mei": Case("a.mei", text(wholes.MEI), sheet_music(), check_notes),
    "kern": Case("a.krn", text(wholes.KERN), sheet_music(), check_notes),
    "score-csv": Case("a.csv", text(wholes.SCORE_CSV), read_score, check_notes),
    "musicnet-csv": Case("a.csv", text(wholes.MUSICNET_CSV), score_and_performance, check_notes),
    "performed-csv": Case("a.csv", text(wholes.PERFORMED_CSV), read_performed_notes, check_notes),
    **{
        f"sound-{suffix.lower()}": Case(f"a.{suffix.lower()}", mutations.damaged(wholes.sound(suffix)), sound_and_duration, check_sound)
        for suffix in SOUNDS
    },
    "manifest": Case("manifest.csv", text(wholes.MANIFEST), read_manifest, check_manifest),
    "checkpoint": Case("last.ckpt", archive(wholes.checkpoint()), read_checkpoint, check_checkpoint),
    "config": Case(
        "config.yaml",
        text(wholes.run_config_yaml()) | tree(wholes.run_config()),
        lambda path: cli.read_run(path.parent),
        check_settings,
    ),
    "alarms": Case("alarms.jsonl", text(wholes.ALARMS), read_alarms, check_alarms),
    "curves": Case("metrics.csv", text(wholes.CURVES), curve_points, check_curves),
    "seeds": Case("seeds.json", text(wholes.SEEDS), lambda path: seeds_of(path.parent), check_seeds),
}


class Content(bytes):
    """Bytes that a failing test shows the beginning of."""

    def __repr__(self) -> str:
        return repr(bytes(self[:2000])) + (f" and {len(self) - 2000} more" if len(self) > 2000 else "")


def fuzz(case: Case, path: Path, named: Path) -> None:
    """Damage the file `path`; a refusal has to name `named`, which is the file, or the folder that holds it and what it should fit."""

    @SETTINGS
    @given(case.damage.map(Content))
    def one(content: bytes) -> None:
        path.write_bytes(content)
        result = read_or_refuse(lambda _: case.read(path), named)
        if not isinstance(result, str):
            case.check(result)

    one()


WHOLES = {
    "a.mid": wholes.midi(),
    "a.musicxml": wholes.musicxml(),
    "a.xml": wholes.musicxml(),
    "a.mxl": wholes.mxl(),
    "a.mei": wholes.MEI,
    "a.krn": wholes.KERN,
    "manifest.csv": wholes.MANIFEST,
    "last.ckpt": wholes.checkpoint(),
    "config.yaml": wholes.run_config_yaml(),
    "alarms.jsonl": wholes.ALARMS,
    "metrics.csv": wholes.CURVES,
    "seeds.json": wholes.SEEDS,
    **{f"a.{suffix.lower()}": wholes.sound(suffix) for suffix in SOUNDS},
}


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.file in WHOLES], ids=lambda case: case.file)
def test_what_is_to_be_damaged_is_good(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_bytes(WHOLES[case.file])
    result = read_or_refuse(case.read, path)
    assert not isinstance(result, str), result
    case.check(result)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_damaged_file_is_read_or_refused(case: Case, tmp_path: Path) -> None:
    fuzz(case, tmp_path / case.file, tmp_path / case.file)


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
def test_a_damaged_model_folder_is_read_or_refused(file: str, tmp_path: Path) -> None:
    card = wholes.save_small_model(tmp_path)
    damage = tree(card) if file == "card.json" else framed((tmp_path / file).read_bytes(), prefix=0)
    fuzz(Case(file, damage, model_at_work, check_model), tmp_path / file, tmp_path)


@pytest.mark.parametrize("file", ["song.npy", "song.npz", "song.json", "corpus.json"])
def test_a_damaged_feature_store_is_read_or_refused(file: str, tmp_path: Path) -> None:
    store = wholes.save_store(tmp_path)
    path = store.directory / file
    whole = path.read_bytes()
    [prepared] = store.recordings()

    def read(path: Path) -> float:
        store.is_current(prepared.recording)  # whatever it says, it says it
        duration = store.duration_seconds(prepared.recording)
        for again in store.recordings():
            assert again.features.shape == prepared.features.shape
        return duration

    def check(duration: float) -> None:
        assert 0 < duration < math.inf

    damages = {"song.npy": lambda: framed(whole, prefix=8), "song.npz": lambda: archive(whole)}
    fuzz(Case(file, damages.get(file, lambda: tree(json.loads(whole)))(), read, check), path, store.directory)


def test_hcqt_settings_of_any_tree_are_settings_or_refused() -> None:
    @SETTINGS
    @given(mutations.replanted(HcqtSettings().to_dict()).filter(lambda values: isinstance(values, dict)))
    def one(values: Any) -> None:
        read_or_refuse(lambda path: HcqtSettings.from_dict(values), Path("HCQT"))

    one()
