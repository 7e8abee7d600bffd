"""From activations to notes: a note is a run of frames in which an output is active."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes
from softscribe.scores.targets import LOWEST_PITCH

PITCH_CLASS_OCTAVE = 60
"""Pitch classes are written as the MIDI pitches 60-71: a model of 12 outputs does not know the octave."""


def output_pitches(outputs: int) -> Int[np.ndarray, " outputs"]:
    """Return the MIDI pitch of each output: 24-95 for 72 outputs, 60-71 (pitch classes in one octave, C first) for 12.

    Raises:
        InputError: `outputs` is neither 12 nor 72.

    >>> output_pitches(12).tolist()
    [60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71]
    """
    if outputs not in (12, 72):
        raise InputError(f"outputs: {outputs}. Remedy: 12 (pitch classes) or 72 (MIDI pitches 24-95).")
    return np.arange(outputs) + (PITCH_CLASS_OCTAVE if outputs == 12 else LOWEST_PITCH)


@dataclass(frozen=True, eq=False)
class TranscribedNotes:
    """Notes that a model found, sorted by onset, then pitch.

    Attributes:
        onsets_seconds, offsets_seconds: when each note begins and ends, from the start of the recording. Shape: (notes,)
        pitches: MIDI pitch; pitch classes are 60-71. Shape: (notes,)
        velocities: 1-127, the mean activation of the note times 127: how sure the model is, which is not how loud the note is.
            Shape: (notes,)
    """

    onsets_seconds: Float[np.ndarray, " notes"]
    offsets_seconds: Float[np.ndarray, " notes"]
    pitches: Int[np.ndarray, " notes"]
    velocities: Int[np.ndarray, " notes"]

    def __len__(self) -> int:
        """How many notes there are."""
        return len(self.pitches)

    def as_performed(self) -> PerformedNotes:
        """Return the same notes in the form that evaluation compares, without velocities; their place in a score is not known."""
        return PerformedNotes(self.onsets_seconds, self.offsets_seconds, self.pitches, np.full(len(self), np.nan))


def decode_notes(
    activations: Float[np.ndarray, "frames outputs"],
    threshold: float,
    frames_per_second: float,
    *,
    minimum_duration_seconds: float = 0.06,
    maximum_gap_seconds: float = 0.03,
) -> TranscribedNotes:
    """Return the notes of a recording: runs of frames in which an output is at least `threshold`.

    A gap of at most `maximum_gap_seconds` inside a run is closed first; then runs shorter than `minimum_duration_seconds` are dropped. A
    run of frames [a, b) sounds from a / frames_per_second to b / frames_per_second, the reverse of `scores.strong_targets`. The models
    know no onsets: a note that is struck again without a gap stays one note.

    Args:
        activations: in [0, 1].
        threshold: in [0, 1].
        frames_per_second: > 0.
        minimum_duration_seconds: >= 0; the default is three frames at 43.07 frames per second.
        maximum_gap_seconds: >= 0; the default is one frame.

    Shape:
        activations: (N, K), K = 12 or 72

    Raises:
        InputError: an argument is outside its range, or an activation is NaN.

    >>> activations = np.zeros((10, 12), np.float32)
    >>> activations[2:8, 9] = 0.5
    >>> notes = decode_notes(activations, 0.4, frames_per_second=10)
    >>> notes.onsets_seconds.tolist(), notes.offsets_seconds.tolist(), notes.pitches.tolist(), notes.velocities.tolist()
    ([0.2], [0.8], [69], [64])
    """
    _check(activations, threshold, frames_per_second, minimum_duration_seconds, maximum_gap_seconds)
    pitch_of_output = output_pitches(activations.shape[1])
    # Rounding must not decide about a run that lasts exactly as long as asked.
    minimum_frames = int(np.ceil(minimum_duration_seconds * frames_per_second - 1e-6))
    gap_frames = int(np.floor(maximum_gap_seconds * frames_per_second + 1e-6))
    active = np.pad((activations >= threshold).astype(np.int8), ((1, 1), (0, 0)))
    changes = np.diff(active, axis=0).T
    output, start = np.nonzero(changes == 1)
    end = np.nonzero(changes == -1)[1]
    if len(output):
        separate = (output[1:] != output[:-1]) | (start[1:] - end[:-1] > gap_frames)
        first, last = np.concatenate([[True], separate]), np.concatenate([separate, [True]])
        output, start, end = output[first], start[first], end[last]
    kept = end - start >= minimum_frames
    output, start, end = output[kept], start[kept], end[kept]
    order = np.lexsort((output, start))
    output, start, end = output[order], start[order], end[order]
    total = np.concatenate([np.zeros((1, activations.shape[1])), np.cumsum(activations, axis=0, dtype=np.float64)])
    mean = (total[end, output] - total[start, output]) / (end - start)
    return TranscribedNotes(
        onsets_seconds=start / frames_per_second,
        offsets_seconds=end / frames_per_second,
        pitches=pitch_of_output[output],
        velocities=np.clip(np.rint(127 * mean), 1, 127).astype(np.int64),
    )


def _check(
    activations: Float[np.ndarray, "frames outputs"], threshold: float, frames_per_second: float, minimum_seconds: float, gap_seconds: float
) -> None:
    # Written this way round because NaN compares false with everything.
    if not (activations >= 0).all() or not (activations <= 1).all():
        raise InputError("activations: values outside [0, 1]. Remedy: give probabilities, such as `predict` returns, not logits.")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: {threshold}. Remedy: a number from 0 to 1.")
    if not 0 < frames_per_second < np.inf:
        raise InputError(f"frames_per_second: {frames_per_second}. Remedy: a positive number.")
    for name, value in (("minimum_duration_seconds", minimum_seconds), ("maximum_gap_seconds", gap_seconds)):
        if not 0 <= value < np.inf:
            raise InputError(f"{name}: {value}. Remedy: a number of seconds, at least 0.")
