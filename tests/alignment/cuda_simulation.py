"""Run `softscribe.alignment.cuda` in CUDA's simulator: `python cuda_simulation.py` with NUMBA_ENABLE_CUDASIM=1.

Cases come as a pickle on standard input, results go as one to standard output: both are `test_cuda_simulator.py`'s own. A process of
its own, since Numba decides at import whether it simulates. Tensors lie on the CPU, and only what makes a GPU's device and stream current
is replaced, and the kernels by their form for the simulator.
"""

import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numba.cuda.simulator.kernel import BlockManager, BlockThread

from softscribe.alignment.cuda import backend as cuda
from softscribe.alignment.cuda import launches


def unwritten(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Scratch full of what must never be read."""
    return np.full(shape, np.nan if dtype.startswith("float") else 1234567890123456789, dtype)


@contextmanager
def current(device: torch.device) -> Iterator[tuple[Any, Any, Any]]:
    yield 0, torch.Tensor.numpy, unwritten


def run_block(manager: BlockManager, block: tuple[int, ...], *arguments: Any) -> None:
    """Run a block as the simulator does, but with Python's own barrier.

    The simulator's loop asks all threads in turn, again and again, whether they wait, which takes most of the time.
    """
    indices = list(np.ndindex(*manager._block_dim))
    barrier = threading.Barrier(len(indices))

    def target() -> None:
        try:
            manager._f(*arguments)
        except BaseException:
            barrier.abort()  # or the others wait for ever
            raise

    threads = [BlockThread(target, manager, block, index, False) for index in indices]
    for thread in threads:
        thread.syncthreads = barrier.wait
        thread.start()
    for thread in threads:
        thread.join()
    for thread in threads:
        if thread.exception and not isinstance(thread.exception[0], threading.BrokenBarrierError):
            raise thread.exception[0].with_traceback(thread.exception[1])


def run(case: dict) -> tuple:
    launches.WARPS = case["warps"]
    launches.plan_launches.cache_clear()
    arguments = (case["cost"], case["frame_counts"], case["target_counts"], case["problem"])
    if case["everything"]:
        return tuple(cuda.align(*arguments))
    return cuda.losses_and_gradient(*arguments, gradient_wanted=case["gradient_wanted"])


def main() -> None:
    np.seterr(all="ignore")
    BlockManager.run = run_block
    cuda._current = current
    simulated = SimpleNamespace(**vars(launches) | {"BY_HARDWARE": launches.BY_SIMULATION})
    cuda.cuda_launches = lambda device: simulated
    cases = pickle.load(sys.stdin.buffer)
    pickle.dump([run(case) for case in cases], sys.stdout.buffer)


if __name__ == "__main__":
    main()
