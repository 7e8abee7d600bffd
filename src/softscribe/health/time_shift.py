"""How late or early a model's activations are, from the recording itself: no label is looked at.

Where something new begins to sound, the upper bands of the HCQT rise, and so do the activations of a model that hears it. The lag at which
both rises correlate best over many seconds of music is the model's time shift. Low bands are left out: their filters last over a second and
rise long before the onset that they are centred on.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.ndimage import gaussian_filter1d
from scipy.signal import correlate, correlation_lags

from softscribe.errors import InputError
from softscribe.sound import HcqtSettings

LARGEST_SHIFT_SECONDS = 0.5
"""Shifts beyond this are not measured: the next beat of fast music is as near. That they are beyond is told."""

LOWEST_ONSET_HZ = 500.0
"""Bands from here on tell onsets. The filter at this frequency lasts 0.1 s. Bands below rise too early, since their filters are longer; a
higher limit leaves but the late part of a slow attack."""

ONSET_CONTRAST = 30.0
"""Magnitudes are compressed by log(1 + 30 x), x in units of their mean: soft onsets count too, noise far below the mean does not."""

SMOOTHING_SECONDS = 0.07
"""Standard deviation of the Gaussian that smooths the correlation: a rise that is spread over several frames then counts with its middle,
where its output passes a threshold, and not with its steepest frame."""

PIECE_SECONDS = 10.0
"""Recordings are cut into pieces of about this length, which the bootstrap draws."""

FEWEST_PIECES = 8
"""Of fewer pieces the bootstrap would draw too narrow an interval: every shift is then possible. Their number counts, not their length."""

TRUSTED_SECONDS = 0.012
"""How far estimates lie from the labelled truth at most: a constant of the music, whatever the frame rate (docs/health.md). The bootstrap
knows nothing of this."""

TRUSTED_FRAMES = 0.5
"""Nor are they trusted to less than this, where frames are longer."""

WIDEST_INTERVAL_SECONDS = 0.1
"""A wider interval is that of activations which hardly rise with anything: nothing is moved by its middle."""

WIDEST_CENTRED_FRAMES = 3.0
"""Where an interval that holds 0 ends on either side at most, if no shift is to be told: an alarm asks for more than this."""

BOOTSTRAP_DRAWS = 1000
CONFIDENCE = 0.95


class TimeShift(NamedTuple):
    """How late activations are, in frames, negative if they are early; all NaN where nothing rises.

    >>> shift = TimeShift(frames=2.2, lowest_frames=1.9, highest_frames=2.6)
    >>> print(shift)
    2.20 frames late (95 % interval 1.90 to 2.60)
    >>> shift.compensation_frames(40.0), TimeShift(1.2, 0.4, 2.0).compensation_frames(40.0)
    (2.2, 0.0)
    """

    frames: float
    """The estimate."""
    lowest_frames: float
    """Where its interval of 95 % confidence begins. Like every bootstrap it knows of chance alone, not of the estimate's own bias."""
    highest_frames: float
    """Where it ends. An end at the largest shift that is looked for is infinite, since the true one may lie beyond."""

    def compensation_frames(self, frames_per_second: float) -> float:
        """By how many frames to move activations back: the estimate if its whole interval is on one side of 0, farther from it than 12 ms
        and than half a frame, and at most a tenth of a second wide; else 0.

        Raises:
            InputError: the frame rate is not positive.
        """
        _check_rate(frames_per_second)
        trusted = max(TRUSTED_FRAMES, TRUSTED_SECONDS * frames_per_second)
        beyond = self.lowest_frames > trusted or self.highest_frames < -trusted
        narrow = self.highest_frames - self.lowest_frames <= WIDEST_INTERVAL_SECONDS * frames_per_second
        return self.frames if beyond and narrow else 0.0

    @property
    def certain_frames(self) -> float:
        """The estimate if its interval tells late from early; 0 if it does not, but is narrow: at most `WIDEST_CENTRED_FRAMES` on either
        side; NaN if it is wider: not known.

        >>> [TimeShift(2, *interval).certain_frames for interval in ((1, 3), (-1, 3), (-20, 20))]
        [2, 0.0, nan]
        """
        if self.lowest_frames > 0 or self.highest_frames < 0:
            return self.frames
        return 0.0 if max(-self.lowest_frames, self.highest_frames) <= WIDEST_CENTRED_FRAMES else math.nan

    def milliseconds(self, frames_per_second: float) -> dict[str, float | None] | None:
        """Return estimate and interval in ms, for a model card, None for an end that is infinite; None if nothing is known.

        Raises:
            InputError: the frame rate is not positive.

        >>> TimeShift(2.2, 1.9, 2.6).milliseconds(40.0)
        {'estimate': 55.0, 'lowest': 47.5, 'highest': 65.0}
        """
        _check_rate(frames_per_second)
        if math.isnan(self.frames):
            return None
        return {
            name: round(1000 * value / frames_per_second, 2) if math.isfinite(value) else None
            for name, value in zip(("estimate", "lowest", "highest"), self, strict=True)
        }

    def __str__(self) -> str:
        if math.isnan(self.frames):
            return "not known, for nothing rises"
        if math.isinf(self.lowest_frames) and math.isinf(self.highest_frames):
            return "not known, for there is too little music, or it does not rise with the activations"
        direction = "late" if self.frames >= 0 else "early"
        interval = f"{self.lowest_frames:.2f} to {self.highest_frames:.2f}"
        return f"{abs(self.frames):.2f} frames {direction} ({100 * CONFIDENCE:.0f} % interval {interval})"


def onset_strength(magnitudes: Float[np.ndarray, "frames channels bins"], settings: HcqtSettings) -> Float[np.ndarray, " changes"]:
    """Return how much the upper bands of a recording rise from each frame to the next.

    Bands are those from `LOWEST_ONSET_HZ` on; of settings that hardly reach so high, the highest octave.

    Args:
        magnitudes: linear magnitudes of the HCQT; may be memory-mapped.
        settings: of the HCQT.

    Shape:
        magnitudes: (N, C, F); output: (N - 1,), entry t lying between frames t and t + 1

    Raises:
        InputError: the magnitudes have other channels or bins than `settings` say, no frames, or values that are not finite.

    >>> magnitudes = np.zeros((5, 6, 216))
    >>> magnitudes[3:, 2, 200] = 1.0
    >>> onset_strength(magnitudes, HcqtSettings()).argmax()
    np.int64(2)
    """
    if magnitudes.shape[1:] != (settings.channels, settings.bins) or not len(magnitudes):
        raise InputError(
            f"magnitudes: shape {magnitudes.shape}. Remedy: at least 1 frame of ({settings.channels} channels, {settings.bins} bins)."
        )
    frequencies_hz = settings.minimum_hz * np.multiply.outer(
        np.array(settings.harmonics), 2 ** (np.arange(settings.bins) / settings.bins_per_octave)
    )
    upper = np.asarray(magnitudes)[:, frequencies_hz >= min(LOWEST_ONSET_HZ, frequencies_hz.max() / 2)].astype(np.float32)
    mean = float(upper.mean())
    if not math.isfinite(mean):
        raise InputError("magnitudes: NaN or infinity. Remedy: compute them from a sound recording.")
    return rises(np.log1p(upper * np.float32(ONSET_CONTRAST / max(mean, 1e-9))))


def rises(values: Shaped[np.ndarray, "frames outputs"]) -> Float[np.ndarray, " changes"]:
    """Return the sum of all outputs' positive changes from each frame to the next; of activations, or of their frame-wise truth.

    Shape:
        values: (N, K); output: (N - 1,), entry t lying between frames t and t + 1

    Raises:
        InputError: there are no frames, or a value is NaN or infinite.

    >>> rises(np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.25]])).tolist()
    [1.0, 0.25]
    """
    if values.ndim != 2 or not len(values):
        raise InputError(f"values: shape {values.shape}. Remedy: (frames, outputs), with at least 1 frame.")
    summed: Float[np.ndarray, " changes"] = np.maximum(np.diff(values.astype(np.float32), axis=0), 0).sum(axis=1, dtype=np.float64)
    if not np.isfinite(summed).all():
        raise InputError("values: NaN or infinity. Remedy: give activations, such as `predict` returns.")
    return summed


def estimate_time_shift(
    references: Sequence[Float[np.ndarray, " _"]],
    activation_rises: Sequence[Float[np.ndarray, " _"]],
    frames_per_second: float,
    *,
    seed: int = 0,
) -> TimeShift:
    """Return how late activations are against what they should follow.

    Both curves are cut into pieces of some ten seconds and freed of their means; the pieces' normalised cross-correlations are added up and
    smoothed, and a parabola through the highest value and its neighbours tells the fraction of a frame. The interval comes from drawing
    pieces with replacement (percentile bootstrap; B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979).

    Args:
        references: `onset_strength` of each recording; `rises` of the truth instead give the labelled shift.
        activation_rises: `rises` of each recording's activations.
        frames_per_second: frame rate in Hz.
        seed: of the bootstrap.

    Shape:
        each of both: (N - 1,) for a recording of N frames

    Raises:
        InputError: curves do not pair up, or an argument is outside its range.

    >>> onsets = np.random.default_rng(0).gamma(0.2, size=4000)
    >>> print(estimate_time_shift([onsets], [np.roll(onsets, 3)], frames_per_second=40.0))
    3.00 frames late (95 % interval 3.00 to 3.01)
    """
    lengths = [[len(curve) for curve in curves] for curves in (references, activation_rises)]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise InputError(
            f"references, activation_rises: lengths {lengths[0]} and {lengths[1]}. Remedy: one of each per recording, as long."
        )
    _check_rate(frames_per_second)
    if seed < 0:
        raise InputError(f"seed: {seed}. Remedy: a whole number from 0.")
    for name, curves in (("references", references), ("activation_rises", activation_rises)):
        if not all(np.ndim(curve) == 1 and np.isfinite(curve).all() for curve in curves):
            raise InputError(
                f"{name}: a curve holds NaN or infinity, or is not one-dimensional. Remedy: those of onset_strength and rises."
            )
    largest = max(1, round(LARGEST_SHIFT_SECONDS * frames_per_second))
    piece = max(1, round(PIECE_SECONDS * frames_per_second))
    correlations = []
    for reference, rising in zip(references, activation_rises, strict=True):
        count = max(1, round(len(reference) / piece))
        parts = zip(np.array_split(reference, count), np.array_split(rising, count), strict=True)
        correlations += [_correlation(*part, largest) for part in parts]
    known = np.array([correlation for correlation in correlations if correlation is not None])
    if not len(known):
        return TimeShift(math.nan, math.nan, math.nan)
    known = gaussian_filter1d(known, SMOOTHING_SECONDS * frames_per_second, axis=1, mode="nearest")
    shift = _peak(known.sum(axis=0))
    if len(known) < FEWEST_PIECES:
        return TimeShift(shift, -math.inf, math.inf)
    drawn = np.random.default_rng(seed).integers(len(known), size=(BOOTSTRAP_DRAWS, len(known)))
    lowest, highest = np.quantile([_peak(known[numbers].sum(axis=0)) for numbers in drawn], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # A peak at the end of what was looked at may go on rising beyond it.
    return TimeShift(shift, float(lowest) if lowest > -largest else -math.inf, float(highest) if highest < largest else math.inf)


def _correlation(reference: np.ndarray, rising: np.ndarray, largest: int) -> Float[np.ndarray, " lags"] | None:
    """Normalised cross-correlation at lags from -largest to largest; None for a piece too short for them, or in which nothing rises."""
    if len(reference) <= largest:
        return None
    reference, rising = reference - reference.mean(), rising - rising.mean()
    energy = float((reference @ reference) * (rising @ rising))
    if energy < 1e-12:
        return None
    lags = correlation_lags(len(rising), len(reference))
    found: Float[np.ndarray, " lags"] = correlate(rising, reference)[np.abs(lags) <= largest] / math.sqrt(energy)
    return found


def _peak(correlation: Float[np.ndarray, " lags"]) -> float:
    """The lag of the highest value; between two lags by the parabola through it and its neighbours, where it has two."""
    middle = len(correlation) // 2
    top = int(correlation.argmax())
    if top in (0, len(correlation) - 1):
        return float(top - middle)
    before, at, after = correlation[top - 1 : top + 2]
    curvature = before - 2 * at + after
    return float(top - middle + (0.5 * (before - after) / curvature if curvature < 0 else 0.0))


def _check_rate(frames_per_second: float) -> None:
    if not 0 < frames_per_second < math.inf:
        raise InputError(f"frames_per_second: {frames_per_second}. Remedy: a positive number.")
