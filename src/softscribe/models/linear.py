"""The smallest model: what a frame's own bins say, weighed by one linear layer, and how that develops over time."""

from jaxtyping import Float
from torch import Tensor, nn

from softscribe.errors import InputError
from softscribe.models.mcnn import BINS_PER_SEMITONE, CONTEXT_FRAMES, OUTPUTS, PITCHES


class Linear(nn.Module):
    """Estimate pitches or pitch classes by one linear layer per frame and one convolution over time per output.

    A baseline, and a model for experiments with the training itself: a step takes milliseconds.

    Args:
        in_channels: harmonics of the HCQT.
        outputs: 72 for the pitches MIDI 24-95, 12 for pitch classes.
        frames: over how many frames the convolution goes, odd, up to 75; 1 for none.

    Raises:
        InputError: an argument is outside its range.

    Shape:
        input: (B, in_channels, N + 2 * CONTEXT_FRAMES, 216), log-compressed magnitudes
        output: (B, N, outputs), logits

    >>> import torch
    >>> Linear(in_channels=6, outputs=12)(torch.zeros(2, 6, 100 + 2 * CONTEXT_FRAMES, 216)).shape
    torch.Size([2, 100, 12])
    """

    def __init__(self, in_channels: int, outputs: int, frames: int = 1) -> None:
        super().__init__()
        if outputs not in OUTPUTS:
            raise InputError(f"outputs: {outputs} is not possible. Remedy: 12 (pitch classes) or 72 (pitches).")
        if frames not in range(1, 2 * CONTEXT_FRAMES + 2, 2):
            raise InputError(f"frames: {frames} is not possible. Remedy: an odd number from 1 to {2 * CONTEXT_FRAMES + 1}.")
        self.receptive_field_frames = frames
        self.unused_frames = CONTEXT_FRAMES - frames // 2
        shape = [in_channels, PITCHES * BINS_PER_SEMITONE]
        self.normalisation = nn.LayerNorm(shape)
        self.per_frame = nn.Linear(shape[0] * shape[1], outputs)
        self.over_time = nn.Conv1d(outputs, outputs, frames, groups=outputs) if frames > 1 else nn.Identity()

    def forward(self, features: Float[Tensor, "B C T F"]) -> Float[Tensor, "B N K"]:
        """Return the logits of the N = T - 2 * CONTEXT_FRAMES frames that have full context."""
        seen = features[:, :, self.unused_frames : features.shape[2] - self.unused_frames].transpose(1, 2)
        logits = self.per_frame(self.normalisation(seen).flatten(start_dim=2))
        return self.over_time(logits.mT).mT
