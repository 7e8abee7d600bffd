"""What the features say by themselves: the pitches of the constant-Q transform, without learning."""

import numpy as np
from jaxtyping import Float, Float32

from softscribe.errors import InputError
from softscribe.sound import HcqtSettings

_LOWEST_PITCH, _PITCHES = 24, 72


def chroma_baseline(
    magnitudes: Float[np.ndarray, "frames channels bins"], outputs: int, settings: HcqtSettings
) -> Float32[np.ndarray, "frames outputs"]:
    """Return activations in [0, 1] from the first harmonic's channel: each semitone's middle bin, divided by the frame's largest.

    For 12 outputs the octaves of a pitch class are added up first. Digital silence gives zeros; any other frame reaches 1. This is the
    published "CQT chroma, max-norm" (F .58 on Schubert's Winterreise, pitches .43); its threshold has to be tuned like a model's.

    Args:
        magnitudes: linear, as `hcqt` returns and the feature store keeps them. Shape: (N, C, bins)
        outputs: 12 or 72.
        settings: of the features.

    Raises:
        InputError: `outputs` is neither, or the features lack the first harmonic or a pitch from MIDI 24 to 95.

    >>> magnitudes = np.zeros((1, 6, 216), np.float32)
    >>> magnitudes[0, 1, [1, 37, 13]] = 1, 1, 1  # C1, C2 and E1
    >>> chroma_baseline(magnitudes, 12, HcqtSettings())[0].nonzero()[0].tolist(), chroma_baseline(magnitudes, 12, HcqtSettings())[0, 4]
    ([0, 4], np.float32(0.5))
    """
    if outputs not in (12, _PITCHES):
        raise InputError(f"outputs: {outputs}. Remedy: choose 12 (pitch classes) or 72 (MIDI 24-95).")
    highest = settings.minimum_midi + 12 * settings.octaves
    if 1 not in settings.harmonics or settings.minimum_midi > _LOWEST_PITCH or highest < _LOWEST_PITCH + _PITCHES:
        has = f"harmonics {settings.harmonics} from MIDI {settings.minimum_midi} to {highest - 1}"
        raise InputError(f"features: {has}. Remedy: the baseline needs harmonic 1 and MIDI 24 to 95.")
    if magnitudes.shape[1:] != (settings.channels, settings.bins):
        fitting = (settings.channels, settings.bins)
        raise InputError(
            f"magnitudes: shape {magnitudes.shape}, {fitting} are the settings' channels and bins. Remedy: give both of one kind."
        )
    middle = settings.bins_per_semitone // 2
    semitones = magnitudes[:, settings.harmonics.index(1), middle :: settings.bins_per_semitone].astype(np.float32)
    pitches = semitones[:, _LOWEST_PITCH - settings.minimum_midi :][:, :_PITCHES]
    if outputs == 12:  # MIDI 24 is a C
        pitches = pitches.reshape(len(pitches), -1, 12).sum(axis=1)
    largest = pitches.max(axis=1, keepdims=True)
    activations: Float32[np.ndarray, "frames outputs"] = pitches / np.where(largest > 0, largest, 1)
    return activations
