"""The feature store: one memory-mapped array per recording, and beside it what is known of the recording."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from softscribe.corpora.recordings import Recording, Segment, safe_name
from softscribe.errors import InputError
from softscribe.files import array_header, read_arrays, read_json, replacing
from softscribe.scores.notes import PerformedNotes, Score
from softscribe.sound import HcqtSettings, estimate_tuning_semitones, hcqt, read_audio

FEATURES_VERSION = 1
"""Raised whenever the same audio and settings give other features than before: stored ones are then computed again."""

SEGMENT_TOLERANCE_SECONDS = 0.1
"""By how much a segment's end may exceed the recording: annotations are rounded, and compressed audio loses some padding."""

_INDEX = "corpus.json"
_SCORE_ARRAYS = ("onsets_quarters", "durations_quarters", "pitches", "parts")
_TRUTH_ARRAYS = ("onsets_seconds", "offsets_seconds", "pitches", "score_onsets_quarters")


@dataclass(frozen=True)
class PreparedRecording:
    """A recording whose features lie in the store.

    Attributes:
        recording: what is known of it.
        features_path: its features, a `.npy` file.
        frames_per_second: frame t belongs to the time t / frames_per_second seconds.
    """

    recording: Recording
    features_path: Path
    frames_per_second: float

    @property
    def features(self) -> Float[np.ndarray, "frames channels bins"]:
        """The linear HCQT magnitudes, float16, read-only, mapped anew at every access.

        A mapping that were kept would hold a file open for every recording of the corpus, and be copied whole into every worker process.
        """
        return _open_features(self.features_path)


class StoreError(InputError):
    """The store itself cannot be written: unlike a bad recording, this ends a preparation."""


class FeatureStore:
    """The features of a corpus under `directory`, in a folder of its own for each HCQT settings.

    `<name>.npy` holds the magnitudes (frames, channels, bins) in float16, `<name>.json` what they were computed from, `<name>.npz` the
    recording's segments, scores and truth, and `corpus.json` the names of the corpus prepared last. Every file is replaced as a whole.

    Args:
        directory: the store's root; created when something is written.
        settings: of the HCQT. Other settings live in another folder, so that two stores never mix.
    """

    def __init__(self, directory: Path, settings: HcqtSettings) -> None:
        self.settings = settings
        settings_hash = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode()).hexdigest()[:10]
        self.directory = Path(directory) / f"hcqt-{settings_hash}"

    def write(self, recording: Recording) -> bool:
        """Store the recording's features, unless they are there already, and its annotation.

        Returns:
            True if the features were computed, False if the stored ones agree with the audio, the settings and `FEATURES_VERSION`.

        Raises:
            InputError: the audio cannot be used, or a segment lies outside it.
            StoreError: the store cannot be written.
        """
        audio_sha256 = _sha256(recording.audio_path)
        sidecar = self._valid_sidecar(recording.name, audio_sha256)
        computed = sidecar is None
        if sidecar is None:
            sidecar = self._compute(recording, audio_sha256)
        _check_segments(recording, sidecar["duration_seconds"])
        _write_annotation(recording, self._path(recording.name, ".npz"))
        return computed

    def is_current(self, recording: Recording) -> bool:
        """Whether `write` would find the recording's features already there. Reads the audio file's bytes, but does not decode them."""
        return self._valid_sidecar(recording.name, _sha256(recording.audio_path)) is not None

    def duration_seconds(self, recording: Recording) -> float:
        """The length of a recording whose features are stored: that of the decoded audio.

        Raises:
            InputError: they are not stored.
        """
        path = self._path(recording.name, ".json")
        sidecar = read_json(path)
        if not _states_duration(sidecar):
            raise InputError(f"{path}: states no duration_seconds. Remedy: run `softscribe prepare` again.")
        return float(sidecar["duration_seconds"])

    def set_corpus(self, names: Iterable[str]) -> None:
        """State which recordings the corpus consists of; `recordings` returns exactly these.

        Raises:
            StoreError: the store cannot be written.
        """
        with _replacing(self.directory / _INDEX) as temporary:
            temporary.write_text(json.dumps({"recordings": sorted(names)}, indent=1))

    def recordings(self) -> list[PreparedRecording]:
        """Return the corpus prepared last, sorted by name.

        Raises:
            InputError: nothing is prepared for these settings, or a file of the store is missing or damaged.
        """
        return [self._read(name) for name in prepared_names(self.directory)]

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}{suffix}"

    def _read(self, name: str) -> PreparedRecording:
        recording = _read_annotation(self._path(name, ".npz"))
        prepared = PreparedRecording(recording, self._path(name, ".npy"), self.settings.frames_per_second)
        frames, *form = prepared.features.shape
        if form != [self.settings.channels, self.settings.bins]:
            raise InputError(f"{prepared.features_path}: does not fit the settings of its folder. Remedy: run `softscribe prepare` again.")
        if max(segment.end_seconds for segment in recording.judged) > frames / prepared.frames_per_second + SEGMENT_TOLERANCE_SECONDS:
            raise InputError(f"{prepared.features_path}: too short for {name}.npz beside it. Remedy: run `softscribe prepare` again.")
        return prepared

    def _compute(self, recording: Recording, audio_sha256: str) -> dict[str, Any]:
        samples = read_audio(recording.audio_path, self.settings.sample_rate)
        duration_seconds = len(samples) / self.settings.sample_rate
        _check_segments(recording, duration_seconds)
        tuning_semitones = estimate_tuning_semitones(samples, self.settings.sample_rate)
        features = hcqt(samples, self.settings, tuning_semitones)
        path = self._path(recording.name, ".npy")
        with _replacing(path) as temporary:
            # Magnitudes beyond the range of float16 would become infinite; audio within [-1, 1] stays far below it.
            np.save(temporary, np.minimum(features, np.finfo(np.float16).max).astype(np.float16), allow_pickle=False)
        sidecar = self._provenance(audio_sha256) | {
            "audio": recording.audio_path.name,
            "features_sha256": _sha256(path),
            "tuning_semitones": tuning_semitones,
            "duration_seconds": duration_seconds,
        }
        with _replacing(self._path(recording.name, ".json")) as temporary:
            temporary.write_text(json.dumps(sidecar, indent=1))
        return sidecar

    def _provenance(self, audio_sha256: str) -> dict[str, Any]:
        """What features must have been computed from to be current."""
        return {"audio_sha256": audio_sha256, "features_version": FEATURES_VERSION, "settings": self.settings.to_dict()}

    def _valid_sidecar(self, name: str, audio_sha256: str) -> dict[str, Any] | None:
        """The sidecar of features that are intact and current, or None."""
        try:
            sidecar = read_json(self._path(name, ".json"))
            wanted = json.loads(json.dumps(self._provenance(audio_sha256)))  # tuples become lists, as in the file
            current = all(sidecar.get(key) == value for key, value in wanted.items())
            intact = current and sidecar["features_sha256"] == _sha256(self._path(name, ".npy"))
            return sidecar if intact and _states_duration(sidecar) else None
        except (InputError, KeyError, AttributeError):
            return None


def prepared_names(directory: Path) -> list[str]:
    """Return the names of the recordings prepared in the folder of a store that holds one kind of features.

    Raises:
        InputError: there are none.
    """
    index = directory / _INDEX
    try:
        names = read_json(index)["recordings"]
    except (InputError, KeyError, TypeError):
        names = None
    # A name that is no file name could lead out of the store.
    if not isinstance(names, list) or not names or any(not isinstance(name, str) or safe_name(name) != name for name in names):
        raise InputError(f"{index}: no corpus is prepared for these features. Remedy: run `softscribe prepare` with the same settings.")
    return names


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as temporary:
            yield temporary
    except InputError as error:
        raise StoreError(str(error)) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: check its path and permissions.") from error


def _states_duration(sidecar: Any) -> bool:
    seconds = sidecar.get("duration_seconds") if isinstance(sidecar, dict) else None
    return type(seconds) is float and math.isfinite(seconds) and seconds > 0


def _check_segments(recording: Recording, duration_seconds: float) -> None:
    for segment in recording.judged:
        if segment.end_seconds > duration_seconds + SEGMENT_TOLERANCE_SECONDS:
            raise InputError(
                f"{recording.audio_path}: segment {segment.name!r} ends at {segment.end_seconds:g} s, but the recording is "
                f"{duration_seconds:.3f} s long. Remedy: correct audio_end_seconds."
            )


def _open_features(path: Path) -> np.memmap:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Remedy: run `softscribe prepare` again.")
    try:
        with path.open("rb") as file:
            shape, by_columns, kind = array_header(file)
            if kind != np.float16 or len(shape) != 3:
                raise InputError(f"{path}: holds no HCQT features. Remedy: delete it and run `softscribe prepare` again.")
            if math.prod(shape) * kind.itemsize > path.stat().st_size:
                raise ValueError(f"shape {shape} in {path.stat().st_size} bytes")
            return np.memmap(path, kind, mode="r", offset=file.tell(), shape=shape, order="F" if by_columns else "C")
    except InputError:
        raise
    except (ValueError, TypeError, OverflowError, OSError) as error:  # no header, or more than the file holds
        raise InputError(f"{path}: cannot be read ({error}). Remedy: run `softscribe prepare` again.") from error


def _write_annotation(recording: Recording, path: Path) -> None:
    segments = recording.judged
    description = {
        "name": recording.name,
        "audio_path": str(recording.audio_path),
        "score_path": str(recording.score_path),
        "split": recording.split,
        "whole_is_last": recording.whole is not None,
        "segments": [
            [segment.name, segment.start_seconds, segment.end_seconds, segment.score_start_quarters, segment.score.end_quarters]
            for segment in segments
        ],
    }
    arrays = {"description": np.array(json.dumps(description))}
    arrays["segments_notes"] = np.array([len(segment.score.pitches) for segment in segments])
    for field in _SCORE_ARRAYS:
        arrays[f"score_{field}"] = np.concatenate([getattr(segment.score, field) for segment in segments])
    if recording.truth is not None:
        arrays |= {f"truth_{field}": getattr(recording.truth, field) for field in _TRUTH_ARRAYS}
    with _replacing(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def _read_annotation(path: Path) -> Recording:
    try:
        arrays = read_arrays(path)
    except InputError as error:
        raise InputError(f"{error} Or run `softscribe prepare` again.") from error
    try:
        description = json.loads(str(arrays["description"]))
        boundaries = np.cumsum(arrays["segments_notes"])[:-1]
        scores = zip(*(np.split(arrays[f"score_{field}"], boundaries) for field in _SCORE_ARRAYS), strict=True)
        segments = tuple(
            Segment(name, start, end, score_start, Score(onsets, durations, pitches, parts, end_quarters))
            for (name, start, end, score_start, end_quarters), (onsets, durations, pitches, parts) in zip(
                description["segments"], scores, strict=True
            )
        )
        truth = PerformedNotes(*(arrays[f"truth_{field}"] for field in _TRUTH_ARRAYS)) if "truth_pitches" in arrays else None
        return Recording(
            description["name"],
            Path(description["audio_path"]),
            Path(description["score_path"]),
            description["split"],
            segments[:-1] if description["whole_is_last"] else segments,
            truth,
            segments[-1] if description["whole_is_last"] else None,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Remedy: run `softscribe prepare` again.") from error
