"""Predicting in chunks is predicting at once; shifting moves time and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, Mcnn
from softscribe.sound import compress
from softscribe.transcription import predict, shift_back


class Padded(nn.Module):
    """As far-sighted as the MCNN: 15 frames blurred by zero padding of its own on each side, then a valid convolution of 75 frames."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(2, 3, (31, 1), padding=(15, 0))
        self.reduce = nn.Conv2d(3, 1, (2 * CONTEXT_FRAMES + 1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 10 * self.reduce(torch.tanh(self.blur(features)))[:, 0]


def whole(model: nn.Module, magnitudes: np.ndarray) -> np.ndarray:
    """One pass over everything, with silence before and after."""
    padded = np.pad(compress(magnitudes), ((CONTEXT_FRAMES, CONTEXT_FRAMES), (0, 0), (0, 0)))
    with torch.inference_mode():
        return torch.sigmoid(model(torch.from_numpy(padded.transpose(1, 0, 2))[None]))[0].numpy()


@pytest.fixture(scope="module")
def padded_model() -> nn.Module:
    torch.manual_seed(0)
    return Padded().eval()


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(1, 300), chunk_frames=st.integers(1, 310), seed=st.integers(0, 99))
def test_chunked_equals_whole(padded_model: nn.Module, frames: int, chunk_frames: int, seed: int) -> None:
    magnitudes = np.random.default_rng(seed).gamma(0.5, 1.0, (frames, 2, 12)).astype(np.float32)
    chunked = predict(padded_model, magnitudes, chunk_frames=max(chunk_frames, frames // 10))
    np.testing.assert_allclose(chunked, whole(padded_model, magnitudes), atol=2e-6)


@pytest.mark.parametrize("outputs", [12, 72])
def test_chunked_equals_whole_for_the_real_network(outputs: int) -> None:
    torch.manual_seed(0)
    model = Mcnn(in_channels=6, outputs=outputs, channels=(8, 8, 8, 1)).eval()
    magnitudes = np.random.default_rng(0).gamma(0.3, 1.0, (430, 6, 216)).astype(np.float32)
    together = whole(model, magnitudes)
    assert together.std() > 1e-3
    for chunk_frames in (100, 173, 429):
        np.testing.assert_allclose(predict(model, magnitudes, chunk_frames=chunk_frames), together, atol=2e-6)


def test_a_shorter_context_would_show(padded_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above is sharp: with one frame less of context at the seams it fails."""
    from softscribe.transcription import activations

    magnitudes = np.random.default_rng(0).gamma(0.5, 1.0, (300, 2, 12)).astype(np.float32)
    monkeypatch.setattr(activations, "_BLURRED_FRAMES", 14)
    assert np.abs(predict(padded_model, magnitudes, chunk_frames=100) - whole(padded_model, magnitudes)).max() > 1e-4


def test_memory_mapped_half_precision(padded_model: nn.Module, tmp_path) -> None:
    magnitudes = np.random.default_rng(0).gamma(0.5, 1.0, (200, 2, 12)).astype(np.float16)
    np.save(tmp_path / "magnitudes.npy", magnitudes)
    mapped = np.load(tmp_path / "magnitudes.npy", mmap_mode="r")
    np.testing.assert_array_equal(predict(padded_model, mapped), predict(padded_model, magnitudes.astype(np.float32)))


def test_dropout_is_off_and_the_mode_is_given_back() -> None:
    torch.manual_seed(0)
    model = Mcnn(in_channels=6, outputs=12, channels=(8, 8, 8, 1), dropout=0.5).train()
    magnitudes = np.random.default_rng(0).random((50, 6, 216), np.float32)
    np.testing.assert_array_equal(predict(model, magnitudes), predict(model, magnitudes))
    assert model.training
    assert not any(tensor.requires_grad for tensor in [torch.from_numpy(predict(model, magnitudes))])


def test_bad_magnitudes_are_named(padded_model: nn.Module) -> None:
    magnitudes = np.ones((120, 2, 12), np.float32)
    with pytest.raises(InputError, match="no frames"):
        predict(padded_model, magnitudes[:0])
    with pytest.raises(InputError, match="chunk_frames: 0"):
        predict(padded_model, magnitudes, chunk_frames=0)
    magnitudes[110] = np.nan
    with pytest.raises(InputError, match="NaN or infinity between frames"):
        predict(padded_model, magnitudes, chunk_frames=50)


@settings(deadline=None)
@given(frames=st.integers(-20, 20), seed=st.integers(0, 99))
def test_whole_frames_are_moved_exactly(frames: int, seed: int) -> None:
    activations = np.random.default_rng(seed).random((20, 12), np.float32)
    shifted = shift_back(activations, frames)
    for frame in range(20):
        np.testing.assert_array_equal(shifted[frame], activations[min(max(frame + frames, 0), 19)])


def test_fractions_of_a_frame_delay_a_slow_wave_by_as_much() -> None:
    wave = (0.5 + 0.4 * np.sin(2 * np.pi * np.arange(400) / 100))[:, None].astype(np.float32)
    expected = 0.5 + 0.4 * np.sin(2 * np.pi * (np.arange(400) + 2.3) / 100)
    np.testing.assert_allclose(shift_back(wave, 2.3)[:390, 0], expected[:390], atol=2e-4)
    with pytest.raises(InputError, match="frames: nan"):
        shift_back(wave, float("nan"))
