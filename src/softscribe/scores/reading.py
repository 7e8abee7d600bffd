"""Reading scores and performances, whatever their format."""

from __future__ import annotations

from pathlib import Path

from softscribe.errors import InputError
from softscribe.scores.cache import cached
from softscribe.scores.midi import read_performed_notes_midi, read_score_midi
from softscribe.scores.note_csv import read_performed_notes_csv, read_score_csv
from softscribe.scores.notes import PerformedNotes, Score
from softscribe.scores.sheet_music import read_sheet_music

MIDI_SUFFIXES = (".mid", ".midi")
SHEET_MUSIC_SUFFIXES = (".musicxml", ".mxl", ".xml", ".mei", ".krn")
#: What `read_score` reads, in small letters.
SCORE_SUFFIXES = (*SHEET_MUSIC_SUFFIXES, *MIDI_SUFFIXES, ".csv")


def read_score(
    path: str | Path,
    *,
    repeats: str = "written",
    csv_time_unit: str | None = None,
    csv_ticks_per_quarter: int | None = None,
    cache_directory: str | Path | None = None,
) -> Score:
    """Read a score from MusicXML (.musicxml, .mxl, .xml), MEI, Humdrum kern, MIDI or a note CSV.

    Args:
        path: the file; its suffix names the format.
        repeats: "written" (repeats and voltas stand once, one ending after the other) or "expanded" (as played). MIDI and CSV have no
            repeat signs: what they hold is taken as it is.
        csv_time_unit: "quarters", "ticks" or "seconds" (the score's own, at 120 quarter notes per minute), where the CSV's header does not
            say it.
        csv_ticks_per_quarter: with "ticks".
        cache_directory: where parsed sheet music is kept; None keeps nothing.

    Raises:
        InputError: an argument is wrong, or the file is missing, damaged, unsafe, without notes, or of unknown format or time unit.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "score.csv"
    >>> _ = path.write_text("onset,offset,pitch\\n0,24,60\\n24,36,64\\n")
    >>> read_score(path, csv_time_unit="ticks", csv_ticks_per_quarter=24).durations_quarters.tolist()
    [1.0, 0.5]
    """
    path, suffix = _existing(path)
    if repeats not in ("written", "expanded"):
        raise InputError(f"repeats: {repeats!r}; give written or expanded.")
    if suffix == ".csv":
        return read_score_csv(path, csv_time_unit=csv_time_unit, csv_ticks_per_quarter=csv_ticks_per_quarter)
    if suffix in MIDI_SUFFIXES:
        return read_score_midi(path)
    if suffix in SHEET_MUSIC_SUFFIXES:
        return cached(path, repeats, None if cache_directory is None else Path(cache_directory), read_sheet_music)
    raise InputError(f"{path}: no score format has the suffix {suffix!r}. Remedy: give one of {', '.join(SCORE_SUFFIXES)}.")


def read_performed_notes(path: str | Path) -> PerformedNotes:
    """Read the notes of a performance, in seconds of its recording, from a note CSV or from MIDI.

    The CSV's header is `onset_seconds,offset_seconds,pitch[,score_onset_quarters]`, or a dataset's: see `softscribe.scores.note_csv`.

    Raises:
        InputError: the file is missing, damaged, of unknown format, or a MIDI file without notes; a CSV may say that nothing sounded.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "truth.csv"
    >>> _ = path.write_text("onset_seconds,offset_seconds,pitch\\n0.5,1.25,60\\n")
    >>> read_performed_notes(path).offsets_seconds.tolist()
    [1.25]
    """
    path, suffix = _existing(path)
    if suffix == ".csv":
        return read_performed_notes_csv(path)
    if suffix in MIDI_SUFFIXES:
        return read_performed_notes_midi(path)
    raise InputError(f"{path}: no format of performed notes has the suffix {suffix!r}. Remedy: give .csv, {' or '.join(MIDI_SUFFIXES)}.")


def _existing(path: str | Path) -> tuple[Path, str]:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is no file' if path.exists() else 'not found'}. Remedy: check the path.")
    return path, path.suffix.lower()
