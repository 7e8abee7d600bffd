"""How people play a score: when each note really begins and ends, and how loud.

The defaults are what 124 performances by pianists showed, aligned with their scores (88 and 36 of two collections): 2 to 5 onsets
per second; log2 of the beat period deviates by .18 to .26, with a correlation of .3 from beat to beat; the last four beats are 1.1 to
1.3 times as long; the onsets of a chord spread by 10 to 15 ms; velocity varies by 14. Keys are held for .5 to .65 of the written
length, up to 1.2; but pedal and legato instruments sound on, so only the share `detached_share` of performances is played so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from softscribe.errors import InputError
from softscribe.scores.notes import PerformedNotes, Score

_LARGEST_DEVIATION = 2.5  # in standard deviations: a person does not stop in mid-phrase
_SHORTEST_NOTE_SECONDS = 0.04
_RITARDANDO_SHARES = np.array([0.4, 0.8, 1.2, 1.6])  # of the exponent, over the last four beats; their mean is 1
_BEATS_WITHOUT_RITARDANDO = 8  # a piece must be longer than this to slow down at its end


@dataclass(frozen=True)
class PerformanceSettings:
    """Ranges from which a performance draws its own habits, uniformly.

    Attributes:
        onsets_per_second: distinct written onsets per second over the whole piece (its tempo).
        log2_beat_period_deviation: standard deviation of log2 of the beat period, about its mean.
        beat_correlation: of that deviation from one beat to the next, 0 to 1.
        ritardando: mean factor on the period of the last four beats.
        chord_spread_seconds: standard deviation of the onsets written at one time.
        detached_share: share of the performances that are played detached, 0 to 1.
        detached_articulation, sustained_articulation: mean sounding share of the written length.
        articulation_deviation: standard deviation of that share from note to note.
        largest_articulation: longest sounding share of any note.
        velocity: mean MIDI velocity.
        velocity_deviation: standard deviation of velocity, half of its variance common to the notes of one onset.
    """

    onsets_per_second: tuple[float, float] = (2.0, 5.0)
    log2_beat_period_deviation: tuple[float, float] = (0.18, 0.26)
    beat_correlation: float = 0.3
    ritardando: tuple[float, float] = (1.1, 1.3)
    chord_spread_seconds: tuple[float, float] = (0.010, 0.015)
    detached_share: float = 0.1
    detached_articulation: tuple[float, float] = (0.5, 0.65)
    sustained_articulation: tuple[float, float] = (0.9, 1.0)
    articulation_deviation: float = 0.06
    largest_articulation: float = 1.2
    velocity: tuple[float, float] = (64.0, 92.0)
    velocity_deviation: float = 14.0


@dataclass(frozen=True)
class Performance:
    """A performed score. Every array of notes is in the order of the score's notes.

    Attributes:
        onsets_seconds, offsets_seconds: when each note sounds, the first at 0. Shape: (notes,)
        velocities: MIDI velocity, 1-127. Shape: (notes,)
        map_quarters, map_seconds: the corners of the map from score time to time, both strictly increasing. Shape: (corners,)
    """

    score: Score
    onsets_seconds: Float[np.ndarray, " notes"]
    offsets_seconds: Float[np.ndarray, " notes"]
    velocities: Int[np.ndarray, " notes"]
    map_quarters: Float[np.ndarray, " corners"]
    map_seconds: Float[np.ndarray, " corners"]

    def seconds_at(self, quarters: float) -> float:
        """When the beat at this score position falls; the notes written there spread about it."""
        return float(np.interp(quarters, self.map_quarters, self.map_seconds))

    def notes(self, lead_in_seconds: float = 0.0) -> PerformedNotes:
        """The notes as truth for evaluation, sorted by onset, all `lead_in_seconds` later."""
        order = np.lexsort((self.score.pitches, self.onsets_seconds))
        return PerformedNotes(
            onsets_seconds=self.onsets_seconds[order] + lead_in_seconds,
            offsets_seconds=self.offsets_seconds[order] + lead_in_seconds,
            pitches=self.score.pitches[order],
            score_onsets_quarters=self.score.onsets_quarters[order],
        )


def perform(score: Score, rng: np.random.Generator, settings: PerformanceSettings | None = None) -> Performance:
    """Play a score with human timing.

    The map from quarters to seconds is monotone and straight within a beat (a quarter note). The notes of one written onset
    spread about its time, but never past half of the way to the neighbouring onsets: notes written one after the other
    begin in that order. A note ends before the same pitch is struck again, and the notes that end the score last as long as written.

    Args:
        score: at least one note.
        rng: the only source of chance.
        settings: None takes the measured defaults.

    Raises:
        InputError: the score has no notes, or a setting is out of its range.

    >>> score = Score(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([60, 62]), np.array([0, 0]), 2.0)
    >>> performance = perform(score, np.random.default_rng(0))
    >>> bool(performance.onsets_seconds[0] < performance.onsets_seconds[1])
    True
    """
    settings = settings or PerformanceSettings()
    _check(score, settings)
    map_quarters, map_seconds = _time_map(score, rng, settings)
    onsets = score.onsets_quarters
    positions, chord = np.unique(onsets, return_inverse=True)
    times = np.interp(positions, map_quarters, map_seconds)

    gaps = np.concatenate([[np.inf], np.diff(times), [np.inf]])
    room = 0.5 * np.minimum(gaps[:-1], gaps[1:])[chord] - 0.001
    spread = rng.uniform(*settings.chord_spread_seconds) * _deviations(rng, len(onsets))
    starts = times[chord] + np.clip(spread, -room, room)
    map_seconds = map_seconds - starts.min()
    starts = starts - starts.min()

    detached = rng.random() < settings.detached_share
    articulation = rng.uniform(*(settings.detached_articulation if detached else settings.sustained_articulation))
    shares = np.clip(articulation + settings.articulation_deviation * _deviations(rng, len(onsets)), 0.1, settings.largest_articulation)
    ends_quarters = onsets + score.durations_quarters
    last = ends_quarters >= ends_quarters.max() - 1e-9
    shares[last] = 1.0
    written_ends = np.interp(ends_quarters, map_quarters, map_seconds)
    written_starts = np.interp(onsets, map_quarters, map_seconds)
    ends = np.maximum(starts + shares * (written_ends - written_starts), starts + _SHORTEST_NOTE_SECONDS)
    ends = np.minimum(ends, _next_strikes(score, starts))

    common, own = _deviations(rng, len(positions))[chord], _deviations(rng, len(onsets))
    velocities = rng.uniform(*settings.velocity) + settings.velocity_deviation * (common + own) / np.sqrt(2)
    return Performance(score, starts, ends, np.clip(velocities.round(), 1, 127).astype(np.int64), map_quarters, map_seconds)


def _time_map(
    score: Score, rng: np.random.Generator, settings: PerformanceSettings
) -> tuple[Float[np.ndarray, " corners"], Float[np.ndarray, " corners"]]:
    first, end = score.onsets_quarters.min(), (score.onsets_quarters + score.durations_quarters).max()
    beats = max(int(np.ceil(max(end, score.end_quarters))), 1)
    deviations = _deviations(rng, beats)
    correlation = settings.beat_correlation
    for beat in range(1, beats):
        deviations[beat] = correlation * deviations[beat - 1] + np.sqrt(1 - correlation**2) * deviations[beat]
    exponents = rng.uniform(*settings.log2_beat_period_deviation) * deviations
    slowing = np.log2(rng.uniform(*settings.ritardando)) * _RITARDANDO_SHARES
    sounding_beats = int(np.ceil(end))
    if sounding_beats - first > _BEATS_WITHOUT_RITARDANDO:
        exponents[sounding_beats - 4 : sounding_beats] += slowing
    quarters = np.arange(beats + 1, dtype=float)
    seconds = np.concatenate([[0.0], np.cumsum(2.0**exponents)])
    length = np.interp(end, quarters, seconds) - np.interp(first, quarters, seconds)
    rate = rng.uniform(*settings.onsets_per_second)
    return quarters, seconds * len(np.unique(score.onsets_quarters)) / (rate * length)


def _deviations(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    return np.clip(rng.standard_normal(count), -_LARGEST_DEVIATION, _LARGEST_DEVIATION)


def _next_strikes(score: Score, starts: Float[np.ndarray, " notes"]) -> Float[np.ndarray, " notes"]:
    """When each note's pitch is struck again, by any part, at a later written onset; infinity if never."""
    result = np.full(len(starts), np.inf)
    for pitch in np.unique(score.pitches):
        same = np.flatnonzero(score.pitches == pitch)
        positions, chord = np.unique(score.onsets_quarters[same], return_inverse=True)
        first_starts = np.full(len(positions) + 1, np.inf)
        np.minimum.at(first_starts, chord, starts[same])
        result[same] = first_starts[chord + 1]
    return result


def _check(score: Score, settings: PerformanceSettings) -> None:
    if len(score.pitches) == 0:
        raise InputError("score: has no notes to perform. Remedy: leave it out.")
    lowest = {"onsets_per_second": 0.01, "ritardando": 1.0}
    for name, value in vars(settings).items():
        if isinstance(value, tuple) and not (lowest.get(name, 0.0) <= value[0] <= value[1] < np.inf):
            raise InputError(f"{name}={value}: must be a range (low, high) from {lowest.get(name, 0.0)} up. Remedy: correct it.")
        if isinstance(value, float) and not 0 <= value < np.inf:
            raise InputError(f"{name}={value}: must be finite and at least 0. Remedy: correct it.")
    for name in ("beat_correlation", "detached_share"):
        if getattr(settings, name) > 1:
            raise InputError(f"{name}={getattr(settings, name)}: must be at most 1. Remedy: correct it.")
