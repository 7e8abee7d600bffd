"""Host side of the fast kernel."""

import math

import numba
import numpy as np

from softscribe.alignment import cpu_strip_kernels as kernels
from softscribe.alignment.cpu_strip_kernels import LANES, STATE
from softscribe.alignment.scaled_kernels import ALWAYS, NEVER


def strip_soft_dtw(cost, frame_counts, target_counts, gamma, weights, gradient):
    batch, frames, targets = cost.shape
    unit = -1 / (gamma * math.log(2))
    blocked = [math.isinf(w) for w in weights]
    finite = [0.0 if math.isinf(w) else w for w in weights]
    straight = {w for w in weights[:2] if not math.isinf(w)}
    base = min(straight, default=finite[2])
    shared = len(straight) <= 1 and weights[2] in (base, 2 * base, math.inf)
    doubled = shared and weights[2] == 2 * base and base > 0
    f3 = [w * unit for w in ([base] * 3 if shared else finite)]
    factors = np.array([*f3, unit, *f3], np.float32)
    limits = np.array([NEVER if b else ALWAYS for b in blocked], np.int32)
    W = np.array(finite, np.float32)
    keep = gradient is not None
    strips = -(-targets // LANES)
    rows = (frames + 2 * LANES - 2) // LANES * LANES
    slots = numba.get_num_threads()
    losses = np.empty(batch)
    largest = np.zeros((batch, strips), np.int32)
    kernels.align_items(
        cost,
        frame_counts,
        target_counts,
        gamma,
        factors,
        limits,
        W,
        bool(shared),
        np.int32(-1 if doubled else 0),
        gradient if keep else np.empty((batch, 0, 0), np.float32),
        losses,
        largest,
        np.empty((slots, frames, 2), np.float32),
        np.empty((slots, frames), np.float32),
        np.empty((slots, 1, 3, STATE), np.float32),
        np.empty((slots, 1, 2 * LANES * LANES), np.float32),
        np.empty((slots, strips, rows, 2 * LANES) if keep else (slots, 1, LANES, 2 * LANES), np.float32),
    )
    return losses, largest.max(axis=1).view(np.float32).astype(np.float64)


def within_range(largest, frame_counts, target_counts, gamma, weights):
    heaviest = max(1.0, *(w for w in weights if not math.isinf(w)))
    return bool(
        (largest * heaviest / (gamma * math.log(2)) * (frame_counts + target_counts) < 2.0**29).all()
        and (largest * heaviest / (gamma * math.log(2)) < 2.0**22).all()
    )
