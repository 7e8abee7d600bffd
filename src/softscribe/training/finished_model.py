"""The model that a run leaves behind: the best of its weights, with the threshold and the time shift that its validation pieces tell."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from softscribe.corpora import PreparedRecording, corpus_fingerprint
from softscribe.errors import concerning
from softscribe.evaluation import tune_threshold
from softscribe.health import Verdict, estimate_time_shift, onset_strength, rises
from softscribe.models import save_model
from softscribe.sound import HcqtSettings
from softscribe.training.checkpoints import BEST, load_weights
from softscribe.training.evaluate import recording_truth
from softscribe.training.exclusion import without_excluded
from softscribe.training.settings import TrainSettings
from softscribe.transcription import predict, shift_back

DEFAULT_THRESHOLD = 0.5


def write_model(
    settings: TrainSettings, model: nn.Module, recordings: list[PreparedRecording], folder: Path, *, excluded: Sequence[Verdict] = ()
) -> Path:
    """Write the model of the lowest validation cost, with its time shift and threshold from the validation pieces, as `folder`/model.

    `recordings` are the whole corpus, by which an evaluation knows it again; its `excluded` pairs do not count as trained on.
    """
    best = folder / "checkpoints" / BEST
    if best.exists():
        load_weights(best, model)
    else:
        print(f"model: the last weights, for there is no {BEST}.")
    features, outputs = HcqtSettings.from_dict(settings.features), settings.targets.outputs
    predicted, sounds = [], []
    for prepared in recordings:
        if prepared.recording.split == "validation":
            with concerning(prepared.features_path):
                predicted.append((prepared, predict(model, prepared.features)))
                sounds.append(onset_strength(prepared.features, features))
    # No label is looked at, so this also holds where no truth is known.
    shift = estimate_time_shift(sounds, [rises(activations) for _, activations in predicted], features.frames_per_second)
    shift_frames = shift.compensation_frames(features.frames_per_second) if settings.time_shift == "compensate" else 0.0
    print(f"time shift: {shift}; {f'activations are moved by {-shift_frames:+.1f} frames' if shift_frames else 'nothing is moved'}")
    threshold = settings.threshold.fixed
    judged = [(prepared, activations) for prepared, activations in predicted if prepared.recording.truth is not None]
    if threshold is None and judged:
        threshold = tune_threshold(
            [(shift_back(activations, shift_frames), recording_truth(prepared, outputs)) for prepared, activations in judged]
        )
    trained_on = without_excluded(recordings, excluded)
    train_split = [prepared.recording for prepared in trained_on if prepared.recording.split == "train"]
    anchors = sum(recording.anchor_count for recording in train_split)
    minutes = sum(recording.annotated_seconds for recording in train_split) / 60
    card = {
        "model": {name: value for name, value in settings.model.items() if name != "init"},
        "features": features.to_dict(),
        "outputs": outputs,
        "threshold": DEFAULT_THRESHOLD if threshold is None else threshold,
        "time_shift_frames": shift_frames,
        "time_shift_measured_ms": shift.milliseconds(features.frames_per_second),
        "data": {
            "corpus": settings.corpus.get("name", "unnamed"),
            "minutes": round(minutes, 2),
            "recordings": len(train_split),
            "anchors_per_minute": round(anchors / minutes, 2),
            "loss": settings.loss["name"],
            "excluded_by_audit": [f"{verdict.recording} {verdict.segment}: {verdict.fault}" for verdict in excluded],
            "corpus_fingerprint": corpus_fingerprint(prepared.recording for prepared in recordings),
        },
    }
    save_model(folder / "model", model, card)
    return folder / "model"
