"""The HCQT against librosa's plain transforms and against signals whose pitch and time are known."""

import json
from dataclasses import replace

import librosa
import numpy as np
import pytest

from softscribe.errors import InputError
from softscribe.sound import HcqtSettings, compress, hcqt, transpose

SIX = HcqtSettings()
FIVE = HcqtSettings(hop_length_samples=384, harmonics=(1, 2, 3, 4, 5))


def tone(midi: float, seconds: float = 3.0) -> np.ndarray:
    hertz = 440 * 2 ** ((midi - 69) / 12)
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 22050)) / 22050)).astype(np.float32)


@pytest.mark.parametrize("settings", [SIX, FIVE])
def test_shared_transforms_equal_plain_ones(settings: HcqtSettings) -> None:
    """Sharing changes only how often librosa halves the rate before an octave is looked at."""
    generator = np.random.default_rng(0)
    signal = sum(tone(midi, 8.0) * generator.uniform(0, 1) for midi in range(24, 96, 5)) + generator.normal(0, 0.02, 8 * 22050)
    signal = signal.astype(np.float32)
    shared = hcqt(signal, settings, tuning_semitones=0.1)
    for channel, harmonic in enumerate(settings.harmonics):
        plain = np.abs(
            librosa.cqt(
                signal,
                sr=22050,
                hop_length=settings.hop_length_samples,
                fmin=harmonic * librosa.midi_to_hz(24) * 2 ** (0.1 / 12 - 1 / 36),
                n_bins=216,
                bins_per_octave=36,
                tuning=0.0,
            )
        ).T[: len(shared)]
        difference = np.abs(shared[:, channel] - plain)
        assert difference.max() < 0.02 * plain.max()
        assert difference[20:-20].max() < 0.01 * plain.max()
        assert difference.mean() < 0.01 * plain.mean()
        if harmonic in (3, 5):  # alone in their transforms
            assert difference.max() == 0


@pytest.mark.parametrize("settings", [SIX, FIVE])
def test_the_number_of_frames(settings: HcqtSettings) -> None:
    hop = settings.hop_length_samples
    generator = np.random.default_rng(0)
    for samples in (1, hop - 1, hop, hop + 1, 22050, 60 * hop - 1, 60 * hop, 60 * hop + 1, 400 * hop - 1):
        result = hcqt(generator.normal(0, 0.1, samples), settings, 0.0)
        assert result.shape == (samples // hop + 1, settings.channels, 216)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()


def note(midi: float) -> np.ndarray:
    """Six partials that fall off as 1/h."""
    return sum(tone(midi + 12 * np.log2(partial)) / partial for partial in range(1, 7)).astype(np.float32)


@pytest.mark.parametrize("cents", [-45, -30, -17, 0, 12, 30, 45])
@pytest.mark.parametrize("midi", [40, 57, 69, 84])
def test_a_note_peaks_at_the_middle_bin_of_its_semitone(midi: int, cents: int) -> None:
    middle = hcqt(note(midi + cents / 100), SIX)[20:-20].mean(axis=0)
    peak = 3 * (midi - 24) + 1
    assert middle[1].argmax() == peak
    if midi + 12 < 96:
        assert middle[0].argmax() == peak + 36
    # Centred: its neighbours on both sides are about equally weak, so the tuning was followed and not just rounded to a bin.
    assert abs(middle[1, peak - 1] - middle[1, peak + 1]) < 0.25 * middle[1, peak]


def test_harmonics_of_one_note_lie_at_one_bin() -> None:
    signal = sum(tone(48 + 12 * np.log2(harmonic)) for harmonic in (1, 2, 3, 4, 5))
    middle = hcqt(signal, SIX, 0.0)[20:-20].mean(axis=0)
    bin_of_c3 = 3 * (48 - 24) + 1
    for channel in (1, 2, 3, 4, 5):
        assert middle[channel, bin_of_c3] > 0.9 * middle[channel, bin_of_c3 - 1 : bin_of_c3 + 2].max()
        assert middle[channel, bin_of_c3] > 20 * np.median(middle[channel])
    assert middle[0, bin_of_c3] < 0.05 * middle[1, bin_of_c3]


@pytest.mark.parametrize("settings", [SIX, FIVE])
@pytest.mark.parametrize("seconds", [0.5, 1.234, 2.0])
def test_a_click_is_at_its_frame(settings: HcqtSettings, seconds: float) -> None:
    signal = np.zeros(3 * 22050, np.float32)
    signal[round(seconds * 22050)] = 1
    # The highest bins' filters (5 ms) are shorter than a hop and miss clicks between frames; those of the octave from C4 are not.
    power = hcqt(signal, settings, 0.0)[:, settings.harmonics.index(1), 108:144].sum(axis=1) ** 2
    centre_frames = (power * np.arange(len(power))).sum() / power.sum()
    assert centre_frames == pytest.approx(seconds * settings.frames_per_second, abs=0.1)


def test_a_tuning_moves_the_bins_and_nothing_else() -> None:
    sharp, plain = hcqt(tone(69.25), SIX, 0.25)[20:-20].mean(axis=0), hcqt(tone(69), SIX, 0.0)[20:-20].mean(axis=0)
    np.testing.assert_allclose(sharp, plain, atol=0.01 * plain.max())


def test_louder_is_proportional_and_compression_is_not() -> None:
    signal = tone(60, 1.0)
    np.testing.assert_allclose(hcqt(2 * signal, SIX, 0.0), 2 * hcqt(signal, SIX, 0.0), atol=1e-6)
    magnitudes = np.array([[0, 0.1, 3.0]], np.float16)
    np.testing.assert_allclose(compress(magnitudes), np.log(1 + 10 * magnitudes.astype(np.float64)), rtol=1e-6)
    assert compress(magnitudes).dtype == np.float32


@pytest.mark.parametrize("semitones", [-5, -1, 2, 5])
def test_transposed_features_are_those_of_transposed_music(semitones: int) -> None:
    moved = transpose(hcqt(tone(60), SIX, 0.0), semitones, SIX)[20:-20].mean(axis=0)
    # A constant-Q magnitude grows with the square root of the filter's length (librosa's scale=True).
    played = hcqt(tone(60 + semitones), SIX, 0.0)[20:-20].mean(axis=0) * 2 ** (semitones / 24)
    np.testing.assert_allclose(moved[1, 30:-30], played[1, 30:-30], atol=0.03 * played.max())
    assert moved[1].argmax() == played[1].argmax()


def test_transposition_fills_with_zeros_and_keeps_the_rest() -> None:
    features = np.random.default_rng(0).uniform(1, 2, (4, 6, 216)).astype(np.float16)
    for semitones in (-7, 0, 4):
        moved = transpose(features, semitones, SIX)
        assert moved.dtype == features.dtype
        assert (moved == 0).sum() == 4 * 6 * 3 * abs(semitones)
        back = transpose(moved, -semitones, SIX)
        np.testing.assert_array_equal(back[back > 0], features[back > 0])
    with pytest.raises(InputError, match="semitones: 72"):
        transpose(features, 72, SIX)


def test_settings_survive_json() -> None:
    for settings in (SIX, FIVE):
        assert HcqtSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert hash(FIVE) == hash(replace(FIVE))
    assert FIVE.frames_per_second == 57.421875


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sample_rate": 8000}, "Hz"),
        ({"octaves": 7}, "Hz"),
        ({"harmonics": (1, 2, 6)}, "Hz"),
        ({"harmonics": ()}, "harmonics"),
        ({"harmonics": (1, 1.0)}, "harmonics"),
        ({"harmonics": (0, 1)}, "harmonics"),
        ({"harmonics": ("1",)}, "harmonics"),
        ({"harmonics": (float("nan"),)}, "harmonics"),
        ({"hop_length_samples": 0}, "hop_length_samples"),
        ({"hop_length_samples": 512.0}, "hop_length_samples"),
        ({"bins_per_semitone": 2}, "bins_per_semitone"),
        ({"minimum_midi": True}, "minimum_midi"),
        ({"octaves": None}, "octaves"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        HcqtSettings.from_dict(SIX.to_dict() | change)


def test_unknown_and_missing_settings_are_named() -> None:
    with pytest.raises(InputError, match="gamma"):
        HcqtSettings.from_dict(SIX.to_dict() | {"gamma": 1})
    with pytest.raises(InputError, match="hop_length_samples"):
        HcqtSettings.from_dict({"octaves": 6})


def test_bad_samples_and_tunings_are_named() -> None:
    for samples in (np.zeros(0), np.array([0.1, np.nan]), np.array([np.inf])):
        with pytest.raises(InputError, match="samples"):
            hcqt(samples, SIX)
    for tuning in (0.6, float("nan")):
        with pytest.raises(InputError, match="tuning_semitones"):
            hcqt(tone(60), SIX, tuning)


def test_highest_settings_that_pass_the_check_can_be_computed() -> None:
    """The check of half the sample rate agrees with librosa's own at the extreme tuning."""
    for settings in (SIX, FIVE, HcqtSettings(octaves=4, harmonics=(0.5, 1, 3, 7, 20), minimum_midi=24)):
        hcqt(tone(60, 1.0), settings, 0.5)
