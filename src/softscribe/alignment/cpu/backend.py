"""Alignment on the CPU: which kernel, with what scratch, on how many threads."""

import functools
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import torch
from torch import Tensor

from softscribe.alignment import checks
from softscribe.alignment.cpu import common_kernels, compiling, strips
from softscribe.alignment.layout import ProblemArrays, lay_out
from softscribe.alignment.operators import OPERATORS
from softscribe.alignment.problem import Problem
from softscribe.alignment.results import Alignment

THINNEST = 4
"""Frames, or targets, from which on an item takes the fast kernel: with two targets, equally good, the error of thousands of products that
all go one way reaches 5e-5."""

LARGEST_RATIO = 1000
"""Frames per target, or targets per frame, up to which an item takes it. With five targets, equally good, for 20,000 frames that error
reaches 1.2e-4, and strips of 64 targets, almost empty, 100 bytes per cell; the common kernel takes 3 to 4 times as long."""

# Where Numba finds neither TBB nor OpenMP, its thread pool ends the process if two threads call it at once. A call uses all cores anyway.
_kernel_lock = threading.Lock()
_threads_lost = False


def _after_fork() -> None:
    """GNU OpenMP does not survive a fork, neither Numba's threads nor, if torch had started it, new ones."""
    global _kernel_lock, _threads_lost
    _kernel_lock = threading.Lock()  # another thread of the parent may have held the old one
    try:
        _threads_lost = numba.threading_layer() == "omp"
    except ValueError:  # not started yet
        if numba.config.THREADING_LAYER == "default":
            numba.config.THREADING_LAYER = "workqueue"


os.register_at_fork(after_in_child=_after_fork)


def losses_and_gradient(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor]:
    """Return losses and their gradient H, which has no cells if it is not wanted. Arguments are checked, their values here.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64 -> (B,), (B, N, M), float64 for a float64 cost, else float32
    """
    checks.check_count_values(cost, frame_counts, target_counts)
    beyond_strips = _beyond_strips(frame_counts, target_counts, problem)
    if problem.is_classical and cost.dtype != torch.float64 and strips.is_exact() and not beyond_strips.all():
        if not problem.always_has_path:  # the layout takes its time
            checks.check_reachable(frame_counts, target_counts, problem, _arrays(cost, frame_counts, target_counts, problem))
        losses, gradient = _run_strips(cost, frame_counts, target_counts, problem, beyond_strips, gradient_wanted=gradient_wanted)
    else:
        arrays = _arrays(cost, frame_counts, target_counts, problem)
        checks.check_reachable(frame_counts, target_counts, problem, arrays)
        checks.check_finite(cost, frame_counts, target_counts)
        checks.check_scaled(cost, frame_counts, target_counts, problem.gamma)
        common = _run_common(cost, frame_counts, target_counts, problem, arrays, gradient_wanted=gradient_wanted, statistics_wanted=False)
        losses, gradient = common.losses, common.gradient
    checks.check_losses(losses)
    checks.check_gradient(gradient, cost.dtype, problem)
    return losses, gradient


def align(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> Alignment:
    """Return everything about an alignment. Arguments are checked, their values here.

    Shape: cost (B, N, M); frame_counts, target_counts (B,) int64
    """
    checks.check_count_values(cost, frame_counts, target_counts)
    checks.check_finite(cost, frame_counts, target_counts)
    checks.check_scaled(cost, frame_counts, target_counts, problem.gamma)
    arrays = _arrays(cost, frame_counts, target_counts, problem)
    checks.check_reachable(frame_counts, target_counts, problem, arrays)
    result = _run_common(cost, frame_counts, target_counts, problem, arrays, gradient_wanted=True, statistics_wanted=True)
    checks.check_losses(result.losses)
    checks.check_gradient(result.gradient, result.gradient.dtype, problem)
    return result


def _beyond_strips(frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> Tensor:
    """Which items are beyond the fast kernel's precision: the thin, and those with a single path, whose loss may be small beside gamma."""
    fewer, more = torch.minimum(frame_counts, target_counts), torch.maximum(frame_counts, target_counts)
    single = (fewer == more) & (math.inf in (problem.weights.horizontal, problem.weights.vertical))
    return (fewer < THINNEST) | (more > LARGEST_RATIO * fewer) | single


def _run_strips(
    cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem, beyond: Tensor, *, gradient_wanted: bool
) -> tuple[Tensor, Tensor]:
    """Run the fast kernel, and the common one for those items that are beyond its precision, or turn out to be beyond its range."""
    cost = cost.detach().resolve_neg().float().contiguous()
    gradient = torch.empty_like(cost) if gradient_wanted else cost.new_empty(len(cost), 0, 0)
    weights = (float(problem.weights.horizontal), float(problem.weights.vertical), float(problem.weights.diagonal))
    found = _on_torch_threads(
        strips.strip_soft_dtw,
        cost.numpy(),
        frame_counts.numpy(),
        target_counts.numpy(),
        float(problem.gamma),
        weights,
        gradient.numpy() if gradient_wanted else None,
    )
    losses = torch.from_numpy(found).float()
    if losses.isnan().any():
        checks.check_finite(cost, frame_counts, target_counts)  # the other reason for NaN
    left = (losses.isnan() | beyond).nonzero()[:, 0]
    if len(left):
        of_left = cost[left], frame_counts[left], target_counts[left]
        arrays = _arrays(*of_left, problem)
        common = _run_common(*of_left, problem, arrays, gradient_wanted=gradient_wanted, statistics_wanted=False)
        losses[left] = common.losses
        if gradient_wanted:
            gradient[left] = common.gradient
    return losses, gradient


def _arrays(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, problem: Problem) -> ProblemArrays:
    return lay_out(problem, tuple(cost.shape), frame_counts, target_counts).converted(Tensor.numpy)


def _run_common(
    cost: Tensor,
    frame_counts: Tensor,
    target_counts: Tensor,
    problem: Problem,
    arrays: ProblemArrays,
    *,
    gradient_wanted: bool,
    statistics_wanted: bool,
) -> Alignment:
    """Run the common kernel. What is not wanted has no cells."""
    cost = cost.detach().resolve_neg().to(torch.promote_types(cost.dtype, torch.float32)).contiguous()
    batch = len(cost)
    gradient = torch.zeros_like(cost) if gradient_wanted else cost.new_zeros(batch, 0, 0)
    expected = torch.zeros_like(cost) if statistics_wanted else cost.new_zeros(batch, 0, 0)
    losses, path_costs, entropies = (torch.zeros(batch, dtype=torch.float64, device="cpu") for _ in range(3))
    outputs = [tensor.numpy() for tensor in (losses, gradient, expected, path_costs, entropies)]
    gamma = 1.0 if problem.operator == "hard" else float(problem.gamma)  # what has no temperature needs no unit
    operator = OPERATORS.index(problem.operator)
    counts = frame_counts.numpy(), target_counts.numpy()
    kernel = functools.partial(compiling.call, common_kernels.align_batch)
    _on_torch_threads(kernel, cost.numpy(), *counts, gamma, operator, *arrays, problem.depth(cost.shape), *outputs)
    if problem.operator == "smooth":
        path_costs, entropies = losses, entropies.fill_(math.nan)
    return Alignment(losses.to(cost.dtype), gradient, expected, path_costs.to(cost.dtype), entropies.to(cost.dtype))


def _on_torch_threads(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Run a parallel kernel on as many threads as torch may use.

    Raises:
        RuntimeError: the process was forked from one that had run a kernel: GNU OpenMP would end it without a word.
    """
    if _threads_lost:
        raise RuntimeError(
            "softscribe.alignment: this process was forked from one that had used Numba's threads, and lost them. "
            'Remedy: start it anew, as DataLoader(..., multiprocessing_context="spawn") does, or use the alignment in the parent alone.'
        )
    with _kernel_lock:
        torch_threads = torch.get_num_threads()
        # The first question starts Numba's threads, which tells their number to OpenMP, and by that to torch. With another number of
        # threads torch adds in another order: a run that is resumed in a new process would end with other bits.
        threads = numba.get_num_threads()
        if torch.get_num_threads() != torch_threads:
            torch.set_num_threads(torch_threads)
        numba.set_num_threads(min(torch_threads, numba.config.NUMBA_NUM_THREADS))
        try:
            return kernel(*arguments)
        finally:
            numba.set_num_threads(threads)
