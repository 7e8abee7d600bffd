"""Which backend computes what: the CPU's kernels for tensors on a CPU, CUDA's for tensors on a GPU."""

import torch
from torch import Tensor

from softscribe.alignment import checks
from softscribe.alignment.cpu import backend as cpu
from softscribe.alignment.layout import lay_out
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
    check_flag(validate)
    if cost.device.type == "cpu":
        return cpu.losses_and_gradient(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted)
    from softscribe.alignment.cuda import backend as cuda

    if validate:
        _check_values(cost, frame_counts, target_counts, problem)
    losses, gradient = cuda.losses_and_gradient(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted)
    if validate:
        checks.check_losses(losses)
        checks.check_gradient(gradient, cost.dtype, problem)
    return losses, gradient


def align(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, validate: bool) -> Alignment:
    """Return everything about an alignment. Shape, errors: `losses_and_gradient`."""
    check_flag(validate)
    if cost.device.type == "cpu":
        return cpu.align(cost, frame_counts, target_counts, problem)
    from softscribe.alignment.cuda import backend as cuda

    if validate:
        _check_values(cost, frame_counts, target_counts, problem)
    result = cuda.align(cost, frame_counts, target_counts, problem)
    if validate:
        checks.check_losses(result.losses)
        checks.check_gradient(result.gradient, result.gradient.dtype, problem)
    return result


def gpu_is_usable() -> bool:
    """Return whether soft-DTW has a GPU's kernels here: numba-cuda is installed and finds a driver.

    >>> gpu_is_usable() and not torch.cuda.is_available()
    False
    """
    from softscribe.alignment.cuda import backend as cuda

    try:
        cuda.cuda_launches(torch.device("cuda"))
    except ValueError:
        return False
    return True


def check_flag(validate: bool) -> None:
    """Raise ValueError unless `validate` is True or False."""
    if not isinstance(validate, bool):
        raise ValueError(f"validate: {validate!r}. Remedy: True or False.")


def _check_values(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> None:
    checks.check_count_values(cost, frame_counts, target_counts)
    checks.check_finite(cost, frame_counts, target_counts)
    arrays = lay_out(problem.on_cpu(), tuple(cost.shape), frame_counts.cpu(), target_counts.cpu()).converted(Tensor.numpy)
    checks.check_reachable(frame_counts, target_counts, problem, arrays)
