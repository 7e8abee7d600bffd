"""The baseline hears notes where they are, in the features that `hcqt` makes."""

import numpy as np
import pytest

from softscribe.errors import InputError
from softscribe.evaluation import chroma_baseline, frame_measures, tune_threshold
from softscribe.sound import HcqtSettings, hcqt

SIX = HcqtSettings()
FIVE = HcqtSettings(hop_length_samples=384, harmonics=(1, 2, 3, 4, 5))
WIDE = HcqtSettings(octaves=8, minimum_midi=12, harmonics=(2, 1))


def chord(*pitches: int) -> np.ndarray:
    times = np.arange(2 * 22050) / 22050
    return sum(0.1 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * times) for pitch in pitches).astype(np.float32)


@pytest.mark.parametrize("settings", [SIX, FIVE, WIDE])
def test_pure_tones_are_found_exactly(settings: HcqtSettings) -> None:
    """Rank by rank: every sounding output is above every silent one, whatever the settings' channels and range are."""
    pitches = (50, 57, 66, 73)
    magnitudes = hcqt(chord(*pitches), settings, 0.0)[20:-20].astype(np.float16)
    for outputs in (12, 72):
        truth = np.zeros((len(magnitudes), outputs), bool)
        truth[:, [pitch % 12 if outputs == 12 else pitch - 24 for pitch in pitches]] = True
        activations = chroma_baseline(magnitudes, outputs, settings)
        threshold = tune_threshold([(activations, truth)])
        measures = frame_measures(activations, truth, threshold)
        assert measures["frame_average_precision"] == pytest.approx(1)
        assert measures["frame_f_measure"] == pytest.approx(1)
        np.testing.assert_allclose(activations.max(axis=1), 1)


def test_octaves_of_a_class_add_up() -> None:
    magnitudes = np.zeros((1, 6, 216), np.float32)
    magnitudes[0, 1, [3 * 0 + 1, 3 * 24 + 1, 3 * 7 + 1]] = 0.25, 0.5, 0.6
    expected = np.zeros(12)
    expected[[0, 7]] = 1, 0.8
    np.testing.assert_allclose(chroma_baseline(magnitudes, 12, SIX)[0], expected, rtol=1e-6)


def test_loudness_does_not_matter_and_silence_stays_silent() -> None:
    magnitudes = np.random.default_rng(0).random((5, 6, 216)).astype(np.float32)
    np.testing.assert_allclose(chroma_baseline(3 * magnitudes, 72, SIX), chroma_baseline(magnitudes, 72, SIX), rtol=1e-5)
    assert not chroma_baseline(np.zeros((5, 6, 216), np.float32), 12, SIX).any()


@pytest.mark.usefixtures("without_shape_types")
def test_bad_input_is_named() -> None:
    magnitudes = np.zeros((5, 6, 216), np.float32)
    with pytest.raises(InputError, match="outputs: 13"):
        chroma_baseline(magnitudes, 13, SIX)
    with pytest.raises(InputError, match="magnitudes"):
        chroma_baseline(magnitudes, 12, FIVE)
    with pytest.raises(InputError, match="harmonic 1"):
        chroma_baseline(magnitudes, 12, HcqtSettings(harmonics=(2, 3)))
    with pytest.raises(InputError, match="MIDI 24 to 95"):
        chroma_baseline(magnitudes, 12, HcqtSettings(octaves=5))
