"""Audio files to samples: one channel, one rate, and nothing but sound."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import librosa
import numpy as np
import soundfile
from jaxtyping import Float32

from softscribe.errors import InputError
from softscribe.sound.container import missing_bytes

SHORTEST_SECONDS = 1.0
SILENCE_PEAK = 1e-4
"""A recording whose largest sample stays below this, -80 dB of full scale, holds no music: dither and noise of converters lie there."""
LARGEST_SAMPLE = 1e5
"""Float files may exceed full scale (1.0), even by holding 16-bit numbers; beyond this the numbers are not sound."""
_LOWEST_SAMPLE_RATE, _HIGHEST_SAMPLE_RATE = 8_000, 768_000
_BLOCK_VALUES = 1 << 21
_LARGEST_FRAME_COUNT = 4 * 3600 * 48_000
"""Four hours at 48 kHz, 3 GB of samples. A few bytes of FLAC can stand for hours of silence; the acts of an opera last two."""
_REPLACE = "Remedy: replace the file by a complete copy, or leave it out."


def read_audio(path: Path | str, sample_rate: int = 22050) -> Float32[np.ndarray, " samples"]:
    """Read an audio file as one channel (the mean of all) at `sample_rate` (Hz), full scale = 1.

    Reads what libsndfile reads, among it WAV, FLAC, Ogg Vorbis, Opus and MP3, at 8 to 768 kHz. Resampling is soxr's "HQ". The level
    is left as it is. An hour at 44.1 kHz takes 0.3 GB for the result and about 1.2 GB more while it is read.

    Raises:
        InputError: the file is missing, no audio, cut off (its header promises more than it holds), empty, shorter than 1 s, silent
            (peak below -80 dB of full scale once mixed to one channel), or holds NaN, infinity or numbers above 1e5.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a4.wav"
    >>> soundfile.write(path, np.sin(2 * np.pi * 440 * np.arange(88200) / 44100), 44100)
    >>> read_audio(path).shape
    (44100,)
    """
    path = Path(path)
    if not _LOWEST_SAMPLE_RATE <= sample_rate <= _HIGHEST_SAMPLE_RATE:
        raise InputError(f"sample_rate: {sample_rate} Hz. Remedy: choose {_LOWEST_SAMPLE_RATE} to {_HIGHEST_SAMPLE_RATE} Hz.")
    with _opened(path) as file:
        file_rate = file.samplerate
        samples = np.concatenate([np.zeros(0, np.float32), *_mono_blocks(file, path)])
        _check_length(path, len(samples), file_rate)
        if len(samples) < _promised_frames(path, file):
            raise InputError(f"{path}: cut off: its header promises {file.frames} samples, {len(samples)} can be decoded. {_REPLACE}")
    peak = float(np.abs(samples).max())
    if peak < SILENCE_PEAK:
        raise InputError(f"{path}: silent: its largest sample, mixed to one channel, is {peak:.2g} of full scale (1). {_REPLACE}")
    if file_rate == sample_rate:
        return samples
    resampled: Float32[np.ndarray, " samples"] = librosa.resample(samples, orig_sr=file_rate, target_sr=sample_rate, res_type="soxr_hq")
    return resampled


def audio_duration_seconds(path: Path | str) -> float:
    """Return the length of an audio file in seconds, from its header and its size alone: nothing is decoded.

    Raises:
        InputError: as `read_audio`, for all that shows without decoding: missing, no audio, cut-off WAV or Ogg, empty, shorter than 1 s.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "noise.flac"
    >>> soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 96000), 48000)
    >>> audio_duration_seconds(path)
    2.0
    """
    path = Path(path)
    with _opened(path) as file:
        _check_length(path, file.frames, file.samplerate)
        return float(file.frames / file.samplerate)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such audio file. Remedy: check the path.")
    try:
        missing = missing_bytes(path)
        if missing:
            raise InputError(f"{path}: cut off: at least {missing} bytes are missing at its end. {_REPLACE}")
        # soundfile raises TypeError for files named .raw, whose rate and channels it cannot know.
        # Given as bytes, since a name on Linux need not be text.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            if not _LOWEST_SAMPLE_RATE <= file.samplerate <= _HIGHEST_SAMPLE_RATE:
                limits = f"{_LOWEST_SAMPLE_RATE} to {_HIGHEST_SAMPLE_RATE} Hz"
                raise InputError(f"{path}: sample rate {file.samplerate} Hz, {limits} can be read. Remedy: resample it.")
            # An open length, as of a FLAC written into a pipe, is a very large number here.
            if not 0 <= file.frames <= _LARGEST_FRAME_COUNT:
                hours = _LARGEST_FRAME_COUNT / file.samplerate / 3600
                remedy = "Remedy: cut it, or encode it again, from a file to a file."
                raise InputError(f"{path}: its header leaves the length open, or states more than {hours:.0f} h. {remedy}")
            yield file
    except (soundfile.SoundFileError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{path}: cannot be read as audio ({reason}). Remedy: convert it to WAV or FLAC, or leave it out.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: make it readable or leave it out.") from error


def _mono_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[Float32[np.ndarray, " block"]]:
    """Decode block by block, so that memory follows what the file holds and not what its header claims."""
    while len(block := file.read(max(1, _BLOCK_VALUES // file.channels), dtype="float32", always_2d=True)):
        # Written this way round because NaN compares false with everything.
        if not np.abs(block).max() <= LARGEST_SAMPLE:
            raise InputError(f"{path}: holds samples that are NaN, infinite or above {LARGEST_SAMPLE:g} (full scale is 1). {_REPLACE}")
        yield block.mean(axis=1)


def _check_length(path: Path, frames: int, rate: int) -> None:
    if frames == 0:
        raise InputError(f"{path}: holds no samples, only a header. {_REPLACE}")
    if frames < SHORTEST_SECONDS * rate:
        remedy = "Remedy: leave it out, or join it with its neighbours."
        raise InputError(f"{path}: {frames / rate:.2f} s long, at least {SHORTEST_SECONDS:g} s are needed. {remedy}")


def _promised_frames(path: Path, file: soundfile.SoundFile) -> int:
    """Return the number of samples that the header promises, 0 where it promises none."""
    return 0 if file.format == "MP3" and not _has_mp3_length(path) else int(file.frames)


def _has_mp3_length(path: Path) -> bool:
    """Whether an MP3 file states its length (in a Xing or Info frame); libsndfile estimates it otherwise."""
    with path.open("rb") as file:
        tag = file.read(10)
        id3_bytes = 0
        if tag[:3] == b"ID3" and len(tag) == 10:
            id3_bytes = 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        file.seek(id3_bytes)
        first_frame = file.read(256)
    return b"Xing" in first_frame or b"Info" in first_frame
