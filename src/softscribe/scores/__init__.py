"""What was written: scores read into notes in quarter notes, and the target sequences made of them."""

from softscribe.scores.notes import PerformedNotes, Score
from softscribe.scores.targets import (
    UniqueTargets,
    stretched_by_score_index,
    stretched_index,
    strong_targets,
    transpose_targets,
    unique_targets,
)

__all__ = [
    "PerformedNotes",
    "Score",
    "UniqueTargets",
    "stretched_by_score_index",
    "stretched_index",
    "strong_targets",
    "transpose_targets",
    "unique_targets",
]
