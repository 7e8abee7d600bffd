"""Targets as published systems make them: from performed notes, cut into frames (`source=performance`).

They leak when and how long notes were played, so they are for reproducing published tables; `softscribe.scores.targets` makes targets
from the written score. Here a matrix is (frames, outputs); the published files hold its transpose.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from softscribe.errors import InputError
from softscribe.scores.notes import PerformedNotes
from softscribe.scores.targets import LOWEST_PITCH


def published_strong(
    performed: PerformedNotes, frame_count: int, frames_per_second: float, outputs: int
) -> UInt8[np.ndarray, "frames outputs"]:
    """The published piano roll: a note fills the frames [floor(onset x rate), floor(offset x rate)).

    A note that vanishes that way gets one frame, and what would begin or end at that frame does so one later: the notes after it keep their
    place in the order. `strong_targets` asks whether a frame's TIME lies inside the note; this begins a note up to a frame earlier.

    Source: `compute_annotation_array_nooverlap` of the multi-pitch and pitch-class systems of Weiss et al. (WASPAA, ISMIR 2021).

    Shape: (N, K)

    Raises:
        InputError: `outputs` is neither 12 nor 72, there is no frame, or the frame rate is not positive.

    >>> notes = PerformedNotes(np.array([0.0, 0.31, 0.36]), np.array([0.3, 0.36, 0.6]), np.array([60, 62, 64]), np.full(3, np.nan))
    >>> [frame.nonzero()[0].tolist() for frame in published_strong(notes, 7, 10.0, 12)]
    [[0], [0], [0], [0, 2], [4], [4], []]
    """
    if outputs not in (12, 72):
        raise InputError(f"outputs: {outputs}; give 12 (pitch classes) or 72 (MIDI pitches 24-95).")
    if frame_count < 1 or not (np.isfinite(frames_per_second) and frames_per_second > 0):
        raise InputError(f"frame_count: {frame_count}, frames_per_second: {frames_per_second}; both must be positive.")
    first = np.floor(performed.onsets_seconds * frames_per_second).astype(np.int64)
    last = np.floor(performed.offsets_seconds * frames_per_second).astype(np.int64)
    vanished = last - first < 1
    for frame in np.unique(last[vanished]):
        first[first == frame] += 1
        last[last == frame] += 1
    first[vanished] -= 1
    first[last - first < 1] -= 1
    roll = np.zeros((frame_count, 128), dtype=np.uint8)
    for start, end, pitch in zip(first, last, performed.pitches, strict=True):
        roll[max(start, 0) : max(end, 0), pitch] = 1
    if outputs == 72:
        return roll[:, LOWEST_PITCH : LOWEST_PITCH + 72].copy()
    octaves = np.pad(roll, ((0, 0), (0, 4))).reshape(frame_count, 11, 12)
    return octaves.max(axis=1)


def published_unique(strong: UInt8[np.ndarray, "frames outputs"]) -> UInt8[np.ndarray, "targets outputs"]:
    """The published weak targets: the first frame of a strong roll, and every frame that differs from the one before it.

    >>> published_unique(np.array([[0, 1], [0, 1], [0, 0], [0, 1]], dtype=np.uint8)).tolist()
    [[0, 1], [0, 0], [0, 1]]
    """
    return strong[np.concatenate([[True], (strong[1:] != strong[:-1]).any(axis=1)])] if len(strong) else strong


def published_stretched(unique: UInt8[np.ndarray, "targets outputs"], frame_count: int) -> UInt8[np.ndarray, "frames outputs"]:
    """The published stretched targets: frame n shows the target at place n of linspace(0, M, N, endpoint=False), rounded down.

    In floating point, as published: where n M / N is a whole number, rounding may leave the frame with the target before it, unlike
    `stretched_index`.

    Raises:
        InputError: there is no target or no frame.

    >>> published_stretched(np.eye(2, dtype=np.uint8), 5).argmax(axis=1).tolist()
    [0, 0, 0, 1, 1]
    """
    if len(unique) < 1 or frame_count < 1:
        raise InputError(f"unique: {len(unique)} targets, frame_count: {frame_count}; at least 1 of each is needed.")
    return unique[np.linspace(0, len(unique), frame_count, endpoint=False).astype(np.int64)]
