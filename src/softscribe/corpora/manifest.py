"""The manifest: a CSV file that says which recording goes with which score, and where."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar, get_args

from softscribe.corpora.recordings import SPLITS, Split
from softscribe.errors import InputError
from softscribe.files import read_bounded, replacing

Repeats = Literal["written", "expanded"]
REPEATS: tuple[Repeats, ...] = get_args(Repeats)
Choice = TypeVar("Choice", bound=str)
MAXIMUM_BYTES = 50_000_000


@dataclass(frozen=True)
class ManifestRow:
    """One segment of a recording, or, if all four segment columns are empty, a whole recording.

    Attributes:
        audio, score: the files; relative paths in the file are relative to the manifest's folder.
        audio_start_seconds, audio_end_seconds: where the segment lies in the recording. If only some of the four are given,
            a missing start means the beginning, a missing end the end.
        score_start_quarters, score_end_quarters: where it lies in the score, after its repeats were expanded, if they are.
        repeats: "written" or "expanded"; None takes the corpus's setting.
        transpose_semitones: added to every pitch of the score, when the recording sounds in another key.
        truth: the notes as performed, for evaluation and strong baselines only.
        split: "train", "validation" or "test"; None leaves it to the seeded split by piece.
    """

    audio: Path
    score: Path
    audio_start_seconds: float | None = None
    audio_end_seconds: float | None = None
    score_start_quarters: float | None = None
    score_end_quarters: float | None = None
    repeats: Repeats | None = None
    transpose_semitones: int = 0
    truth: Path | None = None
    split: Split | None = None

    @property
    def is_segment(self) -> bool:
        """Whether at least one end of a segment is given."""
        ends = (self.audio_start_seconds, self.audio_end_seconds, self.score_start_quarters, self.score_end_quarters)
        return any(end is not None for end in ends)


COLUMNS = tuple(field.name for field in fields(ManifestRow))
_SHARED_COLUMNS = ("score", "repeats", "transpose_semitones", "truth", "split")


def read_manifest(path: Path) -> list[list[ManifestRow]]:
    """Read a manifest: its recordings, in order of appearance, each as the list of its rows.

    A manifest is the user's own, so absolute paths and paths that leave its folder are allowed: they are only ever read.
    Names of recordings, which become file names in the feature store, are made from paths but never contain a separator.
    Columns may stand in any order, and all but `audio` and `score` may be missing. Rows of one audio file are its segments, so they
    agree in score, repeats, transposition, truth and split.

    Raises:
        InputError: the file cannot be read, has unknown or missing columns or no rows, a value is not valid (line, column and
            value are named), or rows of one recording contradict each other.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "manifest.csv"
    >>> _ = path.write_text("audio,score,split\\na.wav,a.mid,test\\n")
    >>> [[row]] = read_manifest(path)
    >>> row.audio.name, row.split, row.is_segment
    ('a.wav', 'test', False)
    """
    recordings: dict[Path, list[tuple[int, ManifestRow]]] = {}
    for line, cells in _read_cells(path):
        row = _parse_row(path, line, cells)
        rows = recordings.setdefault(row.audio, [])
        if rows:
            _check_agreement(path, rows[0], (line, row))
        rows.append((line, row))
    if not recordings:
        raise InputError(f"{path}: has no rows. Remedy: add one row for every recording or segment.")
    return [[row for _, row in rows] for rows in recordings.values()]


def write_manifest(rows: Iterable[ManifestRow], path: Path) -> None:
    """Write `rows` to the CSV file `path`; files below its folder are written relative to it. `read_manifest` reads back the same.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_format_cell(value, path.parent) for value in astuple(row)] for row in rows)


def _format_cell(value: object, folder: Path) -> str:
    if isinstance(value, Path):
        absolute, root = (Path(os.path.normpath(path.absolute())) for path in (value, folder))
        return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()
    if isinstance(value, float):
        return repr(float(value)).removesuffix(".0")
    return "" if value is None else str(value)


def _read_cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    content = read_bounded(path, MAXIMUM_BYTES)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True, skipinitialspace=True)
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}). Remedy: save it as comma-separated text in UTF-8.") from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    unknown = [column for column in header if column not in COLUMNS]
    missing = [column for column in ("audio", "score") if column not in header]
    repeated = sorted({column for column in header if header.count(column) > 1})
    for problem, columns in (("unknown", unknown), ("missing", missing), ("repeated", repeated)):
        if columns:
            raise InputError(f"{path}: {problem} column(s) {', '.join(map(repr, columns))}. Remedy: the columns are {','.join(COLUMNS)}.")
    for line, cells in lines[1:]:
        if len(cells) > len(header):
            raise InputError(
                f"{path}, line {line}: {len(cells)} values for {len(header)} columns. Remedy: quote values that contain commas."
            )
    return [(line, dict(zip(header, (cell.strip() for cell in cells), strict=False))) for line, cells in lines[1:]]


def _parse_row(path: Path, line: int, cells: dict[str, str]) -> ManifestRow:
    def fail(column: str, remedy: str) -> InputError:
        return InputError(f"{path}, line {line}, column {column}: {cells.get(column, '')!r}. Remedy: {remedy}.")

    def file(column: str) -> Path | None:
        if "\0" in cells.get(column, ""):
            raise fail(column, "a path without NUL characters")
        return Path(os.path.normpath(path.parent / cells[column])) if cells.get(column) else None

    def number(column: str) -> float | None:
        if not cells.get(column):
            return None
        try:
            value = float(cells[column])
        except ValueError:
            raise fail(column, "a number, with a point for decimals, or nothing") from None
        if not math.isfinite(value) or value < 0:
            raise fail(column, "a finite number of at least 0, or nothing")
        return value

    def choice(column: str, choices: Sequence[Choice]) -> Choice | None:
        if cells.get(column) and cells[column] not in choices:
            raise fail(column, f"one of {', '.join(choices)}, or nothing")
        return next((value for value in choices if value == cells.get(column)), None)

    audio, score = file("audio"), file("score")
    if audio is None or score is None:
        raise fail("audio" if audio is None else "score", "name a file")
    try:
        semitones = int(cells.get("transpose_semitones") or 0)
    except ValueError:
        raise fail("transpose_semitones", "a whole number, or nothing") from None
    if abs(semitones) > 127:
        raise fail("transpose_semitones", "a whole number from -127 to 127, or nothing")
    row = ManifestRow(
        audio,
        score,
        number("audio_start_seconds"),
        number("audio_end_seconds"),
        number("score_start_quarters"),
        number("score_end_quarters"),
        choice("repeats", REPEATS),
        semitones,
        file("truth"),
        choice("split", SPLITS),
    )
    for start, end, column in (
        (row.audio_start_seconds, row.audio_end_seconds, "audio_end_seconds"),
        (row.score_start_quarters, row.score_end_quarters, "score_end_quarters"),
    ):
        if end is not None and end <= (start or 0):
            raise fail(column, f"a number above the start, {start or 0:g}")
    return row


def _check_agreement(path: Path, first: tuple[int, ManifestRow], other: tuple[int, ManifestRow]) -> None:
    (first_line, first_row), (line, row) = first, other
    for column in _SHARED_COLUMNS:
        if getattr(row, column) != getattr(first_row, column):
            raise InputError(
                f"{path}, line {line}, column {column}: {getattr(row, column)} differs from {getattr(first_row, column)} "
                f"on line {first_line} for the same recording, {row.audio}. Remedy: give all its rows the same value."
            )
    if not (row.is_segment and first_row.is_segment):
        raise InputError(
            f"{path}, line {line}: a further row of {row.audio} (line {first_line}), but not both are segments. "
            "Remedy: one row without segment columns, or a start and an end in every row."
        )
