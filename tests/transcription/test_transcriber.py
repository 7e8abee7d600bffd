"""The ladder from audio file to notes: every way up gives the same, and a model's lateness is taken back."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, Mcnn, save_model
from softscribe.sound import HcqtSettings
from softscribe.transcription import Transcriber


class Loudest(nn.Module):
    """Hears a pitch (72) where the middle bin of harmonic 1 is loud, `delay_frames` late."""

    def __init__(self, delay_frames: int = 0) -> None:
        super().__init__()
        self.delay_frames = delay_frames

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        start = CONTEXT_FRAMES - self.delay_frames
        frames = features.shape[2] - 2 * CONTEXT_FRAMES
        return 20 * (features[:, 1, start : start + frames, 1::3] - 3.0)


def tones(*pitches: int) -> np.ndarray:
    """Sines of half a second each, one after the other, with a quarter of a second of silence before each."""
    time = np.arange(11025) / 22050
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    parts = [np.concatenate([np.zeros(5512), 0.5 * fade * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)]) for pitch in pitches]
    return np.concatenate([*parts, np.zeros(11025)]).astype(np.float32)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = Mcnn(in_channels=6, outputs=12, channels=(8, 8, 8, 1))
    card = {
        "model": {"name": "mcnn", "channels": [8, 8, 8, 1]},
        "features": HcqtSettings().to_dict(),
        "outputs": 12,
        "threshold": 0.45,
        "time_shift_frames": 2.0,
        "data": {},
    }
    save_model(folder, model, card)
    return folder


def test_tones_become_their_notes_at_their_times() -> None:
    transcription = Transcriber(Loudest(), HcqtSettings(), threshold=0.5).from_samples(tones(69, 76, 81))
    notes = transcription.notes()
    assert notes.pitches.tolist() == [69, 76, 81]
    np.testing.assert_allclose(notes.onsets_seconds, [0.25, 1.0, 1.75], atol=0.06)
    np.testing.assert_allclose(notes.offsets_seconds, [0.75, 1.5, 2.25], atol=0.06)


@pytest.mark.parametrize("late_frames", [-3, 1, 7])
def test_the_cards_time_shift_takes_back_a_models_lateness(late_frames: int) -> None:
    settings, samples = HcqtSettings(), tones(69, 76)
    punctual = Transcriber(Loudest(), settings, 0.5).from_samples(samples).notes()
    late = Transcriber(Loudest(late_frames), settings, 0.5).from_samples(samples).notes()
    np.testing.assert_allclose(late.onsets_seconds - punctual.onsets_seconds, late_frames / settings.frames_per_second, atol=1e-9)
    corrected = Transcriber(Loudest(late_frames), settings, 0.5, time_shift_frames=float(late_frames)).from_samples(samples).notes()
    assert corrected.as_performed() == punctual.as_performed()


def test_every_step_of_the_ladder_leads_to_the_same(model_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tones.wav", tones(60, 64), 22050, subtype="FLOAT")
    transcriber = Transcriber.load(model_folder)
    assert (transcriber.threshold, transcriber.time_shift_frames) == (0.45, 2.0)
    from_audio = transcriber.from_audio(tmp_path / "tones.wav")
    from_samples = transcriber.from_samples(tones(60, 64))
    from_magnitudes = transcriber.from_magnitudes(transcriber.magnitudes_of(tmp_path / "tones.wav"))
    np.testing.assert_array_equal(from_audio.activations, from_samples.activations)
    np.testing.assert_array_equal(from_audio.activations, from_magnitudes.activations)
    assert from_audio.activations.shape == (len(tones(60, 64)) // 512 + 1, 12)
    assert (from_audio.outputs, from_audio.threshold) == (12, 0.45)
    assert from_audio.pitches.tolist() == list(range(60, 72))


def test_mistakes_are_named(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"card\.json"):
        Transcriber.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"6 channels of 100 bins.*on 6 of 216"):
        Transcriber.load(model_folder).from_magnitudes(np.zeros((10, 6, 100), np.float32))
    with pytest.raises(InputError, match=r"absent\.wav"):
        Transcriber.load(model_folder).from_audio(tmp_path / "absent.wav")
    with pytest.raises(InputError, match="threshold: nan"):
        Transcriber(Loudest(), HcqtSettings(), threshold=float("nan"))
    with pytest.raises(InputError, match="time_shift_frames: inf"):
        Transcriber(Loudest(), HcqtSettings(), threshold=0.5, time_shift_frames=float("inf"))


def test_a_forged_time_shift_is_refused(model_folder: Path, tmp_path: Path) -> None:
    card = json.loads((model_folder / "card.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes((model_folder / "weights.safetensors").read_bytes())
    for shift in ("__import__('os')", True, None):
        (tmp_path / "card.json").write_text(json.dumps(card | {"time_shift_frames": shift}))
        with pytest.raises(InputError, match="time_shift_frames"):
            Transcriber.load(tmp_path)
