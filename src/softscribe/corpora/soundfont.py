"""A SoundFont 2 sampler: notes in, sound out.

It plays what makes a General MIDI instrument recognisable: key and velocity zones, loops, the volume envelope, tuning in cents, and
the static low-pass filter. Left out are the modulation envelope, the oscillators for vibrato, chorus and reverb (rooms are
`rendering.py`'s). Terms and numbers are those of the SoundFont Technical Specification 2.04, sections 7 (file) and 8 (generators).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.signal import resample_poly

from softscribe.corpora.sampler_kernels import SILENCE, VOICE, add_voices
from softscribe.errors import InputError

_RECORDS: dict[bytes, Any] = {
    b"phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "<u4", 3)],
    b"pbag": [("generator", "<u2"), ("modulator", "<u2")],
    b"pgen": [("operator", "<u2"), ("amount", "<i2")],
    b"inst": [("name", "S20"), ("bag", "<u2")],
    b"ibag": [("generator", "<u2"), ("modulator", "<u2")],
    b"igen": [("operator", "<u2"), ("amount", "<i2")],
    b"shdr": [
        ("name", "S20"),
        ("start", "<u4"),
        ("end", "<u4"),
        ("loop_start", "<u4"),
        ("loop_end", "<u4"),
        ("rate", "<u4"),
        ("pitch", "u1"),
        ("correction", "i1"),
        ("link", "<u2"),
        ("type", "<u2"),
    ],
}
# Generators by their number in the specification (section 8.1.2).
_CUTOFF, _RESONANCE, _PAN, _DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 8, 9, 17, 33, 34, 35, 36, 37, 38
_KEY_TO_HOLD, _KEY_TO_DECAY, _INSTRUMENT, _KEYS, _VELOCITIES, _ATTENUATION = 39, 40, 41, 43, 44, 48
_COARSE, _FINE, _SAMPLE, _LOOP_MODE, _SCALE, _ROOT = 51, 52, 53, 54, 56, 58
_DEFAULTS = {_CUTOFF: 13500, _SCALE: 100, _ROOT: -1} | dict.fromkeys((_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE), -12000)
_OFFSETS = {"start": (0, 4), "end": (1, 12), "loop_start": (2, 45), "loop_end": (3, 50)}  # fine, and coarse in steps of 32768
_NOT_ADDED = {0, 1, 2, 3, 4, 12, 45, 50, _KEYS, _VELOCITIES, _LOOP_MODE, _ROOT, _INSTRUMENT}  # a preset cannot change these (section 8.5)
_ATTENUATION_SHARE = 0.4  # the synthesizers that SoundFonts are tuned on apply only this share of the attenuation generator
_OVERSAMPLING = 2  # rendered above the output's rate, so that high notes do not alias


@dataclass(frozen=True)
class Zone:
    """One sample of an instrument and how it is played: its generators, and the record of the sample.

    Attributes:
        keys, velocities: the lowest and highest MIDI pitch and velocity that sound it, both inclusive.
        generators: the amounts of the specification's generators, by number.
        sample: start, end, loop_start, loop_end (indices of the sample data), rate (Hz), pitch (MIDI), correction (cents).
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    generators: dict[int, int]
    sample: dict[str, int]

    def generator(self, number: int) -> int:
        """The generator's amount, the specification's default if the file sets none."""
        return self.generators.get(number, _DEFAULTS.get(number, 0))


class SoundFont:
    """The instruments of an SF2 file.

    >>> import numpy as np
    >>> font = SoundFont.load(installed_soundfont())
    >>> samples = font.render(np.array([0.0]), np.array([0.5]), np.array([69]), np.array([90]), program=0)
    >>> samples.dtype, bool(np.abs(samples).max() > 0.01)
    (dtype('float32'), True)
    """

    def __init__(self, samples: Float32[np.ndarray, " samples"], programs: dict[int, tuple[Zone, ...]]) -> None:
        self._samples = samples
        self._programs = programs

    @classmethod
    def load(cls, path: Path) -> SoundFont:
        """Read an SF2 file: the programs of bank 0.

        Raises:
            InputError: the file is missing or no SoundFont 2.
        """
        try:
            data = path.read_bytes()
            chunks = dict(_chunks(data, 12, len(data)))
            samples = np.frombuffer(chunks[b"smpl"], "<i2").astype(np.float32) / 32768
            tables = {name: np.frombuffer(chunks[name], np.dtype(fields)) for name, fields in _RECORDS.items()}
            if data[:4] + data[8:12] != b"RIFFsfbk":
                raise ValueError("it does not begin as a SoundFont does")
            return cls(samples, dict(_programs(tables)))
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise InputError(f"{path}: not a readable SoundFont 2 file ({error!r}). Remedy: name an intact .sf2 file.") from error

    @property
    def programs(self) -> tuple[int, ...]:
        """The General MIDI programs it can play, 0-127, ascending."""
        return tuple(sorted(self._programs))

    def render(
        self,
        onsets_seconds: Float[np.ndarray, " notes"],
        offsets_seconds: Float[np.ndarray, " notes"],
        pitches: Int[np.ndarray, " notes"],
        velocities: Int[np.ndarray, " notes"],
        program: int,
        tuning_cents: float = 0.0,
        sample_rate: int = 22050,
    ) -> Float32[np.ndarray, " samples"]:
        """Play notes on one instrument, mono (stereo samples mixed), until the last release has died away.

        Args:
            onsets_seconds, offsets_seconds: when each key goes down and up, 0 <= onset < offset.
            pitches, velocities: MIDI pitch 0-127, velocity 1-127.
            program: General MIDI program 0-127.
            tuning_cents: added to every note; 0 is A4 = 440 Hz.
            sample_rate: of the result, in Hz.

        Returns:
            float32; one note at velocity 127 peaks near 1, chords beyond it. Shape: (samples,)

        Raises:
            InputError: an argument is out of its range, or the SoundFont lacks the program.
        """
        if program not in self._programs:
            raise InputError(f"program={program}: the SoundFont has none of that number. Remedy: choose one of {self.programs}.")
        if not sample_rate > 0:
            raise InputError(f"sample_rate={sample_rate}: must be above 0 Hz. Remedy: 22050 is the usual one.")
        if len(pitches) == 0:
            return np.zeros(0, np.float32)
        if not (np.all(onsets_seconds >= 0) and np.all(offsets_seconds > onsets_seconds) and np.all(np.isfinite(offsets_seconds))):
            raise InputError("onsets_seconds, offsets_seconds: need 0 <= onset < offset for every note. Remedy: correct the notes' times.")
        if pitches.min() < 0 or pitches.max() > 127 or velocities.min() < 1 or velocities.max() > 127:
            raise InputError("pitches must lie in 0-127 and velocities in 1-127. Remedy: correct or leave out the notes beyond.")
        rate = sample_rate * _OVERSAMPLING
        notes = zip(onsets_seconds, offsets_seconds, pitches, velocities, strict=True)
        voices = np.array(
            [
                _voice(zone, float(onset), float(offset), int(pitch), int(velocity), tuning_cents, rate)
                for onset, offset, pitch, velocity in notes
                for zone in _sounding(self._programs[program], int(pitch), int(velocity))
            ],
            dtype=VOICE,
        )
        release_outputs = np.log(SILENCE) / np.log(voices["release_factor"])
        output = np.zeros(int((voices["release_output"] + release_outputs).max()) + 2)
        add_voices(output, self._samples, voices)
        return resample_poly(output, 1, _OVERSAMPLING).astype(np.float32)


@lru_cache(maxsize=1)
def installed_soundfont() -> Path:
    """Where pretty_midi installed `TimGM6mb.sf2` (GPL-2, by Tim Brechbill), which is played in place and never copied.

    Raises:
        InputError: pretty_midi or its SoundFont is not installed.

    >>> installed_soundfont().name
    'TimGM6mb.sf2'
    """
    spec = importlib.util.find_spec("pretty_midi")
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        path = Path(folder) / "TimGM6mb.sf2"
        if path.is_file():
            return path
    raise InputError("TimGM6mb.sf2: not found where pretty_midi is installed. Remedy: pip install --force-reinstall pretty_midi.")


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while start + 8 <= end:
        name, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if start + 8 + length > end:
            raise ValueError(f"chunk {name!r} is cut off")
        if name == b"LIST":
            yield from _chunks(data, start + 12, start + 8 + length)
        else:
            yield name, data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def _programs(tables: dict[bytes, np.ndarray]) -> Iterator[tuple[int, tuple[Zone, ...]]]:
    presets = tables[b"phdr"]
    for index in np.flatnonzero(presets["bank"][:-1] == 0):
        yield int(presets["program"][index]), tuple(_zones(tables, int(index)))


def _zones(tables: dict[bytes, np.ndarray], preset: int) -> Iterator[Zone]:
    for outer in _generator_lists(tables, b"phdr", b"pbag", b"pgen", preset, _INSTRUMENT):
        for inner in _generator_lists(tables, b"inst", b"ibag", b"igen", outer[_INSTRUMENT], _SAMPLE):
            keys, velocities = (_overlap(outer.get(number), inner.get(number)) for number in (_KEYS, _VELOCITIES))
            if keys[0] > keys[1] or velocities[0] > velocities[1]:
                continue
            total = dict(inner)
            for number in outer.keys() - _NOT_ADDED:
                total[number] = inner.get(number, _DEFAULTS.get(number, 0)) + outer[number]
            record = tables[b"shdr"][inner[_SAMPLE]]
            sample = {name: int(record[name]) for name in ("rate", "pitch", "correction")}
            for name, (fine, coarse) in _OFFSETS.items():
                sample[name] = int(record[name]) + total.get(fine, 0) + 32768 * total.get(coarse, 0)
            yield Zone(keys, velocities, total, sample)


def _generator_lists(
    tables: dict[bytes, np.ndarray], owners: bytes, bags: bytes, generators: bytes, owner: int, last: int
) -> Iterator[dict[int, int]]:
    """The generators of each zone of a preset or instrument, over those of its global zone (the first, if it does not end in `last`)."""
    common: dict[int, int] = {}
    first, after = (int(tables[owners]["bag"][owner + offset]) for offset in (0, 1))
    for bag in range(first, after):
        begin, end = (int(tables[bags]["generator"][bag + offset]) for offset in (0, 1))
        own = {int(row["operator"]): int(row["amount"]) for row in tables[generators][begin:end]}
        if last in own:
            yield common | own
        elif bag == first:
            common = own


def _overlap(*packed_ranges: int | None) -> tuple[int, int]:
    ranges = [(packed & 255, packed >> 8 & 255) for packed in packed_ranges if packed is not None]
    return max([0, *(low for low, _ in ranges)]), min([127, *(high for _, high in ranges)])


def _sounding(zones: tuple[Zone, ...], pitch: int, velocity: int) -> list[Zone]:
    """The zones that this note sounds; beyond the instrument's compass those of the nearest key, so that no note is lost."""
    fitting = [zone for zone in zones if zone.velocities[0] <= velocity <= zone.velocities[1]] or list(zones)
    distances = [max(zone.keys[0] - pitch, pitch - zone.keys[1], 0) for zone in fitting]
    return [zone for zone, distance in zip(fitting, distances, strict=True) if distance == min(distances)]


def _voice(zone: Zone, onset: float, offset: float, pitch: int, velocity: int, tuning_cents: float, rate: int) -> tuple[Any, ...]:
    """The kernel's parameters of one note in one zone, in the order of `VOICE`."""
    amount = zone.generator
    sample = zone.sample
    root = amount(_ROOT) if amount(_ROOT) >= 0 else sample["pitch"]
    cents = (pitch - root) * amount(_SCALE) + 100 * amount(_COARSE) + amount(_FINE) + sample["correction"] + tuning_cents
    # Velocity follows the specification's default: 40 dB times the logarithm of 127 / velocity (section 8.4.1).
    decibels = 40 * np.log10(127 / velocity) + _ATTENUATION_SHARE * amount(_ATTENUATION) / 10
    angle = (np.clip(amount(_PAN), -500, 500) / 1000 + 0.5) * np.pi / 2
    gain = 10 ** (-decibels / 20) * (np.cos(angle) + np.sin(angle)) / 2
    decay_timecents = amount(_DECAY) + (60 - pitch) * amount(_KEY_TO_DECAY)
    hold_timecents = amount(_HOLD) + (60 - pitch) * amount(_KEY_TO_HOLD)
    has_loop = sample["loop_end"] > sample["loop_start"] + 1
    return (
        round(onset * rate),
        round(offset * rate),
        float(sample["start"]),
        sample["end"],
        sample["loop_start"],
        sample["loop_end"],
        amount(_LOOP_MODE) & 3 if has_loop else 0,
        2 ** (cents / 1200) * sample["rate"] / rate,
        gain,
        _outputs(amount(_DELAY), rate),
        max(_outputs(amount(_ATTACK), rate), 1),
        _outputs(hold_timecents, rate),
        SILENCE ** (1 / max(_outputs(decay_timecents, rate), 1)),
        10 ** (-max(amount(_SUSTAIN), 0) / 200),
        SILENCE ** (1 / max(_outputs(amount(_RELEASE), rate), 1)),
        *_lowpass(amount(_CUTOFF), amount(_RESONANCE), rate),
    )


def _outputs(timecents: int, rate: int) -> int:
    return round(2 ** (timecents / 1200) * rate) if timecents > -12000 else 0


def _lowpass(cutoff_cents: int, resonance_centibels: int, rate: int) -> tuple[bool, float, float, float, float]:
    """Whether to filter, and b0 = b2, b1, a1, a2 of the usual resonant second-order section."""
    frequency = 8.176 * 2 ** (cutoff_cents / 1200)
    if frequency >= 0.4 * rate or cutoff_cents >= 13500:
        return False, 1.0, 0.0, 0.0, 0.0
    quality = 10 ** (max(resonance_centibels, 0) / 200) / np.sqrt(2)
    omega = 2 * np.pi * frequency / rate
    alpha = np.sin(omega) / (2 * quality)
    b1 = (1 - np.cos(omega)) / (1 + alpha)
    return True, b1 / 2, b1, -2 * np.cos(omega) / (1 + alpha), (1 - alpha) / (1 + alpha)
