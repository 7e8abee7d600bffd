"""Alignment on the CPU: which kernel, with what scratch, on how many threads."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from softscribe.alignment import checks, cpu_kernels
from softscribe.alignment.cpu_strips import strip_soft_dtw
from softscribe.alignment.operators import OPERATORS
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment

# Where Numba finds neither TBB nor OpenMP, its thread pool ends the process if two threads call it at once. A call uses all cores anyway.
_kernel_lock = threading.Lock()


def losses_and_gradient(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor]:
    """Return losses and their gradient H, which has no cells if it is not wanted. Arguments are checked, values are not.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64 -> (B,), (B, N, M), float64 for a float64 cost, else float32
    """
    checks.check_count_values(cost, frame_counts, target_counts)
    if problem.is_classical and cost.dtype != torch.float64:
        result = _run_strips(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted)
        if result is not None:
            return result
    common = _run_common(cost, frame_counts, target_counts, problem, gradient_wanted=gradient_wanted, statistics_wanted=False)
    return common.losses, common.gradient


def align(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> Alignment:
    """Return everything about an alignment. Arguments are checked, values are not.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64
    """
    checks.check_count_values(cost, frame_counts, target_counts)
    return _run_common(cost, frame_counts, target_counts, problem, gradient_wanted=True, statistics_wanted=True)


def _run_strips(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor] | None:
    """Return what the fast kernel finds; nothing if a cost is not finite or an item beyond the range of its numbers."""
    arrays = problem.arrays(tuple(cost.shape), frame_counts.tolist(), target_counts.tolist())
    checks.check_reachable(frame_counts, target_counts, problem, arrays)
    cost = cost.detach().float().contiguous()
    gradient = torch.empty_like(cost) if gradient_wanted else cost.new_empty(len(cost), 0, 0)
    weights = (problem.weights.horizontal, problem.weights.vertical, problem.weights.diagonal)
    losses, _ = _on_torch_threads(
        strip_soft_dtw,
        cost.numpy(),
        frame_counts.numpy(),
        target_counts.numpy(),
        float(problem.gamma),
        weights,
        gradient.numpy() if gradient_wanted else None,
    )
    if np.isnan(losses).any():
        return None
    checks.check_losses(torch.from_numpy(losses).float())
    return torch.from_numpy(losses).float(), gradient


def _run_common(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool, statistics_wanted: bool
) -> Alignment:
    checks.check_finite(cost, frame_counts, target_counts)
    cost = cost.detach().to(torch.promote_types(cost.dtype, torch.float32)).contiguous()
    batch = len(cost)
    arrays = problem.arrays(tuple(cost.shape), frame_counts.tolist(), target_counts.tolist())
    checks.check_reachable(frame_counts, target_counts, problem, arrays)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_zeros(batch, 0, 0)
    expected = torch.zeros_like(cost) if statistics_wanted else cost.new_zeros(batch, 0, 0)
    losses, path_costs, entropies = (torch.zeros(batch, dtype=torch.float64) for _ in range(3))
    outputs = [tensor.numpy() for tensor in (losses, gradient, expected, path_costs, entropies)]
    gamma = 1.0 if problem.operator == "hard" else float(problem.gamma)  # what has no temperature needs no unit
    operator = OPERATORS.index(problem.operator)
    _on_torch_threads(
        cpu_kernels.align_batch, cost.numpy(), frame_counts.numpy(), target_counts.numpy(), gamma, operator, *arrays, *outputs
    )
    checks.check_losses(losses.to(cost.dtype))
    if problem.operator == "smooth":
        entropies.fill_(math.nan)
    return Alignment(losses.to(cost.dtype), gradient, expected, path_costs.to(cost.dtype), entropies.to(cost.dtype))


def _on_torch_threads(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Run a parallel kernel on as many threads as torch may use."""
    with _kernel_lock:
        threads = numba.get_num_threads()
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        try:
            return kernel(*arguments)
        finally:
            numba.set_num_threads(threads)
