"""The user's own corpus: a folder of recordings and scores, with a manifest or without."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from softscribe.corpora.coarse_alignment import AudioChroma, align_coarsely, audio_chroma, guess_segments
from softscribe.corpora.manifest import REPEATS, ManifestRow, read_manifest
from softscribe.corpora.pairing import pair_by_name, split_pieces, unique_names
from softscribe.corpora.parallel import map_in_processes
from softscribe.corpora.recordings import Recording, Refusal, Segment, Split
from softscribe.errors import InputError
from softscribe.files import read_arrays, replacing
from softscribe.scores import PerformedNotes, Score, read_performed_notes, read_score
from softscribe.sound import audio_duration_seconds, read_audio

MANIFEST_NAME = "manifest.csv"
WHOLE = "whole"
"""Name of the only segment of a recording that was short enough to stay uncut."""
_SAMPLE_RATE = 22050
_TOLERANCE_SECONDS = 0.1
_TOLERANCE_QUARTERS = 1e-3


@dataclass(frozen=True)
class _Options:
    """What reading one recording needs besides its rows."""

    score_options: dict[str, Any]
    repeats: str
    cache_directory: Path | None
    longest_segment_seconds: float


def read_folder_corpus(
    directory: Path,
    *,
    repeats: Literal["written", "expanded"] = "written",
    csv_time_unit: Literal["quarters", "ticks", "seconds"] | None = None,
    csv_ticks_per_quarter: int | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    cache_directory: Path | None = None,
    longest_segment_seconds: float = 30.0,
    jobs: int = -1,
) -> tuple[list[Recording], list[Refusal]]:
    """Read the recordings and scores below `directory`, without their features.

    `manifest.csv` says what belongs together (see `read_manifest`); without one the names of the files do (see `pair_by_name`).
    A recording without segments is one segment, from its first to its last sound, if that is no longer than
    `longest_segment_seconds`; a longer one is cut at sure places of a coarse alignment (see `guess_segments`) and keeps both in
    `whole`. Pieces without a split are drawn (see `split_pieces`). A bad file costs its own recording only.

    Args:
        directory: the corpus.
        repeats: whether scores are read as written or with their repeats played, where the manifest does not say.
        csv_time_unit, csv_ticks_per_quarter: of score CSVs in foreign dialects (see `read_score`).
        seed, validation_fraction, test_fraction: of the split by piece.
        cache_directory: where parsed scores and chroma are kept for the next time; None keeps nothing.
        longest_segment_seconds: see above; at least 20.
        jobs: processes; -1 takes all cores.

    Returns:
        The recordings, sorted by name, and what was refused and why.

    Raises:
        InputError: there is no such folder, it holds no pair, the manifest is not valid, or an argument is not.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such folder. Remedy: give the folder that holds the recordings and scores.")
    if repeats not in REPEATS:
        raise InputError(f"repeats: {repeats!r}. Remedy: one of {', '.join(REPEATS)}.")
    manifest = directory / MANIFEST_NAME
    refusals: list[Refusal] = []
    if manifest.exists():
        row_lists = read_manifest(manifest)
    else:
        rows, refusals = pair_by_name(directory)
        row_lists = [[row] for row in rows]
        if not rows:
            reasons = "".join(f"\n  {refusal.reason}" for refusal in refusals[:10])
            raise InputError(f"{directory}: no recording and score go together. Remedy: see `softscribe prepare --help`.{reasons}")
    names = unique_names((rows[0].audio for rows in row_lists), directory)
    score_options = {"csv_time_unit": csv_time_unit, "csv_ticks_per_quarter": csv_ticks_per_quarter, "cache_directory": cache_directory}
    options = _Options(score_options, repeats, cache_directory, longest_segment_seconds)
    # What could only fail for every single recording fails here, once.
    split_pieces({}, directory, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction)
    if not longest_segment_seconds >= 20:
        raise InputError(f"longest_segment_seconds: {longest_segment_seconds}. Remedy: choose at least 20.")

    read = partial(_read_recording, options=options)
    results = map_in_processes(read, [(names[rows[0].audio], rows) for rows in row_lists], jobs=jobs, description="reading scores")
    given: dict[Path, Split | None] = {}
    for rows, (recording, recording_refusals) in zip(row_lists, results, strict=True):
        refusals += recording_refusals
        if recording is not None:
            given[rows[0].score] = rows[0].split or given.get(rows[0].score)
    splits = split_pieces(given, directory, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction)
    recordings = [
        replace(recording, split=rows[0].split or splits[recording.score_path])
        for rows, (recording, _) in zip(row_lists, results, strict=True)
        if recording is not None
    ]
    return sorted(recordings, key=lambda recording: recording.name), refusals


def _read_recording(named_rows: tuple[str, list[ManifestRow]], options: _Options) -> tuple[Recording | None, list[Refusal]]:
    name, rows = named_rows
    row = rows[0]
    refusals: list[Refusal] = []
    try:
        duration_seconds = audio_duration_seconds(row.audio)
        score = read_score(row.score, repeats=row.repeats or options.repeats, **options.score_options)
        if row.transpose_semitones:
            score = score.transposed(row.transpose_semitones)
        whole = None
        if row.is_segment:
            segments, refusals = _given_segments(rows, score, duration_seconds)
        else:
            segments, whole = _whole_or_guessed_segments(row, score, options)
    except InputError as error:
        return None, [Refusal(row.audio, str(error))]
    truth: PerformedNotes | None = None
    if row.truth is not None:
        try:
            truth = read_performed_notes(row.truth)
        except InputError as error:
            refusals.append(Refusal(row.truth, f"{error} The recording {name} is used without truth."))
    if not segments:
        return None, refusals
    # The split is drawn once all recordings are known.
    return Recording(name, row.audio, row.score, "train", segments, truth, whole), refusals


def _given_segments(rows: list[ManifestRow], score: Score, duration_seconds: float) -> tuple[tuple[Segment, ...], list[Refusal]]:
    """The segments of the manifest; those that leave the recording or the score are refused."""
    segments, refusals = [], []
    for number, row in enumerate(sorted(rows, key=lambda row: row.audio_start_seconds or 0.0), start=1):
        start, score_start = row.audio_start_seconds or 0.0, row.score_start_quarters or 0.0
        end = duration_seconds if row.audio_end_seconds is None else row.audio_end_seconds
        score_end = score.end_quarters if row.score_end_quarters is None else row.score_end_quarters
        which = f"{row.audio}: segment {number} ({start:g} to {end:g} s, quarters {score_start:g} to {score_end:g} of {row.score.name})"
        if start >= end or end > duration_seconds + _TOLERANCE_SECONDS:
            reason = f"{which} leaves the recording, which is {duration_seconds:.3f} s long. Remedy: correct its seconds."
        elif score_start >= score_end or score_end > score.end_quarters + _TOLERANCE_QUARTERS:
            reason = f"{which} leaves the score, which is {score.end_quarters:g} quarters long. Remedy: correct its quarters, or `repeats`."
        else:
            section = score.between(score_start, min(score_end, score.end_quarters))
            segments.append(Segment(f"{number:03d}", start, min(end, duration_seconds), score_start, section))
            continue
        refusals.append(Refusal(row.audio, reason))
    return tuple(segments), refusals


def _whole_or_guessed_segments(row: ManifestRow, score: Score, options: _Options) -> tuple[tuple[Segment, ...], Segment | None]:
    """A single segment and nothing else, or what was guessed and the whole."""
    audio = _cached_chroma(row.audio, options.cache_directory)
    whole = Segment(WHOLE, audio.start_seconds, audio.end_seconds, 0.0, score)
    if audio.end_seconds - audio.start_seconds <= options.longest_segment_seconds:
        return (whole,), None
    segments, _ = guess_segments(audio, score, options.longest_segment_seconds)
    if not segments:
        alignment = align_coarsely(audio, score)
        raise InputError(
            f"{row.audio}: too long for one segment, and nowhere surely aligned with {row.score} (mean chroma distance "
            f"{alignment.cost:.2f}; good pairs have about 0.2). Remedy: check that the score belongs to it, in this key and with these "
            "repeats (columns `transpose_semitones` and `repeats`), or give segments in a manifest.csv."
        )
    return segments, whole


def _cached_chroma(path: Path, cache_directory: Path | None) -> AudioChroma:
    if cache_directory is None:
        return audio_chroma(read_audio(path, _SAMPLE_RATE), _SAMPLE_RATE)
    cached = Path(cache_directory) / f"chroma-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.npz"
    try:
        arrays = read_arrays(cached)
        return AudioChroma(arrays["values"], *(float(arrays[field.name]) for field in fields(AudioChroma)[1:]))
    except (InputError, ValueError, KeyError, TypeError):
        chroma = audio_chroma(read_audio(path, _SAMPLE_RATE), _SAMPLE_RATE)
        with replacing(cached) as temporary:
            np.savez(temporary, **{field.name: getattr(chroma, field.name) for field in fields(AudioChroma)})
        return chroma
