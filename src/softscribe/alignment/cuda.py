"""Alignment on a GPU by Numba: on the tensors' own device and torch's current stream, without ever waiting for it."""

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from softscribe.alignment.problem import Problem


def losses_and_gradient(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor]:
    """Return losses and their gradient H, which has no cells if it is not wanted. Arguments are checked, values are not.

    Scratch is 8 bytes per cell for the step probabilities, and below 1 besides, from torch's allocator; without a gradient below 1.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64, on the device of the cost -> (B,), (B, N, M), float32

    Raises:
        ValueError: numba-cuda is missing, or does not work here.
    """
    launches = cuda_launches(cost.device)
    cost = cost.detach().to(torch.float32).contiguous()
    losses = torch.empty(len(cost), dtype=torch.float64, device=cost.device)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_empty(len(cost), 0, 0)
    if len(cost) == 0:
        return losses.to(cost.dtype), gradient
    from numba import cuda

    def view(tensor: Tensor) -> Any:
        return cuda.as_cuda_array(tensor, sync=False)

    def empty(shape: tuple[int, ...], dtype: str) -> Any:
        return view(torch.empty(shape, dtype=getattr(torch, dtype), device=cost.device))

    # Numba remembers a device per thread and torch another one: both are told.
    with torch.cuda.device(cost.device), cuda.gpus[cost.device.index]:
        launches.sweep_classical(
            launches.BY_HARDWARE,
            empty,
            cuda.external_stream(torch.cuda.current_stream(cost.device).cuda_stream),
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
    return importlib.import_module("softscribe.alignment.cuda_launches")
