"""Which backend computes what: the CPU's kernels for tensors on a CPU, CUDA's for tensors on a GPU."""

import torch
from torch import Tensor

from softscribe.alignment import checks, cpu
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment


def losses_and_gradient(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool, validate: bool
) -> tuple[Tensor, Tensor]:
    """Return losses and their gradient H, which has no cells if it is not wanted.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64 -> (B,), (B, N, M), float64 for a float64 cost, else float32

    Raises:
        ValueError: on a CPU, or if `validate`: counts, costs or paths are not as they have to be.
    """
    if cost.device.type == "cpu":
        return cpu.losses_and_gradient(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted)
    if not problem.is_classical or cost.dtype == torch.float64:
        on_cpu = cpu.losses_and_gradient(cost.cpu(), frame_counts.cpu(), target_counts.cpu(), problem, gradient_wanted=gradient_wanted)
        return on_cpu[0].to(cost.device), on_cpu[1].to(cost.device)
    from softscribe.alignment import cuda  # needs packages that a CPU does not

    if validate:
        checks.check_count_values(cost, frame_counts, target_counts)
        checks.check_finite(cost, frame_counts, target_counts)
        arrays = problem.arrays(tuple(cost.shape), frame_counts.tolist(), target_counts.tolist())
        checks.check_reachable(frame_counts, target_counts, problem, arrays)
    return cuda.losses_and_gradient(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted)


def align(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> Alignment:
    """Return everything about an alignment, computed on the CPU wherever the cost is.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64
    """
    result = cpu.align(cost.detach().cpu(), frame_counts.cpu(), target_counts.cpu(), problem)
    return Alignment(*(part.to(cost.device) for part in result))


def gpu_is_usable() -> bool:
    """Return whether soft-DTW has a GPU's kernels here: numba-cuda is installed and finds a driver.

    >>> gpu_is_usable() and not torch.cuda.is_available()
    False
    """
    from softscribe.alignment import cuda

    try:
        cuda.cuda_launches(torch.device("cuda"))
    except ValueError:
        return False
    return True
