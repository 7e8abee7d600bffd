"""A model that is late: it is measured after training without a label, written into the card, and taken back in every use."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from softscribe import health
from softscribe.cli import _audit
from softscribe.corpora import FeatureStore
from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, MODELS, save_model
from softscribe.report import read_curves
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, evaluate, train
from softscribe.transcription import Transcriber, predict, shift_back

LATE_FRAMES = 4


class LateModel(nn.Module):
    """Hears a pitch class where the middle bins of the first harmonic are loud, some frames late. Training changes next to nothing."""

    def __init__(self, in_channels: int, outputs: int, late_frames: int = LATE_FRAMES) -> None:
        super().__init__()
        self.late_frames = late_frames
        self.threshold = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Tensor) -> Tensor:
        first = CONTEXT_FRAMES - self.late_frames
        heard = features[:, 0, first : first + features.shape[2] - 2 * CONTEXT_FRAMES, 1::3]
        return 4 * (heard.unflatten(2, (6, 12)).amax(dim=2) - self.threshold)


@pytest.fixture
def late_run(demanding: TrainSettings, long_store: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """Settings of a run of two steps, written into `run_folder`."""
    monkeypatch.setitem(MODELS, "late", LateModel)
    trainer = replace(demanding.trainer, steps=2, accumulated_batches=1, batch_size=1, validation_interval_steps=2)
    return replace(demanding, store=str(long_store), model={"name": "late"}, trainer=trainer)


def card_of(folder: Path) -> dict:
    return json.loads((folder / "model" / "card.json").read_text())


def test_a_late_model_is_measured_and_compensated(late_run: TrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    late_run = replace(late_run, health=replace(late_run.health, interval_steps=2, segments=16))
    rate = HcqtSettings.from_dict(late_run.features).frames_per_second
    results = {}
    for policy in ("compensate", "ignore"):
        settings = replace(late_run, time_shift=policy)
        train(settings, tmp_path / policy)
        results[policy] = evaluate(settings, tmp_path / policy)
    card, ignored = (card_of(tmp_path / policy) for policy in results)
    assert card["time_shift_frames"] == pytest.approx(LATE_FRAMES, abs=1)
    assert ignored["time_shift_frames"] == 0
    measured = card["time_shift_measured_ms"]
    assert measured == ignored["time_shift_measured_ms"]
    assert measured["lowest"] < measured["estimate"] < measured["highest"]
    assert measured["estimate"] == pytest.approx(1000 * card["time_shift_frames"] / rate, abs=0.01)
    assert f"time shift: {card['time_shift_frames']:.2f} frames late" in capsys.readouterr().out
    (curve,) = [
        row["health/time_shift_frames"] for row in read_curves(tmp_path / "compensate" / "metrics.csv") if row["health/target_gini"]
    ]
    assert float(curve) == pytest.approx(LATE_FRAMES, abs=1)
    # Evaluation, and the alignment in it, are those of the moved activations.
    for measure, tolerance_ms in (("time_shift_ms", 3), ("true_time_shift_ms", 3), ("alignment_mean_signed_error_ms", 12)):
        difference = results["ignore"][measure] - results["compensate"][measure]
        assert difference == pytest.approx(measured["estimate"], abs=tolerance_ms), measure
    assert results["compensate"]["frame_f_measure"] > results["ignore"]["frame_f_measure"] + 0.02


def test_transcription_and_audit_hear_the_moved_activations(
    late_run: TrainSettings, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config | {"store": late_run.store, "features": late_run.features}))
    features = HcqtSettings.from_dict(late_run.features)
    card = {
        "model": {"name": "late"},
        "features": features.to_dict(),
        "outputs": 12,
        "threshold": 0.5,
        "time_shift_frames": 3.6,
        "data": {},
    }
    save_model(run_folder / "model", LateModel(1, 12), card)

    magnitudes = FeatureStore(Path(late_run.store), features).recordings()[0].features
    moved = shift_back(predict(LateModel(1, 12), magnitudes), 3.6)
    np.testing.assert_array_equal(Transcriber.load(run_folder / "model").from_magnitudes(magnitudes).activations, moved)

    def audit(recordings: list, settings: HcqtSettings, activations_of: Callable[[np.ndarray], np.ndarray]) -> None:
        np.testing.assert_array_equal(activations_of(magnitudes), moved)
        raise InputError("compared")

    monkeypatch.setattr(health, "audit", audit)
    with pytest.raises(InputError, match="compared"):
        _audit([str(run_folder)])


def test_an_unknown_policy_is_refused(late_run: TrainSettings) -> None:
    with pytest.raises(InputError, match=r"time_shift: 'sometimes'.*Remedy"):
        replace(late_run, time_shift="sometimes")
