"""What was written: scores read into notes in quarter notes, and the target sequences made of them."""

from softscribe.scores.note_csv import join_alignment, write_performed_notes_csv, write_score_csv
from softscribe.scores.notes import PerformedNotes, Score
from softscribe.scores.published import published_stretched, published_strong, published_unique
from softscribe.scores.reading import SCORE_SUFFIXES, read_performed_notes, read_score
from softscribe.scores.targets import (
    UniqueTargets,
    stretched_by_score_index,
    stretched_index,
    strong_targets,
    transpose_targets,
    unique_targets,
)

__all__ = [
    "SCORE_SUFFIXES",
    "PerformedNotes",
    "Score",
    "UniqueTargets",
    "join_alignment",
    "published_stretched",
    "published_strong",
    "published_unique",
    "read_performed_notes",
    "read_score",
    "stretched_by_score_index",
    "stretched_index",
    "strong_targets",
    "transpose_targets",
    "unique_targets",
    "write_performed_notes_csv",
    "write_score_csv",
]
