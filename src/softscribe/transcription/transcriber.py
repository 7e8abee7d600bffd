"""A trained model at work: recording -> samples -> magnitudes -> activations -> notes, entered at any of these steps."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int
from torch import nn

from softscribe.errors import InputError
from softscribe.models import load_model
from softscribe.sound import HcqtSettings, hcqt, read_audio
from softscribe.transcription.activations import predict
from softscribe.transcription.notes import TranscribedNotes, decode_notes, output_pitches


@dataclass(frozen=True, eq=False)
class Transcription:
    """What a model hears in a recording.

    Attributes:
        activations: how sure the model is that each output sounds, in [0, 1]; frame t belongs to t / frames_per_second seconds.
            Shape: (frames, outputs)
        frames_per_second: frame rate in Hz.
        threshold: the activation from which an output counts as sounding, in [0, 1].
    """

    activations: Float32[np.ndarray, "frames outputs"]
    frames_per_second: float
    threshold: float

    @property
    def outputs(self) -> int:
        """12 pitch classes, or 72 pitches."""
        return self.activations.shape[1]

    @property
    def pitches(self) -> Int[np.ndarray, " outputs"]:
        """The MIDI pitch of each output; 60-71 for pitch classes."""
        return output_pitches(self.outputs)

    def notes(self) -> TranscribedNotes:
        """Return the notes, decoded as `decode_notes` does by default."""
        return decode_notes(self.activations, self.threshold, self.frames_per_second)


@dataclass(frozen=True, eq=False)
class Transcriber:
    """A model with all that its use needs. Every step of the ladder returns what the next one takes; `from_audio` climbs it whole.

    Attributes:
        model: see `predict`.
        settings: of the HCQT that it was trained on.
        threshold: the activation from which an output counts as sounding, in [0, 1].
        time_shift_frames: by how many frames the model is late; negative if it is early.

    Raises:
        InputError: a number is outside its range.

    >>> from softscribe.models import Mcnn
    >>> transcriber = Transcriber(Mcnn(in_channels=6, outputs=12, channels=(8, 8, 8, 1)), HcqtSettings(), threshold=0.5)
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    >>> transcriber.from_samples(tone).activations.shape
    (44, 12)
    """

    model: nn.Module
    settings: HcqtSettings
    threshold: float
    time_shift_frames: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold: {self.threshold}. Remedy: a number from 0 to 1.")
        if not math.isfinite(self.time_shift_frames):
            raise InputError(f"time_shift_frames: {self.time_shift_frames}. Remedy: a finite number of frames.")

    @classmethod
    def load(cls, model_folder: Path | str) -> "Transcriber":
        """Read a model folder (`weights.safetensors` and `card.json`); nothing in it is executed.

        Raises:
            InputError: a file is missing or broken; the text names it.
        """
        folder = Path(model_folder)
        model, card = load_model(folder)
        try:
            settings = HcqtSettings.from_dict(card["features"])
        except InputError as error:
            raise InputError(f"{folder / 'card.json'}: {error}") from error
        return cls(model, settings, float(card["threshold"]), float(card["time_shift_frames"]))

    def from_audio(self, path: Path | str) -> Transcription:
        """Transcribe an audio file.

        An hour takes about two minutes on two cores and 2.5 GB of memory, nearly all of it for the HCQT.

        Raises:
            InputError: the file cannot be used, as `read_audio` describes.
        """
        return self.from_magnitudes(self.magnitudes_of(path))

    def magnitudes_of(self, path: Path | str) -> Float32[np.ndarray, "frames channels bins"]:
        """Return the linear magnitudes of an audio file's HCQT, the model's input: for `from_magnitudes`, and for a picture."""
        return hcqt(read_audio(path, self.settings.sample_rate), self.settings)

    def from_samples(self, samples: Float[np.ndarray, " samples"]) -> Transcription:
        """Transcribe samples of one channel at `settings.sample_rate`."""
        return self.from_magnitudes(hcqt(samples, self.settings))

    def from_magnitudes(self, magnitudes: Float[np.ndarray, "frames channels bins"]) -> Transcription:
        """Transcribe the linear magnitudes of an HCQT with these `settings`; they may be memory-mapped.

        Raises:
            InputError: the magnitudes have other channels or bins than `settings` say.
        """
        expected = (self.settings.channels, self.settings.bins)
        if magnitudes.shape[1:] != expected:
            raise InputError(
                f"magnitudes: {magnitudes.shape[1]} channels of {magnitudes.shape[2]} bins, the model was trained on {expected[0]} of "
                f"{expected[1]}. Remedy: compute them with the model's HCQT settings."
            )
        activations = predict(self.model, magnitudes, time_shift_frames=self.time_shift_frames)
        return Transcription(activations, self.settings.frames_per_second, self.threshold)
