"""Parsed scores kept on disk: music21 takes up to 20 s for a quartet movement, reading its notes back takes a millisecond."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from softscribe.errors import InputError
from softscribe.files import read_arrays, read_bounded, replacing
from softscribe.scores.notes import Score
from softscribe.scores.sheet_music import MAXIMUM_BYTES

#: Raised whenever the reader gives other notes for the same file: what was cached before is then not found any more.
READER_VERSION = 1


def cached(path: Path, repeats: str, directory: Path | None, read: Callable[[Path, str], Score]) -> Score:
    """What `read(path, repeats)` returns, from `directory` if it has been read before; None caches nothing.

    The key is made of the file's content (not its name), its suffix, `repeats`, READER_VERSION and music21's version. A cache file that is
    damaged is made anew. The format is NPZ without pickled objects.

    Raises:
        InputError: `read` raises it, or the directory cannot be written.
    """
    if directory is None:
        return read(path, repeats)
    key = f"{path.suffix.lower()}\0{repeats}\0{READER_VERSION}\0{version('music21')}\0".encode() + read_bounded(path, MAXIMUM_BYTES)
    file = directory / f"{hashlib.sha256(key).hexdigest()[:32]}.npz"
    score = _load(file)
    if score is None:
        score = read(path, repeats)
        _save(score, file)
    return score


def _load(file: Path) -> Score | None:
    try:
        arrays = read_arrays(file)
        return Score(
            arrays["onsets_quarters"], arrays["durations_quarters"], arrays["pitches"], arrays["parts"], float(arrays["end_quarters"])
        )
    except (InputError, KeyError, ValueError, TypeError):
        return None


def _save(score: Score, file: Path) -> None:
    with replacing(file) as temporary:
        np.savez_compressed(
            temporary,
            onsets_quarters=score.onsets_quarters,
            durations_quarters=score.durations_quarters,
            pitches=score.pitches,
            parts=score.parts,
            end_quarters=np.float64(score.end_quarters),
        )
