"""What a pair's recording and score say about pitch classes, at the low frame rate in which doubtful pairs are looked for."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from softscribe.corpora import PreparedRecording, Segment
from softscribe.corpora.coarse_alignment import score_chroma
from softscribe.errors import InputError
from softscribe.scores import Score
from softscribe.sound import HcqtSettings, compress

AUDIT_FRAMES_PER_SECOND = 10.0
LARGEST_FRAME_COUNT = 500
"""Longer segments are averaged over more frames, so that an audit's time grows with their number, and not with their length."""

FINE_FRAME_COUNT = 1500
"""Of those that are doubtful then, and looked at again: averages of a second and more blur what they show, and sound pairs cost more."""

OVERTONE_SHARE = 0.2
"""How much of a written note's weight its third harmonic gets, 7 semitones above: what chroma of any sustained tone shows."""

FLAT_SHARE = 0.3
"""A frame whose contrast between pitch classes is below this share of the median says little, and gets less than a full direction."""

Activations = Callable[[Float[np.ndarray, "frames channels bins"]], Float[np.ndarray, "frames outputs"]]
"""What a trained model makes of linear magnitudes; 12 or 72 outputs."""


def heard_directions(
    prepared: PreparedRecording,
    segment: Segment,
    settings: HcqtSettings,
    activations_of: Activations | None = None,
    largest_frame_count: int = LARGEST_FRAME_COUNT,
) -> Float32[np.ndarray, "offsets frames 12"]:
    """Return which pitch classes a segment of a recording shows, once for each tuning offset.

    Without a model they are the energies of the HCQT's first harmonic, compressed by log(1 + 10 x) and added up over octaves; the lowest
    octave, whose filters last over a second, is left out. With one they are its activations.

    Args:
        prepared: the recording.
        segment: one of its segments.
        settings: of its features.
        activations_of: a model's predictions, in place of the energies.
        largest_frame_count: of what is returned.

    Returns:
        Vectors of mean 0 and length at most 1: their products are correlations. Offset o, counted from the middle one, reads the recording
        o bins higher: as if it were tuned that much higher than the store believes. Shape: (bins per semitone, N, 12)

    Raises:
        InputError: the features lack the first harmonic, or hold a value that is not finite.
    """
    if 1 not in settings.harmonics:
        raise InputError(f"features: harmonics {settings.harmonics}. Remedy: prepare with harmonic 1, which the audit reads.")
    first = round(segment.start_seconds * prepared.frames_per_second)
    count = max(1, round(segment.end_seconds * prepared.frames_per_second) - first)
    pooled = max(round(prepared.frames_per_second / AUDIT_FRAMES_PER_SECOND), -(-count // largest_frame_count), 1)
    magnitudes = np.asarray(prepared.features[first : first + count])
    if not len(magnitudes) or not np.isfinite(magnitudes).all():
        raise InputError(f"{prepared.features_path}: no finite features in segment {segment.name}. Remedy: run `softscribe prepare` again.")
    if activations_of is None:
        energies = _energies(magnitudes, settings)
    else:
        offsets = range(-(settings.bins_per_semitone // 2), settings.bins_per_semitone // 2 + 1)
        energies = np.stack([_folded(activations_of(_read_higher(magnitudes, offset))) for offset in offsets])
    return _directions(_pooled(energies, pooled))


def written_directions(score: Score, frame_count: int) -> Float32[np.ndarray, "frames 12"]:
    """Return which pitch classes a score shows in each of `frame_count` equal parts, as vectors like those of `heard_directions`.

    >>> score = Score(np.array([0.0]), np.array([1.0]), np.array([60]), np.array([0]), end_quarters=2.0)
    >>> written = written_directions(score, 2)
    >>> int(written[0].argmax()), written[1].any()
    (0, np.False_)
    """
    chroma = score_chroma(score, frame_count).T
    return _directions((chroma + OVERTONE_SHARE * np.roll(chroma, 7, axis=1)).astype(np.float32))


def _energies(magnitudes: Float[np.ndarray, "frames channels bins"], settings: HcqtSettings) -> Float32[np.ndarray, "offsets frames 12"]:
    values = compress(magnitudes[:, settings.harmonics.index(1)])
    by_octave = values.reshape(len(values), settings.octaves, 12, settings.bins_per_semitone)
    energies = by_octave[:, min(1, settings.octaves - 1) :].sum(axis=1)
    return np.roll(np.moveaxis(energies, 2, 0), settings.minimum_midi % 12, axis=2)


def _read_higher(magnitudes: Float[np.ndarray, "frames channels bins"], bins: int) -> Float[np.ndarray, "frames channels bins"]:
    """The features moved down by so many bins; what enters at the edge is silence."""
    moved = np.roll(magnitudes, -bins, axis=2)
    moved[:, :, slice(magnitudes.shape[2] - bins, None) if bins > 0 else slice(0, -bins)] = 0
    return moved


def _folded(activations: Float[np.ndarray, "frames outputs"]) -> Float[np.ndarray, "frames 12"]:
    """Pitch classes: the largest over octaves. The first of 72 outputs is a C."""
    return activations.reshape(len(activations), -1, 12).max(axis=1)


def _pooled(energies: Float[np.ndarray, "offsets frames 12"], frames: int) -> Float[np.ndarray, "offsets pooled 12"]:
    """Means over so many frames; those left over at the end join the last."""
    starts = np.arange(max(1, energies.shape[1] // frames)) * frames
    lengths = np.diff(np.append(starts, energies.shape[1]))
    return np.add.reduceat(energies, starts, axis=1) / lengths[:, None]


def _directions(vectors: Float[np.ndarray, "*rows 12"]) -> Float32[np.ndarray, "*rows 12"]:
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    sounding = lengths[lengths > 1e-6 * max(float(lengths.max()), 1e-9)]
    if not len(sounding):
        return np.zeros(vectors.shape, np.float32)
    directions: Float32[np.ndarray, "*rows 12"] = (centred / np.maximum(lengths, FLAT_SHARE * np.median(sounding))).astype(np.float32)
    return directions
