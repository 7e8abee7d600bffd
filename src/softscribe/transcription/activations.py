"""From features to activations: whole recordings through a network, in bounded memory."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import nn

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, RECEPTIVE_FIELD_FRAMES
from softscribe.sound import compress

CHUNK_FRAMES = 1000

_BLURRED_FRAMES = (RECEPTIVE_FIELD_FRAMES - 2 * CONTEXT_FRAMES - 1) // 2
"""Frames at each end of what goes into a network that its own zero padding changes: they lie beyond the context that it consumes."""


def predict(
    model: nn.Module,
    magnitudes: Float[np.ndarray, "frames channels bins"],
    *,
    time_shift_frames: float = 0.0,
    chunk_frames: int = CHUNK_FRAMES,
) -> Float32[np.ndarray, "frames outputs"]:
    """Return the activations of a recording, in [0, 1], one row for each frame. Every use of a trained model predicts here.

    Before and after the recording there is silence. The network sees `chunk_frames` at a time, with enough of their neighbours that the
    result is that of one pass over the whole recording, but for rounding (about 1e-6). Memory grows by the result alone. An
    hour takes 14 s of one core with the 8-8-8-1 network in float32; bfloat16 would save a quarter and cost 5e-4 of accuracy.

    Args:
        model: called with log-compressed features (1, channels, frames + 2 * CONTEXT_FRAMES, bins) on the device of its weights, returns
            logits (1, frames, outputs). Used in evaluation mode, then left as it was.
        magnitudes: linear magnitudes of the HCQT; may be memory-mapped.
        time_shift_frames: by how many frames the model is late, as its card states it; the activations are moved back by as much.
        chunk_frames: how many frames to predict at a time, at least 1.

    Shape:
        magnitudes: (N, C, F); output: (N, K)

    Raises:
        InputError: there are no frames, some magnitude is NaN or infinite, `chunk_frames` is below 1, or
            `time_shift_frames` is not finite.

    >>> from softscribe.models import Mcnn
    >>> predict(Mcnn(in_channels=6, outputs=12, channels=(8, 8, 8, 1)), np.zeros((100, 6, 216), np.float16)).shape
    (100, 12)
    """
    if not len(magnitudes):
        raise InputError("magnitudes: no frames. Remedy: give at least one.")
    if chunk_frames < 1:
        raise InputError(f"chunk_frames: {chunk_frames}. Remedy: at least 1, such as {CHUNK_FRAMES}.")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            activations = np.concatenate(
                [_predict_chunk(model, magnitudes, start, chunk_frames) for start in range(0, len(magnitudes), chunk_frames)]
            )
    finally:
        model.train(was_training)
    return shift_back(activations, time_shift_frames)


def shift_back(activations: Float[np.ndarray, "frames outputs"], frames: float | int) -> Float32[np.ndarray, "frames outputs"]:
    """Return the activations `frames` frames earlier, for a model that is late by as much; a negative number moves them later.

    Fractions of a frame are interpolated linearly. Where nothing is known, the last (or first) row is held.

    Shape:
        activations: (N, K); output: (N, K)

    Raises:
        InputError: `frames` is not finite, or there are no activations.

    >>> shift_back(np.array([[0.0], [0.0], [1.0], [0.5]], np.float32), 1).ravel().tolist()
    [0.0, 1.0, 0.5, 0.5]
    >>> shift_back(np.array([[0.0], [0.0], [1.0], [0.5]], np.float32), 0.25).ravel().tolist()
    [0.0, 0.25, 0.875, 0.5]
    """
    if not len(activations) or not math.isfinite(frames):
        raise InputError(f"frames: {frames}, of {len(activations)} activations. Remedy: a finite number, and at least one frame.")
    source = np.clip(np.arange(len(activations)) + frames, 0, len(activations) - 1)
    before = np.floor(source).astype(np.int64)
    after = np.ceil(source).astype(np.int64)
    share = (source - before).astype(np.float32)[:, None]
    earlier = activations.astype(np.float32, copy=False)
    shifted: Float32[np.ndarray, "frames outputs"] = (1 - share) * earlier[before] + share * earlier[after]
    return shifted


def _predict_chunk(
    model: nn.Module, magnitudes: Float[np.ndarray, "frames channels bins"], start: int, chunk_frames: int
) -> Float32[np.ndarray, "chunk outputs"]:
    """Predict frames [start, start + chunk_frames), as far as they exist."""
    end = min(start + chunk_frames, len(magnitudes))
    # At the recording's own ends nothing is added: there the network pads with zeros in a single pass too.
    first, last = max(0, start - _BLURRED_FRAMES), min(len(magnitudes), end + _BLURRED_FRAMES)
    with_context_start, with_context_end = first - CONTEXT_FRAMES, last + CONTEXT_FRAMES
    inside = compress(np.asarray(magnitudes[max(0, with_context_start) : with_context_end]))
    if not np.isfinite(inside).all():
        raise InputError(f"magnitudes: NaN or infinity between frames {start} and {end}. Remedy: compute them from a sound recording.")
    silence_before = max(0, -with_context_start)
    silence_after = with_context_end - with_context_start - silence_before - len(inside)
    padded = np.pad(inside, ((silence_before, silence_after), (0, 0), (0, 0)))
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    logits = model(torch.from_numpy(padded).permute(1, 0, 2)[None].to(device))
    activations: Float32[np.ndarray, "chunk outputs"] = torch.sigmoid(logits[0, start - first : end - first].float()).cpu().numpy()
    return activations
