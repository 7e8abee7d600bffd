"""Measures of a transcription: frame by frame, and note by note. All lie in [0, 1] except mir_eval's error scores, which may exceed 1.

Where a measure would divide by zero (nothing true, or nothing found) it is 0, as in mir_eval, scikit-learn and libfmp. None is ever NaN.
"""

import warnings
from collections.abc import Sequence

import mir_eval
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes

Activations = Float[np.ndarray, "frames outputs"]
Truth = Bool[np.ndarray, "frames outputs"] | UInt8[np.ndarray, "frames outputs"]

THRESHOLDS = np.arange(1, 100) / 100
"""The grid on which `tune_threshold` searches."""
ONSET_TOLERANCE_SECONDS = 0.05
OFFSET_TOLERANCE_RATIO = 0.2
"""An offset may err by this share of the true note's length, or by 50 ms if that is more."""
_LOWEST_PITCH, _PITCHES = 24, 72
_FIRST_PITCH_OF_CLASSES = 60
_SILENT_NORM = 1e-10


def frame_measures(activations: Activations, truth: Truth, threshold: float) -> dict[str, float]:
    """Compare a model's activations with the frame-wise truth; all cells of a file, frames x outputs, are counted together.

    Args:
        activations: in [0, 1]. Shape: (N, K)
        truth: True or 1 where an output sounds. Shape: (N, K)
        threshold: an output is found where its activation is at least this, in [0, 1].

    Returns:
        frame_precision, frame_recall, frame_f_measure: of the found cells.
        frame_average_precision: the area under the precision-recall steps over all thresholds (scikit-learn's definition).
        frame_cosine_similarity: the mean over frames of the cosine between activations and truth; a silent frame counts as a frame of
            equal values, as in libfmp, so that silence on both sides gives 1 and silence against one of 12 outputs gives 0.29.
        frame_accuracy: the share of cells whose decision is right. Most cells are silent: finding nothing scores high.

    Raises:
        InputError: shapes differ, there is no frame, or a value is out of range.

    >>> measures = frame_measures(np.array([[0.9, 0.6], [0.2, 0.7]]), np.array([[True, False], [False, True]]), threshold=0.5)
    >>> {name: round(value, 3) for name, value in measures.items() if name != "frame_cosine_similarity"}
    {'frame_precision': 0.667, 'frame_recall': 1.0, 'frame_f_measure': 0.8, 'frame_average_precision': 1.0, 'frame_accuracy': 0.75}
    """
    sounding = _checked(activations, truth)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: {threshold}. Remedy: give a number from 0 to 1.")
    found = activations >= threshold
    hits = int((found & sounding).sum())
    precision, recall, f_measure = _precision_recall_f(hits, int(found.sum()), int(sounding.sum()))
    return {
        "frame_precision": precision,
        "frame_recall": recall,
        "frame_f_measure": f_measure,
        "frame_average_precision": _average_precision(activations.ravel(), sounding.ravel()),
        "frame_cosine_similarity": float((_unit_frames(activations) * _unit_frames(sounding)).sum(axis=1).mean()),
        "frame_accuracy": float((found == sounding).mean()),
    }


def multipitch_measures(found: Truth, truth: Truth, frames_per_second: float) -> dict[str, float]:
    """Return all measures of `mir_eval.multipitch` (precision, recall, accuracy, error scores, and the same with octaves forgiven).

    72 outputs are the pitches MIDI 24-95. 12 outputs are pitch classes, set as the pitches of one octave, MIDI 60-71: there the
    `chroma` measures equal the others. Keys are mir_eval's names, as in `multipitch_accuracy`, `multipitch_chroma_miss_error`.

    Raises:
        InputError: shapes differ, there is no frame, or there are neither 12 nor 72 outputs.

    >>> truth = np.zeros((2, 12), bool)
    >>> truth[:, [0, 4]] = True
    >>> found = truth.copy()
    >>> found[0, 4] = False
    >>> multipitch_measures(found, truth, 43.07)["multipitch_accuracy"]
    0.75
    """
    estimated, true = _checked_truth(found, "found"), _checked_truth(truth, "truth")
    _check_shapes(found, truth)
    if truth.shape[1] not in (12, _PITCHES):
        raise InputError(f"truth: {truth.shape[1]} outputs. Remedy: give 12 (pitch classes) or 72 (MIDI 24-95).")
    lowest = _LOWEST_PITCH if truth.shape[1] == _PITCHES else _FIRST_PITCH_OF_CLASSES
    hertz = mir_eval.util.midi_to_hz(lowest + np.arange(truth.shape[1]))
    times = np.arange(len(truth)) / frames_per_second
    with warnings.catch_warnings():
        # mir_eval warns of a file without any note, true or found, and then returns the zeros that this module promises.
        warnings.filterwarnings("ignore", message="(Reference|Estimate) frequencies are all empty", category=UserWarning)
        scores = mir_eval.multipitch.evaluate(times, [hertz[row] for row in true], times, [hertz[row] for row in estimated])
    return {f"multipitch_{name.lower().replace(' ', '_')}": float(score) for name, score in scores.items()}


def note_measures(estimated: PerformedNotes, true: PerformedNotes) -> dict[str, float]:
    """Compare decoded notes with those performed, by `mir_eval.transcription`. Only pitches that 72 outputs know (MIDI 24-95) count.

    Returns:
        note_precision, note_recall, note_f_measure: a note is right if its pitch is and its onset is within 50 ms.
        note_with_offset_precision, ..._recall, ..._f_measure: its offset besides, within 50 ms or a fifth of its true length.

    >>> true = PerformedNotes(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([60, 64]), np.array([np.nan, np.nan]))
    >>> early = PerformedNotes(np.array([0.03, 0.9]), np.array([0.5, 2.0]), np.array([60, 64]), np.array([np.nan, np.nan]))
    >>> note_measures(early, true)["note_f_measure"], note_measures(early, true)["note_with_offset_f_measure"]
    (0.5, 0.0)
    """
    estimated_intervals, estimated_hertz = _intervals_and_hertz(estimated)
    true_intervals, true_hertz = _intervals_and_hertz(true)
    measures: dict[str, float] = {}
    for prefix, offset_ratio in (("note", None), ("note_with_offset", OFFSET_TOLERANCE_RATIO)):
        hits = 0
        if len(true_hertz) and len(estimated_hertz):
            matches = mir_eval.transcription.match_notes(
                true_intervals,
                true_hertz,
                estimated_intervals,
                estimated_hertz,
                onset_tolerance=ONSET_TOLERANCE_SECONDS,
                offset_ratio=offset_ratio,
            )
            hits = len(matches)
        scores = _precision_recall_f(hits, len(estimated_hertz), len(true_hertz))
        measures |= {f"{prefix}_{name}": score for name, score in zip(("precision", "recall", "f_measure"), scores, strict=True)}
    return measures


def tune_threshold(files: Sequence[tuple[Float[np.ndarray, "_ _"], Shaped[np.ndarray, "_ _"]]]) -> float:
    """Return the threshold 0.01, 0.02, ... 0.99 with the highest mean of the files' frame F-measures; of equal ones that nearest to 0.5.

    `files` holds activations and truth, each of shape (frames, outputs), of recordings other than those that are evaluated with the
    threshold: validation pieces.

    Raises:
        InputError: there is no file, or one is as `frame_measures` refuses it.

    >>> tune_threshold([(np.array([[0.3], [0.6], [0.8]]), np.array([[False], [False], [True]]))])
    0.61
    """
    if not files:
        raise InputError("tune_threshold: no files. Remedy: give at least one recording with a known truth for validation.")
    total = np.zeros(len(THRESHOLDS))
    for activations, truth in files:
        sounding = _checked(activations, truth)
        # How many thresholds each cell passes, so that one count of cells serves all thresholds. The grid takes the activations' own
        # precision, as it does when they are compared with a single number.
        passed = np.searchsorted(THRESHOLDS.astype(activations.dtype), activations.ravel(), side="right")
        found = np.bincount(passed, minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:]
        hits = np.bincount(passed[sounding.ravel()], minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:]
        total += 2 * hits / np.maximum(found + sounding.sum(), 1)
    best = np.flatnonzero(total >= total.max() - 1e-12)
    return float(THRESHOLDS[best[np.abs(THRESHOLDS[best] - 0.5).argmin()]])


def _precision_recall_f(hits: int, found: int, true: int) -> tuple[float, float, float]:
    return hits / max(found, 1), hits / max(true, 1), 2 * hits / max(found + true, 1)


def _average_precision(scores: Float[np.ndarray, " cells"], sounding: Bool[np.ndarray, " cells"]) -> float:
    """Sum of (recall step) x (precision) over falling thresholds, equal scores in one step."""
    if not sounding.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(sounding[order])[last_of_equals]
    precisions = hits / (last_of_equals + 1)
    return float((np.diff(hits, prepend=0) * precisions).sum() / hits[-1])


def _unit_frames(values: Shaped[np.ndarray, "frames outputs"]) -> Float[np.ndarray, "frames outputs"]:
    rows = values.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    silent = norms < _SILENT_NORM
    units: Float[np.ndarray, "frames outputs"] = np.where(silent, rows.shape[1] ** -0.5, rows / np.where(silent, 1, norms))
    return units


def _intervals_and_hertz(notes: PerformedNotes) -> tuple[Float[np.ndarray, "notes 2"], Float[np.ndarray, " notes"]]:
    known = (notes.pitches >= _LOWEST_PITCH) & (notes.pitches < _LOWEST_PITCH + _PITCHES)
    intervals = np.stack([notes.onsets_seconds, notes.offsets_seconds], axis=1)[known]
    return intervals, mir_eval.util.midi_to_hz(notes.pitches[known])


def _checked(activations: Activations, truth: Truth) -> Bool[np.ndarray, "frames outputs"]:
    _check_shapes(activations, truth)
    # Written this way round because NaN compares false with everything.
    if not (activations.min() >= 0 and activations.max() <= 1):
        raise InputError(f"activations: {activations.min()} to {activations.max()}. Remedy: give values in [0, 1], not logits.")
    return _checked_truth(truth, "truth")


def _check_shapes(values: Shaped[np.ndarray, "..."], truth: Truth) -> None:
    if values.shape != truth.shape or not truth.size:
        raise InputError(f"shapes {values.shape} and {truth.shape} (truth). Remedy: give equal frames and outputs, at least one of each.")


def _checked_truth(values: Truth, name: str) -> Bool[np.ndarray, "frames outputs"]:
    if values.size and values.max() > 1:
        raise InputError(f"{name}: holds {values.max()}. Remedy: give True and False, or 1 and 0.")
    return values.astype(bool)
