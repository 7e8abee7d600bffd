"""Evaluation of a trained run on held-out recordings, frame by frame, note by note, and of its alignments."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from softscribe.alignment import bce_cost
from softscribe.corpora import FeatureStore, PreparedRecording, corpus_fingerprint
from softscribe.errors import InputError, concerning
from softscribe.evaluation import (
    aligned_onsets,
    alignment_measures,
    chroma_baseline,
    frame_measures,
    multipitch_measures,
    note_measures,
    true_target_onsets,
    tune_threshold,
    write_report,
)
from softscribe.health import estimate_time_shift, onset_strength, rises
from softscribe.models import load_model
from softscribe.report import write_run_report
from softscribe.scores import strong_targets
from softscribe.sound import HcqtSettings
from softscribe.training.losses import AligningLoss, aligning, create_loss
from softscribe.training.segments import AnnotatedSegment, TargetSettings, annotated_segments
from softscribe.training.settings import TrainSettings
from softscribe.transcription import decode_notes, predict

SMALLEST_ACTIVATION = 1e-6
"""Activations are aligned as logits; nearer to 0 or 1 than this they tell no more, being rounded to 6e-8."""


def recording_truth(prepared: PreparedRecording, outputs: int) -> Bool[np.ndarray, "frames outputs"]:
    """Return the frame-wise truth of a whole recording."""
    truth = prepared.recording.truth
    if truth is None:
        raise InputError(f"{prepared.recording.name}: no truth is known. Remedy: add a truth file to the corpus and prepare it again.")
    return strong_targets(truth, len(prepared.features), prepared.frames_per_second, outputs).astype(bool)


def evaluate(settings: TrainSettings, folder: Path, *, split: str = "test", threshold: float | None = None) -> dict[str, Any]:
    """Evaluate the model of a run on a split; write `metrics.json` into its folder (other splits: `evaluation/SPLIT/`), and a table as CSV.

    The run's report.html is written anew.

    Args:
        settings: those of the run.
        folder: the run's folder, with model/.
        split: which recordings; only those whose truth is known count.
        threshold: instead of the model's own.

    Returns:
        The means over recordings, as in `metrics.json`.

    Raises:
        InputError: the model, the corpus or the truth is missing.
    """
    model, card = load_model(folder / "model")
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    if corpus_fingerprint(prepared.recording for prepared in recordings) != card["data"].get("corpus_fingerprint"):
        raise InputError(
            f"{settings.store}: prepared anew since this run, with other pieces, splits or segments: test pieces may be trained on. "
            "Remedy: prepare the corpus as before, or train again."
        )
    chosen = [prepared for prepared in recordings if prepared.recording.split == split and prepared.recording.truth is not None]
    if not chosen:
        raise InputError(
            f"split={split}: no recording in it has a truth file. Remedy: add truth files, or another split, and prepare again."
        )
    # The run's own figures are those of the test pieces at the model's threshold; whatever else is asked for lies beside them.
    report_folder = folder if split == "test" and threshold is None else folder / "evaluation" / split
    threshold = card["threshold"] if threshold is None else threshold
    baseline_threshold = _baseline_threshold(recordings, card["outputs"], features)
    rows, predicted = [], {}
    for prepared in chosen:
        truth = recording_truth(prepared, card["outputs"])
        with concerning(prepared.features_path):
            activations = predict(model, prepared.features, time_shift_frames=card["time_shift_frames"])
        predicted[prepared.recording.name] = activations
        row: dict[str, Any] = {"file": prepared.recording.name}
        row |= frame_measures(activations, truth, threshold)
        row |= multipitch_measures(activations >= threshold, truth, prepared.frames_per_second)
        if card["outputs"] == 72 and prepared.recording.truth is not None:
            notes = decode_notes(activations, threshold, prepared.frames_per_second)
            row |= note_measures(notes.as_performed(), prepared.recording.truth)
        baseline = chroma_baseline(prepared.features, card["outputs"], features)
        row["baseline_frame_f_measure"] = frame_measures(baseline, truth, baseline_threshold)["frame_f_measure"]
        rows.append(row)
    summary: dict[str, Any] = {"split": split, "outputs": card["outputs"], "threshold": threshold} | {
        f"training_{name}": value for name, value in card["data"].items()
    }
    summary |= alignment_error(predicted, settings, annotated_segments(chosen, split))
    summary |= time_shift_measures(predicted, chosen, features, card["outputs"])
    report = write_report(rows, summary, report_folder)
    write_run_report(folder)
    return report


def alignment_error(
    predicted: Mapping[str, Float[np.ndarray, "_ outputs"]], settings: TrainSettings, segments: list[AnnotatedSegment]
) -> dict[str, float]:
    """Align the activations of recordings, given by name, with the segments' targets and compare the onsets with those performed.

    The alignment is the one that training ends with: the final gamma and step weights, with a prior if one stays. A run that was trained
    without alignment (`static`, `strong`) is measured with 1-1-2 weights and gamma 1.
    """
    loss = aligning(create_loss(settings.loss))
    estimated, true = [], []
    for segment in segments:
        truth = segment.prepared.recording.truth
        if truth is None:
            continue
        found, unique_onsets = align_segment(predicted[segment.prepared.recording.name], segment, settings.targets, loss)
        estimated.append(found + segment.first_frame / segment.prepared.frames_per_second)
        true.append(true_target_onsets(unique_onsets, segment.segment.score_start_quarters, truth))
    return alignment_measures(np.concatenate(estimated), np.concatenate(true)) if estimated else {}


def align_segment(
    activations: Float[np.ndarray, "frames outputs"], segment: AnnotatedSegment, targets: TargetSettings, loss: AligningLoss
) -> tuple[Float[np.ndarray, " targets"], Float[np.ndarray, " targets"]]:
    """Return when each unique target of a segment begins, in seconds from the segment's start, and where it is written, in quarters.

    The activations are those of the whole recording. Where the segment ends behind them, by a rounding error, their last row is held.
    """
    unique = segment.unique(targets)
    row_targets = segment.target_of_row(targets)
    inside = np.minimum(segment.first_frame + np.arange(segment.frame_count), len(activations) - 1)
    with torch.inference_mode():
        logits = torch.logit(torch.from_numpy(activations[inside]), eps=SMALLEST_ACTIVATION)
        cost = bce_cost(logits[None], torch.from_numpy(unique.values[row_targets])[None].float())
        expected = loss.final_alignment(cost, *(torch.tensor([length]) for length in cost.shape[1:]))
    onsets = aligned_onsets(expected[0].numpy(), row_targets, segment.prepared.frames_per_second)
    return onsets, unique.onsets_quarters


def time_shift_measures(
    predicted: Mapping[str, Float[np.ndarray, "_ outputs"]], recordings: list[PreparedRecording], features: HcqtSettings, outputs: int
) -> dict[str, float | None]:
    """Return how late activations are, in ms, as the recordings themselves tell and as the truth does; None where nothing rises."""
    pairs = [(prepared, rises(predicted[prepared.recording.name])) for prepared in recordings]
    references = {
        "time_shift_ms": [onset_strength(prepared.features, features) for prepared, _ in pairs],
        "true_time_shift_ms": [rises(recording_truth(prepared, outputs)) for prepared, _ in pairs],
    }
    measured: dict[str, float | None] = {}
    for name, curves in references.items():
        frames = estimate_time_shift(curves, [rising for _, rising in pairs], features.frames_per_second).frames
        measured[name] = None if math.isnan(frames) else 1000 * frames / features.frames_per_second
    return measured


def _baseline_threshold(recordings: list[PreparedRecording], outputs: int, features: HcqtSettings) -> float:
    validation = [prepared for prepared in recordings if prepared.recording.split == "validation" and prepared.recording.truth is not None]
    if not validation:
        return 0.5
    return tune_threshold(
        [(chroma_baseline(prepared.features, outputs, features), recording_truth(prepared, outputs)) for prepared in validation]
    )
