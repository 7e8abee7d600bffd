"""Alignment on a GPU by Numba: on the tensors' own device and torch's current stream, without waiting for it."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from softscribe.alignment.layout import lay_out
from softscribe.alignment.operators import OPERATORS
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment


def losses_and_gradient(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor]:
    """Return losses and their gradient H, which has no cells if it is not wanted. Arguments are checked, values are not.

    An item without a path has an infinite loss and a gradient of 0, one with a count out of range a loss of NaN and a gradient of 0. NaN,
    or a cost beyond the numbers, makes the loss NaN or infinite wherever a path may pass.

    Scratch, from torch's allocator, is 8 bytes per cell and below 1 besides for classical problems in float32; without a gradient below 1.
    For others see `launches.sweep_common`.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64, on the device of the cost -> (B,), (B, N, M), float64 for a float64 cost,
    else float32

    Raises:
        ValueError: numba-cuda is missing, or does not work here.
    """
    if not problem.is_classical or cost.dtype == torch.float64:
        result = _run_common(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted, statistics_wanted=False)
        return result.losses, result.gradient
    launches = cuda_launches(cost.device)
    cost = cost.detach().to(torch.float32).contiguous()
    frame_counts, target_counts = _counts_or_zeros(cost, frame_counts, target_counts)
    losses = _unknown(cost)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_empty(len(cost), 0, 0)
    if len(cost) == 0:
        return losses.to(cost.dtype), gradient
    with _current(cost.device) as (stream, view, empty):
        launches.sweep_classical(
            launches.BY_HARDWARE,
            empty,
            stream,
            view(cost.flatten(1)),
            *cost.shape[1:],
            view(frame_counts),
            view(target_counts),
            float(problem.gamma),
            (float(problem.weights.horizontal), float(problem.weights.vertical), float(problem.weights.diagonal)),
            view(losses),
            view(gradient.flatten(1)) if gradient_wanted else None,
        )
    return losses.to(cost.dtype), gradient


def align(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> Alignment:
    """Return everything about an alignment. Arguments are checked, values are not.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64, on the device of the cost
    """
    return _run_common(cost, frame_counts, target_counts, problem, gradient_wanted=True, statistics_wanted=True)


def _run_common(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool, statistics_wanted: bool
) -> Alignment:
    launches = cuda_launches(cost.device)
    cost = cost.detach().resolve_neg().to(torch.promote_types(cost.dtype, torch.float32)).contiguous()
    batch = len(cost)
    frame_counts, target_counts = _counts_or_zeros(cost, frame_counts, target_counts)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_empty(batch, 0, 0)
    expected = torch.zeros_like(cost) if statistics_wanted else cost.new_empty(batch, 0, 0)
    losses, path_costs, entropies = (_unknown(cost) for _ in range(3))
    if batch > 0:
        with _current(cost.device) as (stream, view, empty):

            def view_filled(tensor: Tensor) -> Any:
                """What has no element, and is then never looked at, gets one."""
                return view(tensor if tensor.numel() else tensor.new_zeros([1] * tensor.ndim))

            launches.sweep_common(
                launches.COMMON,
                empty,
                stream,
                view(cost),
                view(frame_counts),
                view(target_counts),
                1.0 if problem.operator == "hard" else float(problem.gamma),  # what has no temperature needs no unit
                OPERATORS.index(problem.operator),
                *lay_out(problem, tuple(cost.shape), frame_counts, target_counts).converted(view_filled),
                problem.depth(cost.shape),
                view(losses),
                view(gradient) if gradient_wanted else None,
                (view(expected), view(path_costs), view(entropies)) if statistics_wanted else None,
            )
    if problem.operator == "smooth":
        path_costs, entropies = losses, entropies.fill_(math.nan)
    return Alignment(losses.to(cost.dtype), gradient, expected, path_costs.to(cost.dtype), entropies.to(cost.dtype))


def _unknown(cost: Tensor) -> Tensor:
    """Return a NaN for every item: what no kernel writes shall not look like a number."""
    return torch.full((len(cost),), math.nan, dtype=torch.float64, device=cost.device)


def _counts_or_zeros(cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the counts, both 0 for an item of which one is out of range: kernels leave it out, instead of its memory."""
    _, frames, targets = cost.shape
    inside = (frame_counts >= 1) & (frame_counts <= frames) & (target_counts >= 1) & (target_counts <= targets)
    return frame_counts * inside, target_counts * inside


@contextmanager
def _current(device: torch.device) -> Iterator[tuple[Any, Callable[[Tensor], Any], Callable[[tuple[int, ...], str], Any]]]:
    """Make a device current; yield its current stream for Numba, what shows Numba a tensor, and what makes scratch for Numba.

    Scratch may be let go as soon as the kernels are launched: torch gives the memory away on the same stream only, so after them.
    """
    from numba import cuda

    def view(tensor: Tensor) -> Any:
        return cuda.as_cuda_array(tensor, sync=False)

    def empty(shape: tuple[int, ...], dtype: str) -> Any:
        return view(torch.empty(shape, dtype=getattr(torch, dtype), device=device))

    # Numba remembers a device per thread and torch another one: both are told.
    with torch.cuda.device(device), cuda.gpus[device.index]:
        yield cuda.external_stream(torch.cuda.current_stream(device).cuda_stream), view, empty


@cache
def cuda_launches(device: torch.device) -> ModuleType:
    """Return the module that launches kernels: imported here, so that nobody needs numba-cuda who has no GPU.

    Raises:
        ValueError: numba-cuda is missing, or does not work here.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise ValueError(
            f"cost: on {device}, and numba-cuda is not installed. "
            "Remedy: pip install 'softscribe[cuda12]' or 'softscribe[cuda13]', whichever nvidia-smi shows; or cost.cpu()."
        )
    from numba import cuda

    if not cuda.is_available():
        raise ValueError(
            f"cost: on {device}, but Numba finds no CUDA driver or toolkit it can use. "
            "Remedy: the extra of softscribe that fits the driver, cuda12 or cuda13 (python -m numba -s tells more); or cost.cpu()."
        )
    return importlib.import_module("softscribe.alignment.cuda.launches")
