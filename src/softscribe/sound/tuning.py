"""How far a recording is tuned from A4 = 440 Hz.

The estimate is librosa's: the most frequent deviation of spectral peaks from the nearest semitone. Its peaks are found here, since
librosa's own search (`piptrack`) is compiled at its first use into a cache on disk that two processes which fill it at the same time
leave broken: from then on every process that opens it crashes.
"""

import librosa
import numpy as np
from jaxtyping import Float, Float32

from softscribe.errors import InputError

BLOCK_SECONDS = 60
FFT_SAMPLES = 2048
LOWEST_PEAK_HZ, HIGHEST_PEAK_HZ = 150.0, 4000.0
SMALLEST_PEAK = 0.1
"""Of the largest magnitude in the same frame."""
RESOLUTION_SEMITONES = 0.01


def estimate_tuning_semitones(samples: Float[np.ndarray, " samples"], sample_rate: int) -> float:
    """Return how much higher than A4 = 440 Hz a recording is tuned, in semitones, in [-0.5, 0.5); 0 if nothing in it has a pitch.

    The most frequent deviation, to 1 cent, of spectral peaks above the median magnitude from the nearest semitone. The published
    features take the deviation from the nearest third of a semitone instead and leave a recording that is 30 cents sharp one bin
    too high.

    Raises:
        InputError: no samples, or values that are not finite.

    >>> tone = np.sin(2 * np.pi * 444 * np.arange(22050) / 22050).astype(np.float32)  # 12 * log2(444 / 440) = 0.157
    >>> abs(estimate_tuning_semitones(tone, 22050) - 0.157) < 0.05
    True
    """
    check_samples(samples)
    block = BLOCK_SECONDS * sample_rate  # by blocks, so that memory stays small
    peaks = [_spectral_peaks(samples[start : start + block], sample_rate) for start in range(0, len(samples), block)]
    frequencies, magnitudes = (np.concatenate(parts) for parts in zip(*peaks, strict=True))
    if not len(frequencies):
        return 0.0
    loud = magnitudes >= np.median(magnitudes)
    return float(librosa.pitch_tuning(frequencies[loud], resolution=RESOLUTION_SEMITONES, bins_per_octave=12))


def check_samples(samples: Float[np.ndarray, " samples"]) -> None:
    """Raise InputError unless there are samples and all are finite."""
    if not len(samples):
        raise InputError("samples: empty. Remedy: give at least one sample.")
    if not np.isfinite(samples).all():
        raise InputError("samples: hold NaN or infinity. Remedy: read them with read_audio, which names the file.")


def _spectral_peaks(
    samples: Float[np.ndarray, " samples"], sample_rate: int
) -> tuple[Float[np.ndarray, " peaks"], Float32[np.ndarray, " peaks"]]:
    """Return frequency (Hz) and magnitude of every local maximum over frequency, between bins by a parabola through its neighbours.

    Source: J. O. Smith, Spectral Audio Signal Processing, "Quadratic Interpolation of Spectral Peaks".
    """
    padded = np.pad(samples, (0, max(0, FFT_SAMPLES - len(samples))))
    magnitudes = np.abs(librosa.stft(padded.astype(np.float32), n_fft=FFT_SAMPLES))
    left, middle, right = magnitudes[:-2], magnitudes[1:-1], magnitudes[2:]
    bin_hz = sample_rate / FFT_SAMPLES
    centre_hz = np.arange(1, len(middle) + 1) * bin_hz
    in_range = (centre_hz >= LOWEST_PEAK_HZ) & (centre_hz < HIGHEST_PEAK_HZ)
    is_peak = (middle > left) & (middle >= right) & (middle > SMALLEST_PEAK * magnitudes.max(axis=0)) & in_range[:, None]
    left, peak, right = left[is_peak], middle[is_peak], right[is_peak]
    slope, curvature = (right - left) / 2, left + right - 2 * peak
    offset_bins = -slope / curvature  # a peak is higher than its left neighbour: the curvature is never 0
    return (np.nonzero(is_peak)[0] + 1 + offset_bins) * bin_hz, peak + slope * offset_bins / 2
