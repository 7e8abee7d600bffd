"""What `validate=True` refuses on a GPU, and that nothing is looked at without it, on tensors that only say they are on one."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softscribe.alignment import TWO_ONE_STEPS, SoftDTW, align, expected_alignment, soft_dtw
from softscribe.alignment.cuda import backend as cuda
from softscribe.alignment.results import Alignment

PUBLIC: dict[str, Callable[..., Any]] = {
    "soft_dtw": soft_dtw,
    "SoftDTW": lambda cost, *counts, **options: SoftDTW(**options)(cost, *counts),
    "align": align,
    "expected_alignment": expected_alignment,
}


class OnGPU(Tensor):
    """Says that it is on a GPU, and is not."""

    device = torch.device("cuda", 0)

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


def on_gpu(values: Any) -> Tensor:
    return torch.as_tensor(values).as_subclass(OnGPU)


def cost_with(value: float) -> Tensor:
    cost = torch.zeros(2, 5, 3)
    cost[1, 4, 1] = value
    return cost


WRONG = {
    "NaN": (cost_with(math.nan), [5, 5], [3, 3], {}, "cost: item 1 holds nan at frame 4, target 1. Remedy: "),
    "infinity": (cost_with(math.inf), [5, 5], [3, 3], {}, "cost: item 1 holds inf at frame 4, target 1. Remedy: "),
    "no frame": (cost_with(0), [5, 0], [3, 3], {}, r"frame_counts: item 1 has 0, outside \[1, 5\]. Remedy: "),
    "too many frames": (cost_with(0), [6, 5], [3, 3], {}, r"frame_counts: item 0 has 6, outside \[1, 5\]. Remedy: "),
    "no target": (cost_with(0), [5, 5], [3, 0], {}, r"target_counts: item 1 has 0, outside \[1, 3\]. Remedy: "),
    "too many targets": (cost_with(0), [5, 5], [3, 4], {}, r"target_counts: item 1 has 4, outside \[1, 3\]. Remedy: "),
    "no path": (cost_with(0), [5, 5], [3, 2], {"steps": TWO_ONE_STEPS}, "cost: item 1, 5 frames by 2 targets, has no path: .* Remedy: "),
}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for the GPU's kernels, which find NaN whatever they get; the names of those that were called."""
    called: list[str] = []

    def losses_and_gradient(cost: Tensor, *_: Any, gradient_wanted: bool) -> tuple[Tensor, Tensor]:
        called.append("losses_and_gradient")
        return torch.full((len(cost),), math.nan), torch.zeros(cost.shape)

    def everything(cost: Tensor, *_: Any) -> Alignment:
        called.append("align")
        nothing = torch.full((len(cost),), math.nan)
        return Alignment(nothing, torch.zeros(cost.shape), torch.zeros(cost.shape), nothing, nothing)

    monkeypatch.setattr(cuda, "losses_and_gradient", losses_and_gradient)
    monkeypatch.setattr(cuda, "align", everything)
    return called


@pytest.mark.parametrize("function", PUBLIC)
@pytest.mark.parametrize("wrong", WRONG)
def test_bad_values_are_refused_before_any_kernel_runs(function: str, wrong: str, kernels: list[str]) -> None:
    cost, frame_counts, target_counts, options, text = WRONG[wrong]
    with pytest.raises(ValueError, match=text):
        PUBLIC[function](on_gpu(cost), on_gpu(frame_counts), on_gpu(target_counts), validate=True, **options)
    assert kernels == []


@pytest.mark.parametrize("function", PUBLIC)
def test_a_loss_beyond_all_numbers_is_refused(function: str, kernels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"cost: item 0 has the loss nan, beyond the range of .* Remedy: "):
        PUBLIC[function](on_gpu(cost_with(0)), on_gpu([5, 5]), on_gpu([3, 3]), validate=True)
    assert len(kernels) == 1


@pytest.mark.parametrize("function", PUBLIC)
@pytest.mark.parametrize("wrong", WRONG)
def test_nothing_is_looked_at_unless_asked(function: str, wrong: str, kernels: list[str]) -> None:
    cost, frame_counts, target_counts, options, _ = WRONG[wrong]
    PUBLIC[function](on_gpu(cost), on_gpu(frame_counts), on_gpu(target_counts), **options)
    assert len(kernels) == 1
