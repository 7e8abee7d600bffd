"""From a performance to a recording: instruments, tuning, a room, a little noise; all drawn at random."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from scipy.signal import fftconvolve, lfilter

from softscribe.corpora.performance import Performance
from softscribe.corpora.soundfont import SoundFont

# General MIDI programs (from 0) with a definite pitch and a natural compass, in families that play together.
KEYBOARDS = (0, 1, 2, 4, 5, 6, 16, 19, 20)  # pianos, electric pianos, harpsichord, organs
FAMILIES = {
    "keyboards and guitar": (*KEYBOARDS, 24),
    "strings": (40, 41, 42),  # violin, viola, cello
    "winds": (64, 65, 66, 68, 69, 70, 71, 74),  # saxophones, oboe, cor anglais, bassoon, clarinet, recorder
    "brass": (56, 57, 58, 60),  # trumpet, trombone, tuba, horn
    "voices and organ": (53, 19, 20),
}
_KEYBOARD_SHARE = 0.4  # of the recordings: one keyboard plays every part
_TUNING_CENTS = 20.0
_PART_LEVEL_DECIBELS = 3.0
_LEAD_IN_SECONDS = (0.5, 1.5)
# Studios and living rooms. In a hall a note sounds on for half a second after its end, and frame-wise truth is no truth any more.
_REVERBERATION_SECONDS = (0.2, 0.7)  # until the room's sound has fallen by 60 dB
_WET_DECIBELS = (-24.0, -12.0)  # energy of the room's sound against the direct one
_EARLY_REFLECTIONS = 6
_PEAK_DECIBELS = (-12.0, -1.0)
_NOISE_DECIBELS = (-85.0, -60.0)  # against full scale
_LONGEST_TAIL_SECONDS = 2.0


def render(
    performance: Performance, font: SoundFont, rng: np.random.Generator, sample_rate: int = 22050
) -> tuple[Float32[np.ndarray, " samples"], float]:
    """Record a performance: one random instrument for each part (or a keyboard for all), tuned to 440 Hz within 20 cents, in a random room.

    Returns:
        The samples, mono, within [-1, 1], and the silence before the first onset in seconds: the first note begins there.
        Shape: (samples,)
    """
    parts = performance.score.parts
    if rng.random() < _KEYBOARD_SHARE:
        programs = {int(part): int(program) for program in [rng.choice(KEYBOARDS)] for part in np.unique(parts)}
    else:
        family = tuple(FAMILIES.values())[rng.integers(len(FAMILIES))]
        programs = {int(part): int(rng.choice(family)) for part in np.unique(parts)}
    tuning_cents = float(rng.uniform(-_TUNING_CENTS, _TUNING_CENTS))
    lead_in = round(float(rng.uniform(*_LEAD_IN_SECONDS)), 3)
    end = lead_in + float(performance.offsets_seconds.max()) + _LONGEST_TAIL_SECONDS
    dry = np.zeros(int(end * sample_rate), np.float32)
    for part, program in programs.items():
        notes = parts == part
        sound = font.render(
            performance.onsets_seconds[notes] + lead_in,
            performance.offsets_seconds[notes] + lead_in,
            performance.score.pitches[notes],
            performance.velocities[notes],
            program,
            tuning_cents,
            sample_rate,
        )[: len(dry)]
        # Instruments of a SoundFont differ by 20 dB, players in one room do not: each part gets the same mean power per note sounding.
        seconds = (performance.offsets_seconds - performance.onsets_seconds)[notes].sum()
        level = np.sqrt(np.sum(np.square(sound, dtype=np.float64)) / (seconds * sample_rate))
        decibels = rng.uniform(-_PART_LEVEL_DECIBELS, _PART_LEVEL_DECIBELS)
        dry[: len(sound)] += np.float32(10 ** (decibels / 20) / max(level, 1e-9)) * sound
    wet = fftconvolve(dry, room_response(rng, sample_rate))[: len(dry)]
    tail = int(_LONGEST_TAIL_SECONDS * sample_rate)
    wet[-tail:] *= np.linspace(1, 0, tail) ** 2
    peak = 10 ** (rng.uniform(*_PEAK_DECIBELS) / 20)
    noise = 10 ** (rng.uniform(*_NOISE_DECIBELS) / 20) * rng.standard_normal(len(wet))
    samples = peak * wet / np.abs(wet).max() + noise
    return np.clip(samples, -1, 1).astype(np.float32), lead_in


def room_response(rng: np.random.Generator, sample_rate: int) -> Float[np.ndarray, " samples"]:
    """The impulse response of a random room: the direct sound (1 at sample 0), early reflections, and noise that decays exponentially.

    Shape: (samples,)

    >>> response = room_response(np.random.default_rng(0), 22050)
    >>> float(response[0]), bool(np.sum(response[1:] ** 2) < 0.2)
    (1.0, True)
    """
    reverberation = rng.uniform(*_REVERBERATION_SECONDS)
    count = int(reverberation * sample_rate)
    decay = 10 ** (-3 * np.arange(count) / count)
    pre_delay = rng.uniform(0.005, 0.02)
    # High frequencies are absorbed sooner: a one-pole low-pass on the noise.
    late = lfilter([0.5], [1, -0.5], rng.standard_normal(count)) * decay
    late[: int(pre_delay * sample_rate)] = 0
    reflections = np.zeros(count)
    times = rng.uniform(pre_delay, 0.06, _EARLY_REFLECTIONS)
    reflections[(times * sample_rate).astype(int)] = decay[(times * sample_rate).astype(int)] * rng.choice([-1, 1], _EARLY_REFLECTIONS)
    room = late / np.linalg.norm(late) + 0.5 * reflections / np.linalg.norm(reflections)
    wet = 10 ** (rng.uniform(*_WET_DECIBELS) / 20)
    response = wet * room / np.linalg.norm(room)
    response[0] = 1.0
    return response
