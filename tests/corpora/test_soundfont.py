"""What a musician expects of an instrument: in tune, silent when released, louder when struck harder, without clicks."""

import numpy as np
import pytest

from softscribe.corpora.rendering import FAMILIES, KEYBOARDS
from softscribe.corpora.soundfont import SoundFont, installed_soundfont
from softscribe.errors import InputError

SAMPLE_RATE = 22050
PROGRAMS = sorted({*KEYBOARDS, *(program for family in FAMILIES.values() for program in family)})


@pytest.fixture(scope="module")
def font() -> SoundFont:
    return SoundFont.load(installed_soundfont())


def one_note(font: SoundFont, pitch: int, program: int, seconds: float = 1.0, velocity: int = 90, **options: float) -> np.ndarray:
    return font.render(np.array([0.0]), np.array([seconds]), np.array([pitch]), np.array([velocity]), program, **options)


def cents_off(samples: np.ndarray, pitch: int) -> float:
    """How far the harmonics lie above equal temperament at 440 Hz: the shift at which a comb of six gathers most of the spectrum."""
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    cents = np.linspace(-60, 60, 481)
    fundamental = 440 * 2 ** ((pitch - 69) / 12)
    bins = np.outer(np.arange(1, 7) * fundamental, 2 ** (cents / 1200)) * size / SAMPLE_RATE
    bins = bins[bins[:, -1] < len(spectrum) - 1]
    return float(cents[np.interp(bins, np.arange(len(spectrum)), spectrum).sum(axis=0).argmax()])


def test_the_measure_of_tuning_finds_a_known_mistuning() -> None:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 440 * 2 ** (7 / 1200) * k * times) / k for k in range(1, 6))
    assert cents_off(np.asarray(tone), 69) == pytest.approx(7, abs=0.3)


@pytest.mark.parametrize("program", [0, 4, 6, 16, 40, 42, 57, 69, 71])
def test_tones_are_in_tune_within_4_cents(font: SoundFont, program: int) -> None:
    errors = [cents_off(one_note(font, pitch, program)[2000:20000], pitch) for pitch in (48, 60, 65, 72)]
    assert np.abs(errors).max() <= 4.05


def test_no_program_of_the_corpus_is_out_of_tune_or_silent_where_scores_lie(font: SoundFont) -> None:
    for program in PROGRAMS:
        tones = {pitch: one_note(font, pitch, program)[2000:20000] for pitch in (43, 52, 60, 69, 79)}
        assert np.median([abs(cents_off(tone, pitch)) for pitch, tone in tones.items()]) <= 7.5, program
        assert min(np.sqrt(np.mean(tone**2)) for tone in tones.values()) > 0.001, program


def test_tuning_cents_move_every_note(font: SoundFont) -> None:
    for cents in (-20.0, 15.0):
        shift = cents_off(one_note(font, 60, 16, tuning_cents=cents)[2000:20000], 60) - cents_off(one_note(font, 60, 16)[2000:20000], 60)
        assert shift == pytest.approx(cents, abs=0.6)


def test_another_sample_rate_is_the_same_sound(font: SoundFont) -> None:
    tone = one_note(font, 60, 71)
    finer = one_note(font, 60, 71, sample_rate=44100)
    assert np.corrcoef(tone[:20000], finer[::2][:20000])[0, 1] > 0.99


def test_a_released_note_dies_away_and_a_held_one_does_not(font: SoundFont) -> None:
    for program in (16, 40, 71):
        tone = one_note(font, 60, program, seconds=2.0)

        def level(start: float, samples: np.ndarray = tone) -> float:
            begin = int(start * SAMPLE_RATE)
            return float(np.sqrt(np.mean(samples[begin : begin + 2205].astype(float) ** 2)))

        assert level(1.8) > 0.3 * level(0.5)
        assert np.abs(tone[-50:]).max() < 1e-3 * np.abs(tone).max()
        assert len(tone) < 4 * SAMPLE_RATE


def test_the_note_begins_at_its_onset(font: SoundFont) -> None:
    samples = font.render(np.array([0.5]), np.array([1.0]), np.array([72]), np.array([100]), 6)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    assert 0.5 - 0.002 <= loud[0] / SAMPLE_RATE < 0.52


def test_louder_with_every_velocity(font: SoundFont) -> None:
    for program in (0, 48, 73):
        powers = [np.sum(one_note(font, 62, program, velocity=velocity).astype(float) ** 2) for velocity in (20, 45, 70, 95, 120)]
        assert np.all(np.diff(powers) > 0)


def test_loops_do_not_click(font: SoundFont) -> None:
    """A click is a jump: in a steady looped tone the second difference stays of one size; a jump stands out at once."""
    for program in (16, 19, 68):
        tone = one_note(font, 60, program, seconds=2.5)[int(0.5 * SAMPLE_RATE) : int(2.3 * SAMPLE_RATE)].astype(float)
        bend = np.abs(np.diff(tone, 2))
        assert bend.max() < 3 * np.quantile(bend, 0.99)


def test_high_notes_do_not_alias(font: SoundFont) -> None:
    """Below the fundamental of a high organ tone there is nothing but the sample's own noise."""
    tone = one_note(font, 96, 16)[4000:20000].astype(float)
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)))) ** 2
    frequencies = np.fft.rfftfreq(len(tone), 1 / SAMPLE_RATE)
    fundamental = 440 * 2 ** ((96 - 69) / 12)
    below = spectrum[(frequencies > 50) & (frequencies < 0.45 * fundamental)].sum()
    assert below < 1e-3 * spectrum.sum()


def test_notes_add_up(font: SoundFont) -> None:
    first, second = one_note(font, 60, 19), one_note(font, 67, 19)
    both = font.render(np.zeros(2), np.ones(2), np.array([60, 67]), np.array([90, 90]), 19)
    length = min(len(first), len(second))
    np.testing.assert_allclose(both[:length], first[:length] + second[:length], atol=1e-5)


def test_no_notes_are_no_sound(font: SoundFont) -> None:
    empty = np.zeros(0)
    assert len(font.render(empty, empty, empty.astype(int), empty.astype(int), 0)) == 0


def test_mistakes_are_named(font: SoundFont, tmp_path) -> None:
    with pytest.raises(InputError, match="program=200"):
        one_note(font, 60, 200)
    with pytest.raises(InputError, match="onset < offset"):
        one_note(font, 60, 0, seconds=0.0)
    with pytest.raises(InputError, match="velocities"):
        one_note(font, 60, 0, velocity=0)
    with pytest.raises(InputError, match="sample_rate"):
        one_note(font, 60, 0, sample_rate=0)
    with pytest.raises(InputError, match=r"missing\.sf2"):
        SoundFont.load(tmp_path / "missing.sf2")
    data = installed_soundfont().read_bytes()
    for name, content in {"cut.sf2": data[:100_000], "text.sf2": b"this is no SoundFont at all", "empty.sf2": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            SoundFont.load(tmp_path / name)


def test_a_missing_soundfont_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    installed_soundfont.cache_clear()
    with pytest.raises(InputError, match="pip install"):
        installed_soundfont()
    installed_soundfont.cache_clear()
