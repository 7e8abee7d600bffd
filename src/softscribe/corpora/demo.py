"""The built-in corpus: scores of the installed music21 package, performed and recorded at random, written as a folder corpus.

DIRECTORY/manifest.csv       one row for every segment, with all columns
DIRECTORY/audio/NAME.flac    the recording: mono, 22,050 Hz, 16 bit
DIRECTORY/scores/NAME.csv    the score as written, in quarter notes, its repeats written out as they are played
DIRECTORY/truth/NAME.csv     the notes as performed, for evaluation and strong baselines only
DIRECTORY/pieces/NAME.json   what is known of a piece; written last, so that a piece with it is complete
DIRECTORY/settings.json      the settings, and how much music and how many anchors came of them; the corpus with it is complete
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import soundfile
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from softscribe.console import Console, Progress
from softscribe.corpora.manifest import ManifestRow, write_manifest
from softscribe.corpora.performance import perform
from softscribe.corpora.pieces import Cut, Piece, assign_splits, cut, group_pieces, list_pieces, melodies
from softscribe.corpora.recordings import SPLITS
from softscribe.corpora.rendering import render
from softscribe.corpora.soundfont import SoundFont, installed_soundfont
from softscribe.errors import InputError
from softscribe.files import read_json, replacing
from softscribe.scores import read_score, write_performed_notes_csv, write_score_csv

SAMPLE_RATE = 22050
_FILES = {"audio": ".flac", "scores": ".csv", "truth": ".csv", "pieces": ".json"}


def write_demo_corpus(
    directory: Path,
    *,
    size: str = "small",
    minimum_segment_seconds: float = 10.0,
    maximum_segment_seconds: float = 30.0,
    seed: int = 0,
    jobs: int = -1,
    pieces: Sequence[Piece] | None = None,
) -> Path:
    """Write the built-in corpus; what is already there and complete is kept, so that an interrupted run goes on where it was.

    Every file depends on the settings alone, byte for byte, and not on `jobs` or on the other pieces; the splits depend on the list of
    pieces. A piece that cannot be read or is too short is refused: it is named on screen and in `settings.json`, and the rest goes on.

    Args:
        directory: where to write; a folder that holds another kind of corpus is refused.
        size: "small" (about 45 minutes) or "full" (all chorales and quartet movements: many hours).
        minimum_segment_seconds, maximum_segment_seconds: limits of the random lengths of segments, 0 < minimum <= maximum.
        seed: of performances and recordings; the choice of pieces and the splits do not depend on it.
        jobs: parallel processes; -1 takes all cores.
        pieces: instead of those of `size`.

    Returns:
        The path of the manifest.

    Raises:
        InputError: a setting is out of its range, the folder cannot be written or holds something else, the SoundFont or the scores
            are not installed, or every piece is refused.
    """
    if not 0 < minimum_segment_seconds <= maximum_segment_seconds < float("inf"):
        raise InputError(
            f"minimum_segment_seconds={minimum_segment_seconds}, maximum_segment_seconds={maximum_segment_seconds}: need "
            "0 < minimum <= maximum. Remedy: 10 and 30 are the usual ones."
        )
    if seed < 0:
        raise InputError(f"seed={seed}: must be at least 0. Remedy: 0.")
    pieces = list_pieces(size) if pieces is None else pieces
    manifest, settings_path = directory / "manifest.csv", directory / "settings.json"
    if manifest.exists() and not (directory / "pieces").is_dir():
        raise InputError(f"{manifest}: belongs to a corpus that is not the built-in one. Remedy: choose another folder for the demo.")
    settings: dict[str, Any] = {
        "size": size,
        "seed": seed,
        "minimum_segment_seconds": float(minimum_segment_seconds),
        "maximum_segment_seconds": float(maximum_segment_seconds),
    }
    piece_settings = {**settings, "size": "any", "versions": _versions()}
    settings["hash"] = _hash({**piece_settings, "pieces": [piece.name for piece in pieces]})
    records = {piece.name: _complete_record(directory, piece, _hash(piece_settings)) for piece in pieces}
    missing = [piece for piece in pieces if records[piece.name] is None]
    if not missing and manifest.exists() and _read_json(settings_path).get("hash") == settings["hash"]:
        return manifest

    try:
        for path in (settings_path, manifest):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be replaced ({error.strerror}). Remedy: choose another folder for the demo corpus.") from error
    work = (joblib.delayed(_write_piece)(piece, directory, piece_settings) for piece in missing)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("pieces"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Recording the demo corpus", total=len(pieces), completed=len(pieces) - len(missing))
        for record in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(work):
            records[record["name"]] = record
            progress.advance(task)
            if record["refused"]:
                progress.console.print(f"refused: {record['refused']}")
    _remove_others(directory, set(records))
    return _write_manifest([record for _, record in sorted(records.items()) if record is not None], directory, settings)


def _write_piece(piece: Piece, directory: Path, piece_settings: dict[str, Any]) -> dict[str, Any]:
    paths = _paths(directory, piece.name)
    paths["pieces"].unlink(missing_ok=True)
    record: dict[str, Any] = {
        "name": piece.name,
        "work": piece.work,
        "hash": _hash(piece_settings),
        "refused": "",
        "cuts": [],
        "melodies": [],
    }
    performing_rng, sound_rng, cutting_rng = np.random.default_rng([piece_settings["seed"], zlib.crc32(piece.name.encode())]).spawn(3)
    try:
        score = read_score(piece.path, repeats="expanded")
        performance = perform(score, performing_rng)
        limits = piece_settings["minimum_segment_seconds"], piece_settings["maximum_segment_seconds"]
        cuts = cut(performance, *limits, cutting_rng)
        if not cuts:
            raise InputError(f"{piece.name}: {performance.offsets_seconds.max():.1f} s long, too short for one segment.")
    except InputError as error:
        record["refused"] = str(error)
        for path in paths.values():
            path.unlink(missing_ok=True)
    else:
        samples, lead_in_seconds = render(performance, _installed_font(), sound_rng, SAMPLE_RATE)
        recording = io.BytesIO()  # of a full disk libsndfile would say nothing but "System error"
        soundfile.write(recording, samples, SAMPLE_RATE, subtype="PCM_16", format=paths["audio"].suffix[1:])
        with replacing(paths["audio"]) as temporary:
            temporary.write_bytes(recording.getbuffer())
        write_score_csv(score, paths["scores"])
        write_performed_notes_csv(performance.notes(lead_in_seconds), paths["truth"])
        record["cuts"] = [
            vars(Cut(one.start_seconds + lead_in_seconds, one.end_seconds + lead_in_seconds, one.start_quarters, one.end_quarters))
            for one in cuts
        ]
        record["melodies"] = melodies(score) if piece.is_chorale else []
    with replacing(paths["pieces"]) as temporary:
        temporary.write_text(json.dumps(record))
    return record


def _write_manifest(records: list[dict[str, Any]], directory: Path, settings: dict[str, Any]) -> Path:
    accepted = {record["name"]: record for record in records if record["cuts"]}
    refused = {record["name"]: record["refused"] for record in records if record["refused"]}
    if not accepted:
        raise InputError(f"{directory}: every piece of the demo corpus was refused: {'; '.join(refused.values())}")
    cuts = {name: [Cut(**one) for one in record["cuts"]] for name, record in accepted.items()}
    seconds = {name: sum(one.end_seconds - one.start_seconds for one in own) for name, own in cuts.items()}
    works = {name: record["work"] for name, record in accepted.items()}
    splits = assign_splits(group_pieces(works, {name: record["melodies"] for name, record in accepted.items()}), seconds)
    rows = [
        ManifestRow(
            audio=_paths(directory, name)["audio"],
            score=_paths(directory, name)["scores"],
            audio_start_seconds=one.start_seconds,
            audio_end_seconds=one.end_seconds,
            score_start_quarters=one.start_quarters,
            score_end_quarters=one.end_quarters,
            repeats="written",  # the score file has them written out
            truth=_paths(directory, name)["truth"],
            split=splits[name],
        )
        for name, own in cuts.items()
        for one in own
    ]
    write_manifest(rows, directory / "manifest.csv")
    figures = {split: _figures({name: own for name, own in cuts.items() if splits[name] == split}, seconds) for split in SPLITS}
    content = {**settings, **_figures(cuts, seconds), "splits": figures, "refused": refused}
    with replacing(directory / "settings.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return directory / "manifest.csv"


def _figures(cuts: dict[str, list[Cut]], seconds: dict[str, float]) -> dict[str, int | float]:
    """How much music, and at how many distinct instants it is tied to its score: a piece's segments follow each other."""
    minutes = sum(seconds[name] for name in cuts) / 60
    segments = sum(map(len, cuts.values()))
    anchors_per_minute = (segments + len(cuts)) / minutes if minutes else 0.0
    return {"pieces": len(cuts), "segments": segments, "minutes": round(minutes, 3), "anchors_per_minute": round(anchors_per_minute, 3)}


@lru_cache(maxsize=1)
def _installed_font() -> SoundFont:
    return SoundFont.load(installed_soundfont())


def _versions() -> dict[str, str]:
    """What the files depend on beside the settings: this code, and the packages that hold the scores and the SoundFont."""
    here = Path(__file__).parent
    names = ("demo", "pieces", "performance", "rendering", "soundfont", "sampler_kernels")
    sources = [here / f"{name}.py" for name in names] + sorted((here.parent / "scores").glob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return {"code": code} | {package: importlib.metadata.version(package) for package in ("music21", "pretty_midi")}


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _paths(directory: Path, name: str) -> dict[str, Path]:
    return {folder: directory / folder / f"{name}{suffix}" for folder, suffix in _FILES.items()}


def _complete_record(directory: Path, piece: Piece, expected_hash: str) -> dict[str, Any] | None:
    paths = _paths(directory, piece.name)
    record = _read_json(paths["pieces"])
    if record.get("hash") != expected_hash:
        return None
    return record if record["refused"] or all(path.exists() for path in paths.values()) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except InputError:
        return {}  # what cannot be read is written anew
    return content if isinstance(content, dict) else {}


def _remove_others(directory: Path, names: set[str]) -> None:
    """Remove what an earlier run with other settings wrote of pieces that are not of this corpus: those with a file in `pieces`."""
    for record in (directory / "pieces").glob("*.json"):
        if record.stem not in names:
            for path in _paths(directory, record.stem).values():
                path.unlink(missing_ok=True)
