"""The tuning of a recording: of known tones, against librosa's own estimate."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numba.np.ufunc.gufunc import GUFunc

from softscribe.corpora.coarse_alignment import audio_chroma
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings, estimate_tuning_semitones, hcqt, read_audio

RATE = 22050


def tone(midi: float, seconds: float = 3.0) -> np.ndarray:
    hertz = 440 * 2 ** ((midi - 69) / 12)
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("off", [-0.4, -0.11, 0.23, 0.45])
def test_a_chord_of_known_tuning(off: float) -> None:
    chord = sum(tone(midi + off) for midi in (60, 64, 67, 72))
    assert estimate_tuning_semitones(chord, RATE) == pytest.approx(off, abs=0.03)  # parabolas are off by 3 cents at 262 Hz


def test_low_notes_of_known_tuning() -> None:
    chord = sum(tone(midi + 0.23) for midi in (48, 55, 64, 72))
    assert estimate_tuning_semitones(chord, RATE) == pytest.approx(0.23, abs=0.02)


def test_what_has_no_pitch_or_hardly_lasts() -> None:
    assert estimate_tuning_semitones(np.zeros(RATE, np.float32), RATE) == 0.0
    assert estimate_tuning_semitones(tone(69, 0.05), RATE) == pytest.approx(0.0, abs=0.1)
    with pytest.raises(InputError, match="empty"):
        estimate_tuning_semitones(np.zeros(0, np.float32), RATE)


def test_it_is_the_estimate_of_librosa() -> None:
    """Of noisy music with vibrato, in blocks of a minute. Theirs were computed elsewhere: what they call must not be called here."""
    generator = np.random.default_rng(0)
    time = np.arange(70 * RATE) / RATE
    for off, theirs in [(-0.3, -0.28), (0.08, 0.09), (0.31, 0.32)]:
        phases = (
            2 * np.pi * 440 * 2 ** ((midi + off - 69) / 12) * time + 0.2 * np.sin(2 * np.pi * generator.uniform(4, 7) * time)
            for midi in generator.integers(50, 80, 6)
        )
        signal = (sum(np.sin(phase) for phase in phases) + generator.normal(0, 0.1, len(time))).astype(np.float32)
        assert estimate_tuning_semitones(signal, RATE) == pytest.approx(theirs, abs=0.011)


def test_nothing_opens_the_cache_that_processes_break(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two processes that fill Numba's cache of librosa's generalised functions leave it broken, and whoever calls one then crashes."""

    def called(function: GUFunc, *_: object) -> None:
        raise AssertionError(f"{function.__name__} was called: its compiled form on disk may be broken")

    monkeypatch.setattr(GUFunc, "__call__", called)
    with pytest.raises(AssertionError, match="was called"):
        librosa.estimate_tuning(y=tone(60), sr=RATE)
    soundfile.write(tmp_path / "tone.wav", tone(60, 12.0), 44100)
    samples = read_audio(tmp_path / "tone.wav", RATE)
    assert hcqt(samples, HcqtSettings()).any()
    assert audio_chroma(samples, RATE).values.any()
