"""How good a transcription and an alignment are: measures, a baseline without learning, tables. Definitions: docs/conventions.md."""

from softscribe.evaluation.alignment import aligned_onsets, alignment_measures, true_target_onsets
from softscribe.evaluation.chroma_baseline import chroma_baseline
from softscribe.evaluation.metrics import frame_measures, multipitch_measures, note_measures, tune_threshold
from softscribe.evaluation.report import report_table, write_report

__all__ = [
    "aligned_onsets",
    "alignment_measures",
    "chroma_baseline",
    "frame_measures",
    "multipitch_measures",
    "note_measures",
    "report_table",
    "true_target_onsets",
    "tune_threshold",
    "write_report",
]
