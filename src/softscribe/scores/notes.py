"""Notes: as written, in quarter notes, and as performed, in seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from softscribe.errors import InputError

#: Score times closer than this are the same time: far below the finest MIDI tick (1/960 quarter), far above rounding errors.
SAME_TIME_QUARTERS = 1e-5


@dataclass(frozen=True, eq=False)
class Score:
    """The notes of a score (or of a part of one), sorted by onset, then pitch, then part; times in quarter notes from its start.

    Attributes:
        onsets_quarters: when each note begins, >= 0. Shape: (notes,)
        durations_quarters: its written length with ties merged, > 0. Shape: (notes,)
        pitches: its sounding MIDI pitch, 0-127. Shape: (notes,)
        parts: the part (staff, instrument, MIDI channel) that plays it, from 0. Shape: (notes,)
        end_quarters: where the score ends, rests at its end included; > 0 and not before the end of its last note.

    Raises:
        InputError: one of the ranges above is left, or the arrays differ in length.

    >>> score = Score(np.array([1.0, 0.0]), np.array([1.0, 2.0]), np.array([64, 60]), np.array([0, 0]), end_quarters=4.0)
    >>> score.pitches.tolist(), len(score)
    ([60, 64], 2)
    """

    onsets_quarters: Float[np.ndarray, " notes"]
    durations_quarters: Float[np.ndarray, " notes"]
    pitches: Int[np.ndarray, " notes"]
    parts: Int[np.ndarray, " notes"]
    end_quarters: float

    def __post_init__(self) -> None:
        onsets = _column("onsets_quarters", self.onsets_quarters, np.float64)
        durations = _column("durations_quarters", self.durations_quarters, np.float64)
        pitches = _column("pitches", self.pitches, np.int64)
        parts = _column("parts", self.parts, np.int64)
        end = float(self.end_quarters)
        _same_length(onsets_quarters=onsets, durations_quarters=durations, pitches=pitches, parts=parts)
        _refuse("onsets_quarters", onsets, onsets < 0, "a note begins at or after 0")
        _refuse("durations_quarters", durations, durations <= 0, "a note lasts longer than 0")
        _refuse("pitches", pitches, (pitches < 0) | (pitches > 127), "a MIDI pitch lies in 0-127")
        _refuse("parts", parts, parts < 0, "parts are numbered from 0")
        if not (np.isfinite(end) and end > 0):
            raise InputError(f"end_quarters: {end}; a score ends after 0. Remedy: give where its last bar ends, in quarter notes.")
        last_offset = float((onsets + durations).max(initial=0.0))
        if last_offset > end + SAME_TIME_QUARTERS:
            raise InputError(f"end_quarters: {end:g}, but a note sounds until {last_offset:g}. Remedy: end the score with its last note.")
        order = np.lexsort((parts, pitches, onsets))
        for column, values in zip(fields(self), (onsets, durations, pitches, parts), strict=False):
            object.__setattr__(self, column.name, values[order])
        object.__setattr__(self, "end_quarters", end)

    def __len__(self) -> int:
        """How many notes there are."""
        return len(self.pitches)

    def __eq__(self, other: object) -> bool:
        """True if every note and the end agree exactly."""
        return isinstance(other, Score) and _same_values(self, other)

    __hash__ = None  # type: ignore[assignment]

    def between(self, start_quarters: float, end_quarters: float) -> Score:
        """Return what sounds in [start_quarters, end_quarters), cut off at both ends; its times count from `start_quarters`.

        A note that rings into the section begins at its start: what is heard there, not what is struck there.

        Raises:
            InputError: the section is empty or leaves the score.

        >>> score = Score(np.array([0.0, 2.0]), np.array([2.0, 2.0]), np.array([60, 64]), np.array([0, 0]), end_quarters=4.0)
        >>> section = score.between(1.0, 3.0)
        >>> section.onsets_quarters.tolist(), section.durations_quarters.tolist(), section.end_quarters
        ([0.0, 1.0], [1.0, 1.0], 2.0)
        """
        if not -SAME_TIME_QUARTERS <= start_quarters < end_quarters <= self.end_quarters + SAME_TIME_QUARTERS:
            raise InputError(
                f"section {start_quarters:g} to {end_quarters:g} quarter notes: the score goes from 0 to {self.end_quarters:g}. "
                "Remedy: choose a start before its end, both inside the score."
            )
        onsets = np.maximum(self.onsets_quarters, start_quarters)
        offsets = np.minimum(self.onsets_quarters + self.durations_quarters, end_quarters)
        sounding = offsets - onsets > SAME_TIME_QUARTERS
        onsets, offsets = onsets[sounding], offsets[sounding]
        return Score(
            np.maximum(onsets - start_quarters, 0.0),
            offsets - onsets,
            self.pitches[sounding],
            self.parts[sounding],
            float(end_quarters - start_quarters),
        )

    def transposed(self, semitones: int) -> Score:
        """Return the score `semitones` higher (lower if negative).

        Raises:
            InputError: a pitch would leave 0-127.

        >>> score = Score(np.array([0.0]), np.array([1.0]), np.array([60]), np.array([0]), end_quarters=1.0)
        >>> score.transposed(-2).pitches.tolist()
        [58]
        """
        pitches = self.pitches + semitones
        _refuse("semitones", pitches, (pitches < 0) | (pitches > 127), f"transposed by {semitones}, a pitch leaves 0-127")
        return Score(self.onsets_quarters, self.durations_quarters, pitches, self.parts, self.end_quarters)


@dataclass(frozen=True, eq=False)
class PerformedNotes:
    """The notes of a performance, sorted by onset, then pitch: what is known for evaluation and for strong baselines.

    Attributes:
        onsets_seconds, offsets_seconds: when each note begins (>= 0) and ends (later), from the start of the recording. Shape: (notes,)
        pitches: MIDI pitch, 0-127. Shape: (notes,)
        score_onsets_quarters: where the score writes its onset, NaN where that is not known. Shape: (notes,)

    Raises:
        InputError: one of the ranges above is left, or the arrays differ in length.

    >>> notes = PerformedNotes(np.array([0.5]), np.array([1.5]), np.array([60]), np.array([np.nan]))
    >>> len(notes)
    1
    """

    onsets_seconds: Float[np.ndarray, " notes"]
    offsets_seconds: Float[np.ndarray, " notes"]
    pitches: Int[np.ndarray, " notes"]
    score_onsets_quarters: Float[np.ndarray, " notes"]

    def __post_init__(self) -> None:
        onsets = _column("onsets_seconds", self.onsets_seconds, np.float64)
        offsets = _column("offsets_seconds", self.offsets_seconds, np.float64)
        pitches = _column("pitches", self.pitches, np.int64)
        written = _column("score_onsets_quarters", self.score_onsets_quarters, np.float64, allow_nan=True)
        _same_length(onsets_seconds=onsets, offsets_seconds=offsets, pitches=pitches, score_onsets_quarters=written)
        _refuse("onsets_seconds", onsets, onsets < 0, "a note begins at or after 0")
        _refuse("offsets_seconds", offsets, offsets <= onsets, "a note ends after its onset")
        _refuse("pitches", pitches, (pitches < 0) | (pitches > 127), "a MIDI pitch lies in 0-127")
        order = np.lexsort((offsets, pitches, onsets))
        for column, values in zip(fields(self), (onsets, offsets, pitches, written), strict=True):
            object.__setattr__(self, column.name, values[order])

    def __len__(self) -> int:
        """How many notes there are."""
        return len(self.pitches)

    def __eq__(self, other: object) -> bool:
        """True if every note agrees exactly; an unknown score onset equals an unknown one."""
        return isinstance(other, PerformedNotes) and _same_values(self, other)

    __hash__ = None  # type: ignore[assignment]

    def between_seconds(self, start_seconds: float, end_seconds: float) -> PerformedNotes:
        """Return what sounds in [start_seconds, end_seconds), cut off at both ends; its times count from `start_seconds`.

        Score onsets stay as they are, counted from the start of the whole score.

        Raises:
            InputError: the section is empty or begins before 0.

        >>> notes = PerformedNotes(np.array([0.5]), np.array([1.5]), np.array([60]), np.array([0.0]))
        >>> section = notes.between_seconds(1.0, 3.0)
        >>> section.onsets_seconds.tolist(), section.offsets_seconds.tolist()
        ([0.0], [0.5])
        """
        if not 0 <= start_seconds < end_seconds:
            raise InputError(f"section {start_seconds:g} to {end_seconds:g} s: it must begin at or after 0 and end later.")
        onsets = np.maximum(self.onsets_seconds, start_seconds) - start_seconds
        offsets = np.minimum(self.offsets_seconds, end_seconds) - start_seconds
        sounding = offsets > onsets
        return PerformedNotes(onsets[sounding], offsets[sounding], self.pitches[sounding], self.score_onsets_quarters[sounding])


def _column(name: str, values: np.ndarray, dtype: type, allow_nan: bool = False) -> np.ndarray:
    """A one-dimensional copy of `values` in `dtype`, refused where it is not finite or would be rounded."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise InputError(f"{name}: shape {given.shape}. Remedy: give one value per note, shape (notes,).")
    if given.size and given.dtype.kind not in ("iuf" if dtype is np.float64 else "iu"):
        raise InputError(f"{name}: dtype {given.dtype}. Remedy: give {'numbers' if dtype is np.float64 else 'whole numbers'}.")
    column: np.ndarray = given.astype(dtype)
    if dtype is np.float64 and not allow_nan:
        _refuse(name, column, ~np.isfinite(column), "finite values are needed")
    return column


def _same_length(**columns: np.ndarray) -> None:
    if len({len(column) for column in columns.values()}) > 1:
        counts = ", ".join(f"{name}: {len(column)}" for name, column in columns.items())
        raise InputError(f"{counts} values. Remedy: give as many of each.")


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, rule: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{name}: note {first} has {values[first]:g}; {rule}. "
            f"Remedy: correct or remove it ({int(wrong.sum())} of {len(values)} notes are wrong)."
        )


def _same_values(first: Score | PerformedNotes, second: Score | PerformedNotes) -> bool:
    names = [column.name for column in fields(first)]
    return all(np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "score_onsets_quarters") for name in names)
