"""The linear model: what it sees in time, and which settings it refuses."""

import pytest
import torch

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, Linear


@pytest.mark.parametrize("frames", [1, 9, 75])
def test_an_output_depends_on_as_many_frames_as_the_model_says(frames: int) -> None:
    torch.manual_seed(0)
    model = Linear(2, 12, frames)
    features = torch.rand(1, 2, 11 + 2 * CONTEXT_FRAMES, 216, requires_grad=True)
    model(features)[0, 5].sum().backward()
    assert features.grad is not None
    reached = (features.grad.abs().sum(dim=(0, 1, 3)) > 0).nonzero()[:, 0]
    middle = 5 + CONTEXT_FRAMES
    assert reached.tolist() == list(range(middle - frames // 2, middle + frames // 2 + 1))
    assert model.receptive_field_frames == frames


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("arguments", [{"outputs": 13}, {"frames": 2}, {"frames": 77}, {"frames": 0}])
def test_impossible_settings_are_named(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        Linear(**({"in_channels": 6, "outputs": 12} | arguments))
