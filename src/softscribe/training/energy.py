"""An auxiliary loss: what a network says against what its own input holds, at the same frame.

An alignment finds a path for predictions that are late as a whole, and for such as follow the diagonal. The energy of the input cannot be
moved: for as long as this loss has a weight it ties every frame's prediction to that frame. It takes overtones for notes and knows nothing
of loudness, so it should end before the network knows better.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES
from softscribe.models.mcnn import BINS_PER_SEMITONE, PITCHES
from softscribe.sound import HcqtSettings

KNOWN_FEATURES = {"minimum_midi": 24, "octaves": PITCHES // 12, "bins_per_semitone": BINS_PER_SEMITONE}
"""Bins from C1 on: then the first output is a C."""


def check_energy_features(settings: HcqtSettings) -> None:
    """Check that bins lie where `note_energy` looks for them.

    Raises:
        InputError: they do not, so that it would take one pitch for another.

    >>> check_energy_features(HcqtSettings(minimum_midi=22))
    Traceback (most recent call last):
    softscribe.errors.InputError: loss.energy: knows features with minimum_midi 24, not 22. Remedy: such features, or loss.energy=0.
    """
    for name, known in KNOWN_FEATURES.items():
        if (value := getattr(settings, name)) != known:
            raise InputError(f"loss.energy: knows features with {name} {known}, not {value}. Remedy: such features, or loss.energy=0.")


def note_energy(features: Float[Tensor, "B C T F"], outputs: int) -> Float[Tensor, "B N K"]:
    """Return how much of each pitch, or pitch class, a network's input holds at its frames, above the frame's average.

    The mean over the channels adds up the harmonics of a pitch (harmonic summation; D. J. Hermes, "Measurement of pitch by subharmonic
    summation", 1988), of which the largest bin of each semitone is taken.

    Shape: features (B, C, N + 2 * CONTEXT_FRAMES, bins), log-compressed, of `KNOWN_FEATURES`

    >>> features = torch.zeros(1, 6, 3 + 2 * CONTEXT_FRAMES, 216)
    >>> features[:, :, :, 3 * 36 + 1] = 1  # C4, 36 semitones above C1
    >>> note_energy(features, 12)[0, 0].argmax()
    tensor(0)
    """
    bins = features[:, :, CONTEXT_FRAMES:-CONTEXT_FRAMES].float().mean(dim=1)
    energy = bins.unflatten(2, (PITCHES, BINS_PER_SEMITONE)).amax(dim=3)
    if outputs < PITCHES:
        energy = energy.unflatten(2, (PITCHES // outputs, outputs)).sum(dim=2)
    return (energy - energy.mean(dim=2, keepdim=True)).clamp(min=0)


def energy_loss(logits: Float[Tensor, "B N K"], features: Float[Tensor, "B C T F"], frame_counts: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return 1 - the cosine between activations and `note_energy`, the mean over each item's frames, in [0, 1]; silent frames cost nothing.

    >>> features = torch.rand(1, 6, 3 + 2 * CONTEXT_FRAMES, 216)
    >>> alike = note_energy(features, 12).clamp(min=1e-6, max=1 - 1e-6).logit()
    >>> bool(energy_loss(alike, features, torch.tensor([3])) < 1e-3 < energy_loss(-alike, features, torch.tensor([3])))
    True
    """
    energy = note_energy(features, logits.shape[2])
    cosine = torch.nn.functional.cosine_similarity(logits.float().sigmoid(), energy, dim=2)
    frames = torch.arange(logits.shape[1], device=logits.device)
    counts = (frames < frame_counts[:, None]) & (energy.amax(dim=2) > 0)
    return torch.where(counts, 1 - cosine, 0.0).sum(dim=1) / frame_counts
