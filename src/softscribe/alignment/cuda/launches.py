"""How the GPU's kernels are launched: shapes, scratch, order. Knows no torch: CUDA's simulator runs the very same on NumPy arrays."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from softscribe.alignment.cuda import common_kernels, strip_backward_kernels, strip_kernels
from softscribe.alignment.cuda.lane_kernels import LANES, WARPS
from softscribe.alignment.layout import BoundaryArrays, StepArrays
from softscribe.alignment.steps import exponent_factor

LAUNCH_CHUNKS = 3
"""What a launch costs beside its work, in chunks of 32 anti-diagonals; a guess, since it only shifts a balance."""


class Sweeps(NamedTuple):
    """A forward and a backward kernel in one of their two forms."""

    forward: Any
    backward: Any


BY_HARDWARE = Sweeps(strip_kernels.forward_by_hardware, strip_backward_kernels.backward_by_hardware)
COMMON = Sweeps(common_kernels.forward_common, common_kernels.backward_common)
BY_SIMULATION = Sweeps(strip_kernels.forward_by_simulation, strip_backward_kernels.backward_by_simulation)


class Plan(NamedTuple):
    """How a batch is cut into launches.

    >>> plan_launches(500, 60)
    Plan(warps=2, tiles=1, phase_chunks=18, phases=1)
    >>> plan_launches(4096, 4096).waves
    31
    """

    warps: int
    """Strips of 32 targets in a tile, each swept by one warp of the tile's block."""
    tiles: int
    """Tiles of an item."""
    phase_chunks: int
    """Chunks of 32 anti-diagonals that a tile goes on in one launch."""
    phases: int
    """Phases that cover all anti-diagonals."""

    @property
    def waves(self) -> int:
        """Launches of each kernel: a tile computes a phase one launch later than the tile before it."""
        return self.phases + self.tiles - 1


@cache
def plan_launches(frames: int, targets: int) -> Plan:
    """Cut matrices of up to that many frames and targets into tiles and phases.

    Short phases keep many tiles busy at once, long ones waste less on filling the pipeline of warps and on launching.
    """
    strips = math.ceil(targets / LANES)
    tiles = math.ceil(strips / WARPS)
    warps = math.ceil(strips / tiles)
    chunks = strips + (frames + LANES - 2) // LANES
    if tiles == 1:
        return Plan(warps, tiles, chunks, 1)

    def duration(phase_chunks: int) -> int:
        return (math.ceil(chunks / phase_chunks) + tiles - 1) * (phase_chunks + warps + LAUNCH_CHUNKS)

    phase_chunks = min(range(1, chunks + 1), key=duration)
    return Plan(warps, tiles, phase_chunks, math.ceil(chunks / phase_chunks))


def sweep_classical(
    sweeps: Sweeps,
    empty: Callable[[tuple[int, ...], str], Any],
    stream: Any,
    costs: Any,
    frames: int,
    targets: int,
    frame_counts: Any,
    target_counts: Any,
    gamma: float,
    weights: tuple[float, float, float],
    losses: Any,
    gradients: Any | None,
) -> None:
    """Fill `losses` and, unless it is None, `gradients`, of which padding is left as it is.

    Nothing is written for an item whose counts are both 0. An item without a path has an infinite loss and a gradient of 0. Beyond the
    number format, that is with costs that are NaN or infinite, or above 1.9e11 gamma (divided by the largest weight) in magnitude, loss
    and gradient are NaN.

    Args:
        empty: makes scratch on the device, of a shape and the name of a type.
        stream: as Numba takes it.
        weights: horizontal, vertical, diagonal; infinite for a blocked step.

    Shape: costs, gradients (B, N x M) float32, of N = `frames`, M = `targets`; frame_counts, target_counts (B,) int64; losses (B,) float64
    """
    batch, _ = costs.shape
    plan = plan_launches(frames, targets)
    grid, block = (batch, plan.tiles), (LANES, plan.warps)
    columns = plan.tiles * plan.warps * LANES
    # What is not needed has one element, since Numba does not promise to take an array without memory.
    probabilities = empty((batch, 2, targets * (frames + LANES - 1) if gradients is not None else 1), "float32")
    borders = (batch, plan.tiles - 1, frames) if plan.tiles > 1 else (batch, 1, 1)
    border_mantissas, border_exponents = empty(borders, "float32"), empty(borders, "int64")
    lane_mantissas, lane_exponents = (empty((batch, 2, columns), dtype) for dtype in ("float32", "int64"))
    scales = tuple((*exponent_factor(weight, gamma), np.float32(math.isinf(weight))) for weight in weights)  # the last: 1 if blocked
    forward = sweeps.forward[grid, block, stream]
    for wave in range(plan.waves):
        forward(
            costs,
            frames,
            targets,
            frame_counts,
            target_counts,
            scales,
            len(set(scales)) == 1,
            gamma,
            gradients is not None,
            probabilities,
            border_mantissas,
            border_exponents,
            lane_mantissas,
            lane_exponents,
            losses,
            wave,
            plan.phase_chunks,
        )
    if gradients is None:
        return
    factors = tuple(np.float32(0 if math.isinf(weight) else weight) for weight in weights)
    diagonal_open = np.float32(0 if math.isinf(weights[2]) else 1)
    lane_flows = empty((batch, 3, columns), "float32")
    border_flows = border_mantissas  # of the same shape, and read for the last time
    backward = sweeps.backward[grid, block, stream]
    for wave in range(plan.waves):
        backward(
            probabilities,
            frame_counts,
            target_counts,
            losses,
            factors,
            diagonal_open,
            border_flows,
            lane_flows,
            frames,
            targets,
            gradients,
            wave,
            plan.phase_chunks,
            plan.phases,
        )


def sweep_common(
    sweeps: Sweeps,
    empty: Callable[[tuple[int, ...], str], Any],
    stream: Any,
    cost: Any,
    frame_counts: Any,
    target_counts: Any,
    gamma: float,
    operator: int,
    steps: StepArrays,
    starts: BoundaryArrays,
    ends: BoundaryArrays,
    depth: int,
    losses: Any,
    gradient: Any | None,
    statistics: tuple[Any, Any, Any] | None,
) -> None:
    """Fill `losses` and, unless they are None, `gradient` and the `statistics`: expected alignment, expected path costs, path entropies.

    Padding, what follows the loss of an item without a path, and everything of one whose counts are both 0, are left as they are.
    Scratch is 8 bytes per cell (without a gradient none), and per frame 8 per step of the anti-diagonals that the longest reaches back, 8
    per step and one more, and 32 costs.

    Args:
        steps, starts, ends: of arrays on the device.
        depth: anti-diagonals that the longest step reaches back, and one more.

    Shape: cost, gradient, expected alignment (B, N, M) float32 or float64; frame_counts, target_counts (B,) int64; losses, path costs,
    entropies (B,) float64
    """
    batch, frames, targets = cost.shape
    step_count = steps.frames.shape[0]
    keep = gradient is not None
    accumulated = empty((batch, frames * (targets if keep else depth)), "float64")
    arrivals = empty((batch, step_count + 1, frames), "float64")
    staged = empty((batch, common_kernels.STAGED, frames), str(cost.dtype))
    end_probabilities = empty(ends.frames.shape, "float64")
    threads = min(common_kernels.THREADS, LANES * math.ceil(min(frames, targets) / LANES))
    problem = (cost, frame_counts, target_counts, gamma, operator, steps, starts, ends, depth)
    sweeps.forward[batch, threads, stream](*problem, accumulated, keep, arrivals, staged, end_probabilities, losses)
    if gradient is None:
        return
    sweeps.backward[batch, threads, stream](
        *problem,
        accumulated,
        empty((batch, depth, step_count, frames), "float64"),
        arrivals,
        staged,
        end_probabilities,
        losses,
        gradient,
        statistics is not None,
        # No array twice, since the simulator copies each back; of a rank that the kernel is compiled for anyway.
        *(statistics or (empty((1, 1, 1), str(cost.dtype)), empty((1,), "float64"), empty((1,), "float64"))),
    )
