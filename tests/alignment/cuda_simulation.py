"""Run cases of soft-DTW through the CUDA kernels in CUDA's simulator: `python cuda_simulation.py` with NUMBA_ENABLE_CUDASIM=1.

Cases come as a pickle on standard input, results go as one to standard output: both are `test_cuda_simulator.py`'s own. A process of
its own, since Numba decides at import whether it simulates.
"""

import pickle
import sys

import numpy as np

from softscribe.alignment import cuda_launches


def unwritten(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Scratch full of what must never be read."""
    return np.full(shape, np.nan if dtype.startswith("float") else 1234567890123456789, dtype)


def run_classical(case: dict) -> dict:
    cost = case["cost"]
    batch, frames, targets = cost.shape
    cuda_launches.WARPS = case["warps"]
    losses, gradients = np.full(batch, np.nan), np.zeros((batch, frames * targets), np.float32)
    cuda_launches.sweep_classical(
        cuda_launches.BY_SIMULATION,
        unwritten,
        0,
        cost.reshape(batch, -1),
        frames,
        targets,
        case["frame_counts"],
        case["target_counts"],
        case["gamma"],
        case["weights"],
        losses,
        gradients if case["gradient_wanted"] else None,
    )
    return {"losses": losses, "gradient": gradients.reshape(cost.shape)}


def main() -> None:
    np.seterr(all="ignore")
    cases = pickle.load(sys.stdin.buffer)
    pickle.dump([run_classical(case) for case in cases], sys.stdout.buffer)


if __name__ == "__main__":
    main()
