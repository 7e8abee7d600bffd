"""Note lists in CSV: one row per note, separated by `,` or `;`; what the columns mean follows from the header.

| header (further columns are ignored)                            | known from                  | time unit                     |
|-----------------------------------------------------------------|-----------------------------|-------------------------------|
| `onset_quarters,duration_quarters,pitch,part`                   | softscribe                  | quarter notes                 |
| `start_time,end_time,instrument,note,start_beat,end_beat`       | MusicNet                    | quarter notes; 44,100 Hz      |
| `start;end;pitch;...`, `instrument` if there                    | Schubert Winterreise, BPSD  | to be given; seconds if performed |
| `Start;Duration;Pitch;...`, `Instrument` if there               | FMP notebooks, MTD          | to be given; seconds if performed |
| `onset,offset,pitch,...`                                        | Bach violin                 | to be given                   |
| `onset_seconds,offset_seconds,pitch[,score_onset_quarters]`     | softscribe, performed notes | seconds                       |

As a score, a row of no duration (a grace note) is left out; a row without a pitch is a rest, which may end the score after its last note.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softscribe.errors import InputError
from softscribe.files import read_bounded, replacing
from softscribe.scores.notes import PerformedNotes, Score

#: What `csv_time_unit="seconds"` takes a quarter note to last: 120 per minute, as MIDI does when nothing is said.
NOMINAL_SECONDS_PER_QUARTER = 0.5
#: Larger files are no note lists: a symphony has 100,000 notes in 5 MB.
MAXIMUM_BYTES = 20_000_000
MUSICNET_SAMPLE_RATE = 44_100
#: No time, in whatever unit, and no pitch is larger: a recording of a day has 4e9 samples.
LARGEST_NUMBER = 1e12


@dataclass(frozen=True)
class _Dialect:
    """Which column means what; `end` holds times, `duration` lengths, one of them is there."""

    start: str
    pitch: str = "pitch"
    end: str = ""
    duration: str = ""
    part: str = ""
    score_onset: str = ""
    unit: str = ""
    units_per_second: int = 1

    def fits(self, header: list[str]) -> bool:
        return all(column in header for column in (self.start, self.pitch, self.end or self.duration))


_SCORE_DIALECTS = (
    _Dialect("onset_quarters", duration="duration_quarters", part="part", unit="quarters"),
    # MusicNet's end_beat is a length, despite its name.
    _Dialect("start_beat", pitch="note", duration="end_beat", part="instrument", unit="quarters"),
    _Dialect("start", end="end", part="instrument"),
    _Dialect("start", duration="duration", part="instrument"),
    _Dialect("onset", end="offset"),
)
_PERFORMED_DIALECTS = (
    _Dialect("onset_seconds", end="offset_seconds", score_onset="score_onset_quarters"),
    _Dialect("start_time", pitch="note", end="end_time", score_onset="start_beat", units_per_second=MUSICNET_SAMPLE_RATE),
    _Dialect("start", end="end"),
    _Dialect("start", duration="duration"),
)


@dataclass(frozen=True)
class _Table:
    """The cells of a CSV by column name (in small letters), and the line of the file that each row stands on."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def numbers(self, column: str, empty: float | None = None) -> np.ndarray:
        """The column as float64; an empty cell is `empty`, or refused."""
        values = np.empty(len(self.lines))
        for row, (cell, line) in enumerate(zip(self.columns[column], self.lines, strict=True)):
            try:
                values[row] = empty if empty is not None and not cell else float(cell)
                if cell and not abs(values[row]) <= LARGEST_NUMBER:
                    raise ValueError
            except ValueError:
                raise InputError(f"{self.path}, line {line}: {column} is {cell!r}. Remedy: give a number.") from None
        return values

    def pitches(self, column: str) -> np.ndarray:
        """The column as MIDI pitches, -1 where the cell is empty."""
        values = self.numbers(column, empty=-1.0)
        wrong = values != np.floor(values)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            cell = self.columns[column][row]
            raise InputError(f"{self.path}, line {self.lines[row]}: {column} is {cell!r}. Remedy: give a whole MIDI pitch, 0-127.")
        return values.astype(np.int64)


def read_score_csv(path: Path, *, csv_time_unit: str | None = None, csv_ticks_per_quarter: int | None = None) -> Score:
    """Read a score from a note list (see the module's table).

    Args:
        path: the CSV.
        csv_time_unit: "quarters", "ticks" or "seconds"; needed where the header does not say it. Seconds are the SCORE's own, at a nominal
            NOMINAL_SECONDS_PER_QUARTER; times of a performance belong into `read_performed_notes`.
        csv_ticks_per_quarter: needed with "ticks", and only there.

    Raises:
        InputError: the file cannot be read, its header is unknown, its time unit is not known, or a row cannot be.
    """
    table = _read_table(path)
    dialect = _dialect(table, _SCORE_DIALECTS)
    quarters_per_unit = _quarters_per_unit(path, dialect, csv_time_unit, csv_ticks_per_quarter)
    onsets = table.numbers(dialect.start)
    lengths = table.numbers(dialect.duration) if dialect.duration else table.numbers(dialect.end) - onsets
    pitches = table.pitches(dialect.pitch)
    parts = _numbered(table.columns[dialect.part]) if dialect.part in table.columns else np.zeros(len(pitches), dtype=np.int64)
    end = float((onsets + lengths).max(initial=0.0)) * quarters_per_unit
    kept = (pitches >= 0) & (lengths != 0)
    if not kept.any():
        raise InputError(f"{path}: no row is a note. Remedy: give a score that has notes, or leave it out.")
    try:
        return Score(onsets[kept] * quarters_per_unit, lengths[kept] * quarters_per_unit, pitches[kept], parts[kept], end)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_performed_notes_csv(path: Path) -> PerformedNotes:
    """Read performed notes from a note list in seconds (see the module's table; MusicNet's samples are converted).

    Rows of no duration are left out: nothing was heard there.

    Raises:
        InputError: the file cannot be read, its header is unknown, or a row cannot be.
    """
    table = _read_table(path)
    if "pitch" not in table.columns and {"start", "end"} <= set(table.columns):
        raise InputError(f"{path}: note times without pitches. Remedy: join_alignment reads it together with the score notes of its rows.")
    dialect = _dialect(table, _PERFORMED_DIALECTS)
    onsets = table.numbers(dialect.start)
    offsets = table.numbers(dialect.end) if dialect.end else onsets + table.numbers(dialect.duration)
    known = dialect.score_onset in table.columns
    written = table.numbers(dialect.score_onset, empty=np.nan) if known else np.full(len(onsets), np.nan)
    return _performed(path, onsets / dialect.units_per_second, offsets / dialect.units_per_second, table.pitches(dialect.pitch), written)


def join_alignment(
    times_path: Path, notes_path: Path, *, csv_time_unit: str | None = None, csv_ticks_per_quarter: int | None = None
) -> PerformedNotes:
    """Read note times (`start,end` in seconds) whose pitches stand, row by row, in a note list of the score, as in the Bach violin dataset.

    Args:
        times_path: the CSV with the times.
        notes_path: the CSV with the score's notes, as many rows.
        csv_time_unit, csv_ticks_per_quarter: as in `read_score_csv`, for `notes_path`.

    Raises:
        InputError: a file cannot be read, or the rows are not as many.
    """
    times, notes = _read_table(times_path), _read_table(notes_path)
    if not {"start", "end"} <= set(times.columns):
        raise InputError(f"{times_path}: header {','.join(times.columns)!r}. Remedy: give a CSV with the columns start,end.")
    dialect = _dialect(notes, _SCORE_DIALECTS)
    if len(times.lines) != len(notes.lines):
        raise InputError(f"{times_path}: {len(times.lines)} rows, {notes_path}: {len(notes.lines)}. Remedy: give the notes of these times.")
    written = notes.numbers(dialect.start) * _quarters_per_unit(notes_path, dialect, csv_time_unit, csv_ticks_per_quarter)
    return _performed(times_path, times.numbers("start"), times.numbers("end"), notes.pitches(dialect.pitch), written)


def write_score_csv(score: Score, path: str | Path) -> None:
    """Write a score as `onset_quarters,duration_quarters,pitch,part`; `read_score` returns it exactly.

    The last row has no pitch and no duration: it says where the score ends.

    Raises:
        InputError: the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "score.csv"
    >>> score = Score(np.array([0.0]), np.array([1.5]), np.array([60]), np.array([0]), end_quarters=4.0)
    >>> write_score_csv(score, path)
    >>> path.read_text().split()
    ['onset_quarters,duration_quarters,pitch,part', '0.0,1.5,60,0', '4.0,0.0,,']
    """
    rows = zip(*(column.tolist() for column in (score.onsets_quarters, score.durations_quarters, score.pitches, score.parts)), strict=True)
    _write(path, ("onset_quarters", "duration_quarters", "pitch", "part"), [*rows, (score.end_quarters, 0.0, "", "")])


def write_performed_notes_csv(notes: PerformedNotes, path: str | Path) -> None:
    """Write performed notes as `onset_seconds,offset_seconds,pitch,score_onset_quarters`; `read_performed_notes` returns them exactly.

    An unknown score onset is an empty cell.

    Raises:
        InputError: the file cannot be written.
    """
    written = ["" if np.isnan(onset) else onset for onset in notes.score_onsets_quarters.tolist()]
    columns = (notes.onsets_seconds.tolist(), notes.offsets_seconds.tolist(), notes.pitches.tolist(), written)
    _write(path, ("onset_seconds", "offset_seconds", "pitch", "score_onset_quarters"), list(zip(*columns, strict=True)))


def _read_table(path: Path) -> _Table:
    try:
        text = read_bounded(path, MAXIMUM_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8. Remedy: give a CSV of notes, saved as UTF-8.") from None
    first_line = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=";" if first_line.count(";") > first_line.count(",") else ",")
    header: list[str] = []
    rows, lines = [], []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not header:
                header = [cell.lower() for cell in cells]
            elif len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under a header of {len(header)}. Remedy: complete the row."
                )
            else:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}. Remedy: give a CSV of notes.") from None
    if not header:
        raise InputError(f"{path}: empty. Remedy: give a header and one row per note.")
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: repeated column(s) {', '.join(map(repr, repeated))}. Remedy: name every column once.")
    return _Table(path, {name: [row[place] for row in rows] for place, name in enumerate(header)}, lines)


def _dialect(table: _Table, dialects: tuple[_Dialect, ...]) -> _Dialect:
    header = list(table.columns)
    for dialect in dialects:
        if dialect.fits(header):
            return dialect
    if "start_meas" in header:
        raise InputError(f"{table.path}: positions in bars, not in quarter notes. Remedy: read the MusicXML that it was made from.")
    known = "; ".join(f"{dialect.start},{dialect.end or dialect.duration},{dialect.pitch}" for dialect in dialects)
    raise InputError(f"{table.path}: header {','.join(header)[:80]!r} is not known. Remedy: name the columns by one of: {known}.")


def _quarters_per_unit(path: Path, dialect: _Dialect, unit: str | None, ticks_per_quarter: int | None) -> float:
    if unit not in (None, "quarters", "ticks", "seconds"):
        raise InputError(f"csv_time_unit: {unit!r}; give quarters, ticks or seconds.")
    if dialect.unit and unit not in (None, dialect.unit):
        raise InputError(
            f"{path}: csv_time_unit is {unit!r}, but {dialect.start!r} counts {dialect.unit}. Remedy: leave csv_time_unit out."
        )
    unit = unit or dialect.unit
    if not unit:
        raise InputError(
            f"{path}: its header does not say what its times count. Remedy: give csv_time_unit=quarters, "
            "csv_time_unit=ticks with csv_ticks_per_quarter=..., or csv_time_unit=seconds (the score's own, not the recording's)."
        )
    if (unit == "ticks") != (ticks_per_quarter is not None):
        raise InputError(f"{path}: csv_time_unit is {unit!r}, csv_ticks_per_quarter {ticks_per_quarter}. Remedy: give both, or neither.")
    if ticks_per_quarter is not None and ticks_per_quarter < 1:
        raise InputError(f"csv_ticks_per_quarter: {ticks_per_quarter}; at least 1 is needed.")
    return {"quarters": 1.0, "ticks": 1 / (ticks_per_quarter or 1), "seconds": 1 / NOMINAL_SECONDS_PER_QUARTER}[unit]


def _numbered(names: list[str]) -> np.ndarray:
    """Part numbers: as they stand if all are whole numbers, else names counted in the order of their first note."""
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in names if name):
        return np.array([int(name or 0) for name in names], dtype=np.int64)
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], dtype=np.int64)


def _performed(path: Path, onsets: np.ndarray, offsets: np.ndarray, pitches: np.ndarray, written: np.ndarray) -> PerformedNotes:
    kept = offsets != onsets
    try:
        return PerformedNotes(onsets[kept], offsets[kept], pitches[kept], written[kept])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _write(path: str | Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
