"""The musically motivated convolutional network (MCNN) that estimates pitches or pitch classes frame by frame."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softscribe.errors import InputError

CONTEXT_FRAMES = 37
"""Frames of context that the network takes on each side of the frames it describes."""

RECEPTIVE_FIELD_FRAMES = 105
"""Input frames that can change one output frame, at most: 75 of the time reduction, and 30 of what precedes it (15 + 3 + 3 + 13, each less
one)."""

LONGEST_POOLING_FRAMES = 13
PREFILTER_FRAMES = 512
BINS_PER_SEMITONE = 3
PITCHES = 72
OUTPUTS = (12, PITCHES)


def has_fast_bfloat16() -> bool:
    """Whether networks are fastest in bfloat16 with channels last, here: on a GPU, or a CPU with AVX-512.

    On other CPUs torch computes both without kernels of their own, a step of training taking 7 to 20 times as long as in float32 with
    channels first (docs/benchmarks.md).

    >>> has_fast_bfloat16() in (True, False)
    True
    """
    return torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"


class Prefilter(nn.Conv2d):
    """A convolution that takes a long input in pieces along time, with the same result.

    torch's library for CPUs (oneDNN) has a fast kernel for channels that are no multiple of 8 only as long as its scratch stays below a
    gigabyte. Beyond that, from 16 s of music on, it takes 25 times as long, without a word (docs/benchmarks.md).

    Shape: (B, C, T, F) -> (B, channels, T, F)
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or input.shape[2] <= PREFILTER_FRAMES:
            return super().forward(input)
        rows, columns = (size // 2 for size in self.kernel_size)
        padded = nn.functional.pad(input, (0, 0, rows, rows))
        pieces = (padded[:, :, start : start + PREFILTER_FRAMES + 2 * rows] for start in range(0, input.shape[2], PREFILTER_FRAMES))
        return torch.cat([nn.functional.conv2d(piece, self.weight, self.bias, padding=(0, columns)) for piece in pieces], dim=2)


class Mcnn(nn.Module):
    """Estimate which of 72 pitches or 12 pitch classes sound in each frame of an HCQT.

    The layers follow the musical meaning of the axes: a normalisation of each frame, a prefilter of 15 frames x 15 bins, a binning of
    three bins to a semitone, a reduction over 75 frames, and a combination of the channels. Source: C. Weiss, J. Zeitler, T. Zunner,
    F. Schuberth, M. Mueller, "Learning pitch-class representations from score-audio pairs of classical music", ISMIR 2021.

    Args:
        in_channels: harmonics of the HCQT (6, or 5).
        outputs: 72 for the pitches MIDI 24-95, 12 for pitch classes.
        channels: feature maps of the four stages. On a CPU multiples of 8 are several times faster than other counts.
        dropout: probability of dropping an activation in training, in [0, 1).
        reduction_frames: over how many frames the time reduction goes, odd, up to 75. The fewer a network sees, the less it can shift what
            it says in time.
        pooling_frames: over how many frames the maximum before it goes, odd, up to 13.

    Raises:
        InputError: an argument is outside its range.

    Shape:
        input: (B, in_channels, N + 2 * CONTEXT_FRAMES, 216), log-compressed magnitudes
        output: (B, N, outputs), logits

    >>> model = Mcnn(in_channels=6, outputs=12)
    >>> sum(parameter.numel() for parameter in model.parameters())
    48315
    >>> model(torch.zeros(2, 6, 100 + 2 * CONTEXT_FRAMES, 216)).shape
    torch.Size([2, 100, 12])
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        channels: tuple[int, int, int, int] = (20, 20, 10, 1),
        dropout: float = 0.2,
        reduction_frames: int = 2 * CONTEXT_FRAMES + 1,
        pooling_frames: int = LONGEST_POOLING_FRAMES,
    ) -> None:
        super().__init__()
        if outputs not in OUTPUTS:
            raise InputError(f"outputs: {outputs} is not possible. Remedy: 12 (pitch classes) or 72 (pitches).")
        if len(channels) != 4 or min(channels) < 1:
            raise InputError(f"channels: {list(channels)} is not possible. Remedy: four positive numbers, such as [20, 20, 10, 1].")
        if in_channels < 1:
            raise InputError(f"in_channels: {in_channels} is not possible. Remedy: the number of harmonics of the HCQT, such as 6.")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout: {dropout} is not possible. Remedy: a probability of at least 0 and below 1, such as 0.2.")
        for name, frames, most in (
            ("reduction_frames", reduction_frames, 2 * CONTEXT_FRAMES + 1),
            ("pooling_frames", pooling_frames, LONGEST_POOLING_FRAMES),
        ):
            if frames not in range(1, most + 1, 2):
                raise InputError(f"{name}: {frames} is not possible. Remedy: an odd number from 1 to {most}.")
        prefilter, binning, reduction, combination = channels
        self.in_channels = in_channels
        self.outputs = outputs
        self.receptive_field_frames = reduction_frames + pooling_frames + 17
        self.unused_frames = CONTEXT_FRAMES - reduction_frames // 2
        self.normalisation = nn.LayerNorm([in_channels, PITCHES * BINS_PER_SEMITONE])
        self.prefilter = nn.Sequential(
            Prefilter(in_channels, prefilter, kernel_size=(15, 15), padding=(7, 7)),
            nn.LeakyReLU(0.3),
            nn.MaxPool2d(kernel_size=(3, 1), stride=1, padding=(1, 0)),
            nn.Dropout(dropout),
        )
        self.binning = nn.Sequential(
            nn.Conv2d(prefilter, binning, kernel_size=(3, 3), stride=(1, BINS_PER_SEMITONE), padding=(1, 0)),
            nn.LeakyReLU(0.3),
            nn.MaxPool2d(kernel_size=(pooling_frames, 1), stride=1, padding=(pooling_frames // 2, 0)),
            nn.Dropout(dropout),
        )
        self.time_reduction = nn.Sequential(
            nn.Conv2d(binning, reduction, kernel_size=(reduction_frames, 1)),
            nn.LeakyReLU(0.3),
            nn.Dropout(dropout),
        )
        self.combination = nn.Sequential(
            nn.Conv2d(reduction, combination, kernel_size=1),
            nn.LeakyReLU(0.3),
            nn.Dropout(dropout),
            nn.Conv2d(combination, 1, kernel_size=(1, PITCHES + 1 - outputs)),
        )
        self.layout = torch.channels_last if has_fast_bfloat16() else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]  # missing from torch's stubs

    def forward(self, features: Float[Tensor, "B C T F"]) -> Float[Tensor, "B N K"]:
        """Return the logits of the N = T - 2 * CONTEXT_FRAMES frames that have full context."""
        bins = PITCHES * BINS_PER_SEMITONE
        if features.shape[1] != self.in_channels or features.shape[3] != bins or features.shape[2] <= 2 * CONTEXT_FRAMES:
            raise InputError(
                f"features: shape {tuple(features.shape)} does not fit this model. "
                f"Remedy: (items, {self.in_channels} channels, more than {2 * CONTEXT_FRAMES} frames, {bins} bins)."
            )
        features = features[:, :, self.unused_frames : features.shape[2] - self.unused_frames]
        normalised = self.normalisation(features.transpose(1, 2)).transpose(1, 2)
        hidden = normalised.contiguous(memory_format=self.layout)
        logits = self.combination(self.time_reduction(self.binning(self.prefilter(hidden))))
        return logits.squeeze(1)
