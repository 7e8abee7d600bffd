"""Target sequences: what a model's outputs should say, from the written score or, for baselines, from a performance.

A target is a row of zeros and ones over `outputs` values: 12 pitch classes (C = 0) or 72 pitches (MIDI 24-95; others are left out).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from softscribe.errors import InputError
from softscribe.scores.notes import SAME_TIME_QUARTERS, PerformedNotes, Score

#: The MIDI pitch of the first of 72 outputs.
LOWEST_PITCH = 24


class UniqueTargets(NamedTuple):
    """The note sets of a score in their order: neighbours differ, silence counts as a set, together they fill [0, end_quarters).

    Attributes:
        values: 1 where an output sounds. Shape: (M, K)
        onsets_quarters: where each set begins; the first is 0. Shape: (M,)
        durations_quarters: how long it is written; their sum is the score's end. Shape: (M,)
    """

    values: UInt8[np.ndarray, "targets outputs"]
    onsets_quarters: Float[np.ndarray, " targets"]
    durations_quarters: Float[np.ndarray, " targets"]


def unique_targets(score: Score, outputs: int) -> UniqueTargets:
    """The consecutive note sets of `score` that differ, silence included. A note struck again while its set goes on makes no new target.

    Args:
        score: what is written.
        outputs: 12 or 72.

    Raises:
        InputError: `outputs` is neither.

    >>> score = Score(np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), np.array([60, 60, 64]), np.array([0, 0, 0]), end_quarters=4.0)
    >>> unique = unique_targets(score, 12)
    >>> [row.nonzero()[0].tolist() for row in unique.values], unique.durations_quarters.tolist()
    ([[0], [4], []], [2.0, 1.0, 1.0])
    """
    column, kept = _output_of_pitch(score.pitches, outputs)
    onsets = score.onsets_quarters[kept]
    offsets = np.minimum(onsets + score.durations_quarters[kept], score.end_quarters)
    times = np.sort(np.concatenate([[0.0], onsets, offsets]))
    # Times that differ by rounding only (thirds of a quarter, added up) are one time: the earliest of them.
    times = times[np.concatenate([[True], np.diff(times) > SAME_TIME_QUARTERS])]
    times = times[times < score.end_quarters - SAME_TIME_QUARTERS] if len(times) > 1 else times
    first = np.searchsorted(times, onsets + SAME_TIME_QUARTERS, side="right") - 1
    last = np.searchsorted(times, offsets - SAME_TIME_QUARTERS, side="left")
    sounding = _filled(first, last, column, len(times), outputs)
    changes = np.concatenate([[True], (sounding[1:] != sounding[:-1]).any(axis=1)])
    onsets_of_sets = times[changes]
    return UniqueTargets(sounding[changes], onsets_of_sets, np.diff(onsets_of_sets, append=score.end_quarters))


def stretched_index(target_count: int, frame_count: int) -> Int[np.ndarray, " frames"]:
    """Which target each frame shows when all are spread evenly over the frames: floor(n M / N).

    With at least as many frames as targets each target is shown; with fewer, some are skipped.

    Shape: (N,)

    Raises:
        InputError: a count is below 1.

    >>> stretched_index(3, 7).tolist()
    [0, 0, 0, 1, 1, 2, 2]
    """
    _at_least_one(target_count=target_count, frame_count=frame_count)
    return np.arange(frame_count) * target_count // frame_count


def stretched_by_score_index(durations_quarters: Float[np.ndarray, " targets"], frame_count: int) -> Int[np.ndarray, " frames"]:
    """Which target each frame shows when every target lasts in proportion to its written duration.

    A target too short for a frame still gets one, at its neighbours' cost; with fewer frames than targets some are skipped.

    Args:
        durations_quarters: the targets' written lengths, > 0. Shape: (M,)
        frame_count: N.

    Shape: (N,)

    Raises:
        InputError: there is no target or no frame, or a duration is not positive.

    >>> stretched_by_score_index(np.array([1.0, 2.0, 1.0]), 8).tolist()
    [0, 0, 1, 1, 1, 1, 2, 2]
    """
    target_count = len(durations_quarters)
    _at_least_one(target_count=target_count, frame_count=frame_count)
    if not (np.isfinite(durations_quarters) & (durations_quarters > 0)).all():
        raise InputError("durations_quarters: a value is not positive and finite; every target lasts longer than 0.")
    ends = np.cumsum(durations_quarters, dtype=np.float64)
    # The first frame at or after a target's beginning shows it; the tolerance keeps rounding from moving it by a frame.
    first_frames = np.ceil(np.concatenate([[0.0], ends[:-1]]) / ends[-1] * frame_count - 1e-9).astype(np.int64)
    if frame_count >= target_count:
        places = np.arange(target_count)
        first_frames = np.maximum.accumulate(first_frames - places) + places
        first_frames = np.minimum(first_frames, frame_count - target_count + places)
    return np.searchsorted(first_frames, np.arange(frame_count), side="right") - 1


def strong_targets(
    performed: PerformedNotes, frame_count: int, frames_per_second: float, outputs: int
) -> UInt8[np.ndarray, "frames outputs"]:
    """The frame-wise truth of a performance: frame t, at t / frames_per_second, is on if onset <= its time < offset.

    A note too short to hold a frame's time turns on the frame nearest to it. Notes outside the frames are left out.

    Shape: (N, K)

    Raises:
        InputError: `outputs` is neither 12 nor 72, there is no frame, or the frame rate is not positive.

    >>> notes = PerformedNotes(np.array([0.25]), np.array([0.55]), np.array([60]), np.array([np.nan]))
    >>> strong_targets(notes, frame_count=8, frames_per_second=10.0, outputs=12)[:, 0].tolist()
    [0, 0, 0, 1, 1, 1, 0, 0]
    """
    _at_least_one(frame_count=frame_count)
    if not (np.isfinite(frames_per_second) and frames_per_second > 0):
        raise InputError(f"frames_per_second: {frames_per_second}; it must be positive.")
    column, kept = _output_of_pitch(performed.pitches, outputs)
    onsets, offsets = performed.onsets_seconds[kept], performed.offsets_seconds[kept]
    # Two frames past the end decide whether a short note belongs to the last frame or to none.
    frame_times = np.arange(frame_count + 2) / frames_per_second
    first = np.searchsorted(frame_times, onsets, side="left")
    last = np.searchsorted(frame_times, offsets, side="left")
    missed = np.flatnonzero((first == last) & (first < len(frame_times)))
    earlier = np.maximum(first[missed] - 1, 0)
    nearer_before = onsets[missed] - frame_times[earlier] < frame_times[first[missed]] - offsets[missed]
    first[missed] = np.where(nearer_before, earlier, first[missed])
    last[missed] = first[missed] + 1
    return _filled(first, last, column, frame_count, outputs)


def transpose_targets(values: Shaped[np.ndarray, "*rows outputs"], semitones: int) -> Shaped[np.ndarray, "*rows outputs"]:
    """Targets `semitones` higher: 12 outputs go round, 72 shift and what leaves them is lost, what enters them is zero.

    Raises:
        InputError: the last axis is neither 12 nor 72 long.

    >>> transpose_targets(np.eye(12, dtype=np.uint8)[[11]], 2).nonzero()[1].tolist()
    [1]
    """
    outputs = values.shape[-1]
    _check_outputs(outputs)
    shifted = np.roll(values, semitones, axis=-1)
    if outputs == 72:
        vacated = slice(0, min(semitones, 72)) if semitones >= 0 else slice(max(72 + semitones, 0), 72)
        shifted[..., vacated] = 0
    return shifted


def _filled(first: np.ndarray, last: np.ndarray, column: np.ndarray, rows: int, outputs: int) -> np.ndarray:
    """Ones in rows [first, last) of each note's column, cut off at `rows`."""
    steps = np.zeros((rows + 1, outputs), dtype=np.int32)
    np.add.at(steps, (np.minimum(first, rows), column), 1)
    np.add.at(steps, (np.minimum(last, rows), column), -1)
    return (np.cumsum(steps, axis=0)[:-1] > 0).astype(np.uint8)


def _output_of_pitch(pitches: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The output of every pitch that has one, and a mask of which pitches those are."""
    _check_outputs(outputs)
    if outputs == 12:
        return pitches % 12, np.ones(len(pitches), dtype=bool)
    kept = (pitches >= LOWEST_PITCH) & (pitches < LOWEST_PITCH + outputs)
    return pitches[kept] - LOWEST_PITCH, kept


def _check_outputs(outputs: int) -> None:
    if outputs not in (12, 72):
        raise InputError(f"outputs: {outputs}; give 12 (pitch classes) or 72 (MIDI pitches 24-95).")


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name}: {count}; at least 1 is needed.")
