"""The harmonic constant-Q transform (HCQT; Bittner et al., Deep Salience Representations, ISMIR 2017).

Channel h holds, at bin b, the magnitude at h times the frequency of bin b: a note and its overtones lie at one bin, behind each other.
Frame t is centred at t * hop_length_samples / sample_rate seconds. Bins are centred: with 3 bins per semitone the pitch minimum_midi + k
lies at bin 3k + 1, and a detuned recording is followed as a whole. Magnitudes are librosa's: those of a steady tone grow with the square
root of its filter's length, so they fall by 2^(-1/2) per octave. Above about 2 kHz filters are shorter than a hop of 512.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import librosa
import numpy as np
from jaxtyping import Float, Float32, Shaped

from softscribe.errors import InputError
from softscribe.sound.tuning import check_samples, estimate_tuning_semitones

COMPRESSION = 10.0
_LARGEST_TUNING_SEMITONES = 0.5
_LIMITS = {
    "sample_rate": (4000, 192_000),
    "hop_length_samples": (16, 8192),
    "octaves": (1, 10),
    "bins_per_semitone": (1, 15),
    "minimum_midi": (0, 127),
}


@dataclass(frozen=True)
class HcqtSettings:
    """What an HCQT consists of. The defaults are the published six-channel form; its sibling has hop 384 and harmonics 1 to 5.

    Attributes:
        sample_rate: of the samples, in Hz.
        hop_length_samples: from one frame to the next.
        harmonics: frequency factor of each channel, > 0, in the order of the channels.
        octaves: the range of a channel.
        bins_per_semitone: odd, so that one bin lies on each note.
        minimum_midi: the pitch of the lowest note (24 = C1).

    Raises:
        InputError: a value is out of range, or the highest bin lies beyond half the sample rate.

    >>> settings = HcqtSettings()
    >>> settings.channels, settings.bins, round(settings.frames_per_second, 3)
    (6, 216, 43.066)
    >>> HcqtSettings.from_dict(settings.to_dict()) == settings
    True
    """

    sample_rate: int = 22050
    hop_length_samples: int = 512
    harmonics: tuple[float | int, ...] = (0.5, 1, 2, 3, 4, 5)
    octaves: int = 6
    bins_per_semitone: int = 3
    minimum_midi: int = 24

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _LIMITS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise InputError(f"HCQT setting {name}: {value}. Remedy: choose a number from {lowest} to {highest}.")
        if self.bins_per_semitone % 2 == 0:
            raise InputError(f"HCQT setting bins_per_semitone: {self.bins_per_semitone}. Remedy: choose an odd number.")
        in_range = all(0.1 <= harmonic <= 32 for harmonic in self.harmonics)
        if not self.harmonics or not in_range or len(set(self.harmonics)) < len(self.harmonics):
            raise InputError(f"HCQT setting harmonics: {self.harmonics}. Remedy: give different numbers from 0.1 to 32.")
        # The pass band of a filter is wider than its centre by half a bandwidth, 1.5 / Q with the Hann window.
        filter_width = 1 + 0.75 * (2 ** (1 / self.bins_per_octave) - 1)
        highest_hz = self.minimum_hz * 2 ** (self.octaves + _LARGEST_TUNING_SEMITONES / 12) * max(self.harmonics) * filter_width
        if highest_hz > self.sample_rate / 2:
            remedy = "Remedy: fewer octaves or harmonics, or a higher sample rate."
            raise InputError(
                f"HCQT settings: bins reach {highest_hz:.0f} Hz, half of sample_rate is {self.sample_rate / 2:.0f} Hz. {remedy}"
            )

    @property
    def frames_per_second(self) -> float:
        """Frame rate in Hz."""
        return self.sample_rate / self.hop_length_samples

    @property
    def channels(self) -> int:
        """One for each harmonic."""
        return len(self.harmonics)

    @property
    def bins_per_octave(self) -> int:
        """12 semitones' bins."""
        return 12 * self.bins_per_semitone

    @property
    def bins(self) -> int:
        """Bins of one channel."""
        return self.octaves * self.bins_per_octave

    @cached_property
    def minimum_hz(self) -> float:
        """Frequency of bin 0 at harmonic 1, tuning 0: a fraction of a semitone below `minimum_midi`, which is thereby centred."""
        below_bins = (self.bins_per_semitone - 1) / 2
        return float(440 * 2 ** ((self.minimum_midi - 69) / 12 - below_bins / self.bins_per_octave))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return asdict(self) | {"harmonics": list(self.harmonics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HcqtSettings":
        """Return the settings that `to_dict` wrote; every field has to be there, and no other.

        Raises:
            InputError: a field is missing, unknown, of another type or out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise InputError(f"HCQT settings: fields {sorted(values)}. Remedy: give exactly {sorted(names)}.")
        for name in _LIMITS:
            if type(values[name]) is not int:
                raise InputError(f"HCQT setting {name}: {values[name]!r}. Remedy: give a whole number.")
        harmonics = values["harmonics"]
        if not isinstance(harmonics, list | tuple) or any(type(harmonic) not in (int, float) for harmonic in harmonics):
            raise InputError(f"HCQT setting harmonics: {harmonics!r}. Remedy: give a list of numbers.")
        return cls(**{**values, "harmonics": tuple(harmonics)})


def hcqt(
    samples: Float[np.ndarray, " samples"], settings: HcqtSettings, tuning_semitones: float | None = None
) -> Float32[np.ndarray, "frames channels bins"]:
    """Return the linear magnitudes of the HCQT; frame t is centred at t / settings.frames_per_second seconds.

    frames = samples // hop_length_samples + 1; before and after the samples there is silence. `tuning_semitones`, in [-0.5, 0.5], is how
    much higher than A4 = 440 Hz the recording is tuned; None estimates it. Harmonics that are powers of two apart share one constant-Q
    transform (librosa's), so the default's six channels cost three.

    An hour at the default settings takes 0.8 GB for the result and about 2 GB more while it is computed.

    Raises:
        InputError: no samples, values that are not finite, or a tuning out of range.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    >>> magnitudes = hcqt(tone, HcqtSettings(), tuning_semitones=0.0)
    >>> magnitudes.shape, int(magnitudes[20, 1].argmax())  # A4 = MIDI 69 = bin 3 * (69 - 24) + 1
    ((44, 6, 216), 136)
    """
    check_samples(samples)
    if tuning_semitones is None:
        tuning_semitones = estimate_tuning_semitones(samples, settings.sample_rate)
    if not -_LARGEST_TUNING_SEMITONES <= tuning_semitones <= _LARGEST_TUNING_SEMITONES:
        raise InputError(f"tuning_semitones: {tuning_semitones}. Remedy: give a number from -0.5 to 0.5, or None to estimate it.")
    minimum_hz = settings.minimum_hz * 2 ** (tuning_semitones / 12)
    frames = len(samples) // settings.hop_length_samples + 1
    result = np.empty((frames, settings.channels, settings.bins), np.float32)
    for base, channels in _shared_transforms(settings.harmonics).items():
        octaves_above = [round(math.log2(settings.harmonics[channel] / base)) for channel in channels]
        lowest_hz = base * minimum_hz
        transform = librosa.cqt(
            _long_enough(samples, lowest_hz, settings),
            sr=settings.sample_rate,
            hop_length=settings.hop_length_samples,
            fmin=lowest_hz,
            n_bins=settings.bins + max(octaves_above) * settings.bins_per_octave,
            bins_per_octave=settings.bins_per_octave,
            tuning=0.0,
        )
        for channel, octave in zip(channels, octaves_above, strict=True):
            first_bin = octave * settings.bins_per_octave
            np.abs(transform[first_bin : first_bin + settings.bins, :frames].T, out=result[:, channel])
    return result


def compress(magnitudes: Float[np.ndarray, "*axes"]) -> Float32[np.ndarray, "*axes"]:
    """Return log(1 + 10 * magnitudes), the network's input.

    >>> compress(np.array([0.0, 1.0])).round(3).tolist()
    [0.0, 2.3980000019073486]
    """
    compressed: Float32[np.ndarray, "*axes"] = np.log1p(np.float32(COMPRESSION) * magnitudes.astype(np.float32))
    return compressed


def transpose(
    features: Shaped[np.ndarray, "frames channels bins"], semitones: int, settings: HcqtSettings
) -> Shaped[np.ndarray, "frames channels bins"]:
    """Return the features of the same music `semitones` higher: bins are shifted, vacated bins are 0, bins beyond the range are lost.

    Raises:
        InputError: the shift is as large as the range of the features.

    >>> features = np.zeros((1, 1, 216), np.float32)
    >>> features[0, 0, 136] = 1
    >>> int(transpose(features, -2, HcqtSettings()).argmax())
    130
    """
    shift = semitones * settings.bins_per_semitone
    bins = features.shape[-1]
    if abs(shift) >= bins:
        raise InputError(f"semitones: {semitones}, the features span {bins // settings.bins_per_semitone}. Remedy: transpose by less.")
    result = np.zeros_like(features)
    result[..., max(0, shift) : bins + min(0, shift)] = features[..., max(0, -shift) : bins + min(0, -shift)]
    return result


def _shared_transforms(harmonics: tuple[float | int, ...]) -> dict[float | int, list[int]]:
    """Group channels whose harmonics are powers of two apart under the lowest of them: (0.5, 1, 3) -> {0.5: [0, 1], 3: [2]}."""
    groups: dict[float | int, list[int]] = {}
    for channel in sorted(range(len(harmonics)), key=lambda index: harmonics[index]):
        base = next((base for base in groups if math.log2(harmonics[channel] / base).is_integer()), harmonics[channel])
        groups.setdefault(base, []).append(channel)
    return groups


def _long_enough(samples: Float[np.ndarray, " samples"], lowest_hz: float, settings: HcqtSettings) -> Float[np.ndarray, " padded"]:
    """Add the silence that librosa would assume behind a short signal, lest it warn that its longest filter is longer than the signal."""
    longest_filter = settings.sample_rate / lowest_hz / (2 ** (1 / settings.bins_per_octave) - 1)
    needed = int(2 * longest_filter) + 2 * settings.hop_length_samples
    return np.pad(samples, (0, max(0, needed - len(samples))))
