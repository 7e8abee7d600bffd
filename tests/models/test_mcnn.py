"""The network: published parameter counts, receptive field, translation in time."""

import numpy as np
import pytest
import torch

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, RECEPTIVE_FIELD_FRAMES, Mcnn
from softscribe.models.mcnn import PREFILTER_FRAMES, Prefilter

BINS = 216


@pytest.mark.parametrize(("outputs", "in_channels", "parameters"), [(12, 5, 43_383), (12, 6, 48_315), (72, 5, 43_323), (72, 6, 48_255)])
def test_parameter_counts_are_the_published_ones(outputs: int, in_channels: int, parameters: int) -> None:
    model = Mcnn(in_channels, outputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


SHORT = {"reduction_frames": 9, "pooling_frames": 3}


@pytest.mark.parametrize(("frames", "parameters"), [({}, 18_863), (SHORT, 14_639)])
def test_the_small_networks_have_the_parameters_that_their_configs_state(frames: dict, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in Mcnn(6, 12, (8, 8, 8, 1), **frames).parameters()) == parameters


@pytest.mark.parametrize(("lengths", "receptive_field"), [({}, RECEPTIVE_FIELD_FRAMES), (SHORT, 29), ({"reduction_frames": 1}, 31)])
def test_receptive_field(lengths: dict, receptive_field: int) -> None:
    """The frames whose change can change the middle output are as many as the model says, the same on each side."""
    torch.manual_seed(0)
    model = Mcnn(1, 12, (2, 2, 2, 1), **lengths).eval()
    assert model.receptive_field_frames == receptive_field
    frames = 101
    reached = torch.zeros(frames + 2 * CONTEXT_FRAMES, dtype=torch.bool)
    for _ in range(20):  # max-pooling passes a gradient to one frame only; over several inputs every frame gets its turn
        features = torch.rand(1, 1, frames + 2 * CONTEXT_FRAMES, BINS, requires_grad=True)
        model(features)[0, frames // 2].sum().backward()
        assert features.grad is not None
        reached |= features.grad.abs().sum(dim=(0, 1, 3)) > 0
    positions = reached.nonzero()[:, 0]
    middle = frames // 2 + CONTEXT_FRAMES
    half = receptive_field // 2
    assert (int(positions.min()), int(positions.max())) == (middle - half, middle + half)


@pytest.mark.parametrize("frames", [1, PREFILTER_FRAMES, PREFILTER_FRAMES + 1, 2 * PREFILTER_FRAMES, 2 * PREFILTER_FRAMES + 5])
def test_the_prefilter_takes_long_inputs_in_pieces_with_the_same_result(frames: int) -> None:
    torch.manual_seed(3)
    prefilter, plain = Prefilter(2, 3, (15, 15), padding=(7, 7)), torch.nn.Conv2d(2, 3, (15, 15), padding=(7, 7))
    plain.load_state_dict(prefilter.state_dict())
    features = torch.rand(2, 2, frames, 20, requires_grad=True)
    results = []
    for convolution in (prefilter, plain):
        output = convolution(features)
        weights = torch.arange(output.numel()).reshape(output.shape).cos()
        results.append((output, *torch.autograd.grad((output * weights).sum(), [features, *convolution.parameters()])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_later_input_gives_the_same_output_later() -> None:
    torch.manual_seed(1)
    model = Mcnn(6, 12, (8, 8, 8, 1)).eval()
    features = torch.rand(1, 6, 200 + 2 * CONTEXT_FRAMES, BINS)
    with torch.no_grad():
        whole, part = model(features), model(features[:, :, 40:])
    # Away from the border, where the network's inner zero padding is seen.
    torch.testing.assert_close(whole[:, 40 + 15 :], part[:, 15:], rtol=1e-4, atol=1e-5)


def test_a_semitone_up_moves_the_pitches_up() -> None:
    """With 72 outputs every layer is a convolution along frequency but for the normalisation's weights, which start out equal."""
    torch.manual_seed(2)
    model = Mcnn(6, 72, (8, 8, 8, 1)).eval()
    features = torch.zeros(1, 6, 20 + 2 * CONTEXT_FRAMES, BINS)
    features[..., 60:120] = torch.rand(1, 6, 20 + 2 * CONTEXT_FRAMES, 60)
    with torch.no_grad():
        low, high = model(features), model(features.roll(3, dims=-1))
    torch.testing.assert_close(low[..., 8:60], high[..., 9:61], rtol=1e-4, atol=1e-5)


def test_bfloat16_agrees_with_float32() -> None:
    torch.manual_seed(3)
    model = Mcnn(6, 12, (8, 8, 8, 1)).eval()
    features = torch.rand(2, 6, 50 + 2 * CONTEXT_FRAMES, BINS)
    with torch.no_grad():
        exact = model(features)
        with torch.autocast("cpu", torch.bfloat16):
            low_precision = model(features)
    np.testing.assert_allclose(low_precision.float().numpy(), exact.numpy(), atol=0.02)


@pytest.mark.parametrize(
    "arguments",
    [
        {"outputs": 13},
        {"channels": (8, 8, 8)},
        {"channels": (8, 0, 8, 1)},
        {"in_channels": 0},
        {"dropout": 1.0},
        {"reduction_frames": 8},
        {"pooling_frames": 15},
    ],
)
@pytest.mark.usefixtures("without_shape_types")
def test_impossible_settings_are_named(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        Mcnn(**({"in_channels": 6, "outputs": 12} | arguments))


def test_features_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="features"):
        Mcnn(6, 12)(torch.zeros(1, 5, 100, BINS))
