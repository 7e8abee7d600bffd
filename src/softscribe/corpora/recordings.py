"""What a corpus consists of: recordings, each with the segments in which its score is known to sound."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from softscribe.errors import InputError
from softscribe.scores.notes import PerformedNotes, Score

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_SAFE_NAME = re.compile(r"[\w+,=()'-][\w+,=()'. -]*(?<! )")


def safe_name(text: str) -> str:
    """Turn `text` into a name that is a file name everywhere: letters, digits and `_+,=()'.- ` stay, anything else becomes `_`.

    >>> safe_name("Op. 10/3: Étude")
    'Op. 10_3_ Étude'
    """
    cleaned = re.sub(r"[^\w+,=()'. -]", "_", text).strip().lstrip(".")
    return cleaned[:180].rstrip() or "_"


@dataclass(frozen=True)
class Refusal:
    """A file, or a part of one, that does not enter the corpus, and why (with the remedy)."""

    file: Path
    reason: str


@dataclass(frozen=True)
class Segment:
    """The unit of weak supervision: a stretch of a recording and the notes written for it. Only its two ends are known.

    Attributes:
        name: unique in the recording.
        start_seconds, end_seconds: where it lies in the recording, 0 <= start < end.
        score_start_quarters: where it begins in the whole score, in quarter notes.
        score: its notes, in quarter notes from its own start.

    Raises:
        InputError: a time is not finite or negative, or the segment or its score has no length.
    """

    name: str
    start_seconds: float
    end_seconds: float
    score_start_quarters: float
    score: Score

    def __post_init__(self) -> None:
        times = (self.start_seconds, self.end_seconds, self.score_start_quarters, self.score.end_quarters)
        if not all(map(math.isfinite, times)):
            raise InputError(f"segment {self.name!r}: times {times} are not all finite. Remedy: give numbers.")
        if not 0 <= self.start_seconds < self.end_seconds:
            raise InputError(
                f"segment {self.name!r}: from {self.start_seconds:g} s to {self.end_seconds:g} s. Remedy: 0 <= start < end is needed."
            )
        if self.score_start_quarters < 0 or self.score.end_quarters <= 0:
            raise InputError(
                f"segment {self.name!r}: {self.score.end_quarters:g} quarters of score from quarter {self.score_start_quarters:g}. "
                "Remedy: it needs a start of at least 0 and a length above 0."
            )


@dataclass(frozen=True)
class Recording:
    """A recording, its score, and the segments that tie them.

    Attributes:
        name: unique in the corpus, and a file name (see `safe_name`): the feature store files it under this name.
        audio_path: the sound file.
        score_path: the score file; recordings of the same piece share it, and the splits keep them together.
        split: "train", "validation" or "test".
        segments: at least one, in order of their starts, with distinct names.
        truth: the notes as performed, where known: for evaluation and the strong baseline only.
        whole: the whole music with the whole score, of which a coarse alignment cut the segments; None if they were given. The parts that
            it was not sure of lie in no segment, so that only here a wrong score or repeat can show.

    Raises:
        InputError: the name is no file name, the split is unknown, or segments are missing, unordered or named alike.
    """

    name: str
    audio_path: Path
    score_path: Path
    split: Split
    segments: tuple[Segment, ...]
    truth: PerformedNotes | None = None
    whole: Segment | None = None

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name):
            raise InputError(f"recording {self.name!r}: the name is no safe file name. Remedy: {safe_name(self.name)!r}.")
        if self.split not in SPLITS:
            raise InputError(f"recording {self.name!r}: split {self.split!r} is unknown. Remedy: one of {', '.join(SPLITS)}.")
        if not self.segments:
            raise InputError(f"recording {self.name!r}: has no segment. Remedy: give at least one, or leave the recording out.")
        starts = [segment.start_seconds for segment in self.segments]
        if starts != sorted(starts):
            raise InputError(f"recording {self.name!r}: its segments are not in order of time. Remedy: sort them by start.")
        if len({segment.name for segment in self.judged}) < len(self.judged):
            raise InputError(f"recording {self.name!r}: two of its segments have the same name. Remedy: number them.")

    @property
    def judged(self) -> tuple[Segment, ...]:
        """The segments, and the whole that they were cut of, if they were."""
        return self.segments if self.whole is None else (*self.segments, self.whole)

    @property
    def annotated_seconds(self) -> float:
        """How much of the recording lies in segments."""
        return sum(segment.end_seconds - segment.start_seconds for segment in self.segments)

    @property
    def anchor_count(self) -> int:
        """How many distinct instants (segment ends) tie the recording to its score: a boundary that two segments share counts once."""
        return len({round(time, 3) for segment in self.segments for time in (segment.start_seconds, segment.end_seconds)})


def corpus_fingerprint(recordings: Iterable[Recording]) -> str:
    """Return a hash of what a model learns from and is tested on: names, splits, and where the segments lie. A run compares it later on."""
    rows = [
        [recording.name, recording.split]
        + [[segment.start_seconds, segment.end_seconds, segment.score_start_quarters, len(segment.score)] for segment in recording.segments]
        for recording in sorted(recordings, key=lambda recording: recording.name)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
