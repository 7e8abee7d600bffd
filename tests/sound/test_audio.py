"""Reading audio: what is sound comes back as it was; what is not is refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softscribe.errors import InputError
from softscribe.sound import audio_duration_seconds, read_audio

RATE = 22050


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_any_sample_rate_gives_the_same_tone(tmp_path: Path, rate: int) -> None:
    samples = read_audio(write_wav(tmp_path / "tone.wav", tone(2.0, rate), rate))
    assert samples.dtype == np.float32
    assert abs(len(samples) - 2 * RATE) <= 1
    inner = slice(1000, 43000)
    np.testing.assert_allclose(samples[inner], tone(2.0, RATE)[inner], atol=2e-3)


@pytest.mark.parametrize(
    ("name", "form", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.wav", {"subtype": "PCM_U8"}, 2e-2),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.05),
        ("a.mp3", {}, 0.05),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
    ],
)
def test_every_format_keeps_content_and_time(tmp_path: Path, name: str, form: dict[str, str], tolerance: float) -> None:
    rate = 48000
    envelope = np.repeat([0.2, 1.0, 0.2], rate)  # the louder second must stay where it is
    path = write_wav(tmp_path / name, tone(3.0, rate) * envelope, rate, **form)
    samples = read_audio(path, rate)
    assert audio_duration_seconds(path) == pytest.approx(3.0, abs=0.03)
    assert len(samples) / rate == pytest.approx(3.0, abs=0.03)
    for second, level in ((0, 0.2), (1, 1.0), (2, 0.2)):
        part = slice(second * rate + 4000, (second + 1) * rate - 4000)
        assert np.std(samples[part]) == pytest.approx(level * 0.5 / np.sqrt(2), rel=0.05)
        np.testing.assert_allclose(samples[part], (tone(3.0, rate) * envelope)[part], atol=tolerance)


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    left, right = tone(1.5, 96000), tone(1.5, 96000, 660.0)
    stereo = read_audio(write_wav(tmp_path / "stereo.wav", np.stack([left, right], 1), 96000, subtype="FLOAT"), 96000)
    np.testing.assert_allclose(stereo, (left + right) / 2, atol=1e-6)


def test_a_long_file_is_whole(tmp_path: Path) -> None:
    """Longer than one block of the decoder, with a length that is no multiple of it."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1 << 21) + 12345).astype(np.float32)
    np.testing.assert_array_equal(read_audio(write_wav(tmp_path / "long.wav", samples, subtype="FLOAT")), samples)


def refuse(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_audio(path)
    text = str(caught.value)
    assert str(path) in text
    assert "Remedy: " in text
    assert "\n" not in text
    for word in words:
        assert word in text, text


def test_missing_and_unreadable(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.wav", "no such")
    refuse(tmp_path, "no such audio file")
    (tmp_path / "text.wav").write_text("This is a letter, not a recording.\n" * 50)
    refuse(tmp_path / "text.wav", "cannot be read as audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    refuse(tmp_path / "empty.wav", "cannot be read as audio")
    (tmp_path / "headless.raw").write_bytes(bytes(100_000))
    refuse(tmp_path / "headless.raw", "cannot be read as audio")
    for ending in ("flac", "ogg", "mp3", "opus", "wav"):
        path = tmp_path / f"random.{ending}"
        path.write_bytes(np.random.default_rng(0).bytes(50_000))
        refuse(path)


CUTS = [(ending, fraction) for ending in ("wav", "flac", "ogg", "mp3", "opus") for fraction in (0.1, 0.5, 0.9)]


# The last bytes of FLAC and MP3 files may hold no sample of their own.
@pytest.mark.parametrize(("ending", "fraction"), [*CUTS, ("wav", 0.9999), ("ogg", 0.9999), ("opus", 0.9999)])
def test_cut_off(tmp_path: Path, ending: str, fraction: float) -> None:
    path = tmp_path / f"cut.{ending}"
    form = {"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}
    write_wav(path, np.random.default_rng(0).normal(0, 0.1, 40 * 48000), 48000, **form)
    whole = path.read_bytes()
    read_audio(path)
    path.write_bytes(whole[: int(len(whole) * fraction)])
    refuse(path)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("ending", ["wav", "ogg"])
def test_the_cheap_duration_notices_a_cut_off_file_too(tmp_path: Path, ending: str, fraction: float) -> None:
    path = write_wav(tmp_path / f"cut.{ending}", np.random.default_rng(0).normal(0, 0.1, 20 * RATE))
    assert audio_duration_seconds(path) == 20.0
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(InputError, match="cut off: at least"):
        audio_duration_seconds(path)


def test_header_only_short_silent(tmp_path: Path) -> None:
    refuse(write_wav(tmp_path / "header.wav", np.zeros(0)), "holds no samples")
    refuse(write_wav(tmp_path / "half_second.wav", tone(0.5, RATE)), "0.50 s long", "at least 1 s")
    refuse(write_wav(tmp_path / "silence.flac", np.zeros(3 * RATE)), "silent")
    refuse(write_wav(tmp_path / "dither.wav", np.random.default_rng(0).choice([-1, 0, 1], 3 * RATE).astype(np.int16)), "silent")
    refuse(write_wav(tmp_path / "opposite.wav", np.stack([tone(2, RATE), -tone(2, RATE)], 1)), "silent", "mixed to one channel")
    read_audio(write_wav(tmp_path / "soft.wav", 1e-3 * tone(2, RATE), subtype="PCM_24"))
    read_audio(write_wav(tmp_path / "one_second.wav", tone(1.0, RATE)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_are_no_sound(tmp_path: Path, value: float) -> None:
    samples = tone(2.0, RATE)
    samples[12345] = value
    refuse(write_wav(tmp_path / "float.wav", samples, subtype="FLOAT"), "NaN")


def with_data_length(path: Path, length: int) -> Path:
    content = bytearray(path.read_bytes())
    position = content.index(b"data") + 4
    content[position : position + 4] = struct.pack("<I", length)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read(tmp_path: Path, length: int) -> None:
    path = with_data_length(write_wav(tmp_path / "pipe.wav", tone(2.0, RATE)), length)
    assert len(read_audio(path)) == 2 * RATE
    assert audio_duration_seconds(path) == 2.0


def test_absurd_headers_cost_nothing(tmp_path: Path) -> None:
    refuse(with_data_length(write_wav(tmp_path / "claims_3_gb.wav", tone(2.0, RATE)), 3 << 30), "cut off")

    flac = write_wav(tmp_path / "claims_days.flac", np.random.default_rng(0).normal(0, 0.1, 2 * RATE))
    content = bytearray(flac.read_bytes())
    for total in (0, 44100 * 8, (1 << 36) - 1):  # STREAMINFO: rate, channels, depth in 28 bits, then the total in 36
        field = int.from_bytes(content[18:26], "big") >> 36 << 36 | total
        content[18:26] = field.to_bytes(8, "big")
        flac.write_bytes(content)
        refuse(flac)

    wav = write_wav(tmp_path / "one_hertz.wav", tone(2.0, RATE))
    content = bytearray(wav.read_bytes())
    content[24:28] = struct.pack("<I", 1)
    wav.write_bytes(content)
    refuse(wav, "sample rate 1 Hz")


def test_rf64_whole_and_cut(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "large.wav", tone(2.0, RATE), format="RF64")
    assert len(read_audio(path)) == 2 * RATE
    path.write_bytes(path.read_bytes()[:50_000])
    refuse(path, "cut off")


def test_sample_rate_is_checked(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "tone.wav", tone(2.0, RATE))
    with pytest.raises(InputError, match="sample_rate: 0"):
        read_audio(path, 0)


def test_real_recordings(real_recordings: Path) -> None:
    paths = [path for path in sorted(real_recordings.rglob("*")) if path.suffix in (".wav", ".mp3", ".opus", ".ogg", ".flac")]
    assert len(paths) >= 6
    for path in paths:
        assert len(read_audio(path)) / RATE == pytest.approx(audio_duration_seconds(path), abs=0.1)
