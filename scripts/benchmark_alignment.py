"""How fast is soft-DTW on the CPU, against ddtw's Numba backend, forward and backward through autograd on both sides?

    .venv/bin/python scripts/benchmark_alignment.py

Float32, weights 1-1-2, CPU time of one thread; the two take turns, and the ratio is the median over the turns.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import statistics
import time
from collections.abc import Callable

import torch
from ddtw import SDTW
from rich.console import Console
from rich.table import Table

from softscribe.alignment import StepWeights, soft_dtw

SHAPES = [(32, 500, 60), (16, 500, 500), (4, 2000, 400)]
TURNS = 5


def cpu_seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    table = Table("items x frames x targets", "softscribe ms", "ns per cell", "ddtw ms", "ratio")
    for shape in SHAPES:
        torch.manual_seed(0)
        cost = torch.rand(shape, requires_grad=True)
        counts = [torch.full(shape[:1], length) for length in shape[1:]]
        peer = SDTW(
            gamma=1.0,
            step_sizes=[[1, 0], [0, 1], [1, 1]],  # [frames, targets]
            global_step_weights=[1, 1, 2],
            normalization="none",
            backend="cpu_numba",
            dtype_float=torch.float32,
        )

        def ours(cost: torch.Tensor = cost) -> None:
            soft_dtw(cost, weights=StepWeights(diagonal=2)).sum().backward()

        def theirs(cost: torch.Tensor = cost, peer: SDTW = peer, counts: list[torch.Tensor] = counts) -> None:
            peer(C=cost, list_N=counts[0], list_M=counts[1]).sum().backward()

        ours()
        theirs()
        turns = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(TURNS)]
        mine, other = (statistics.median(times) for times in zip(*turns, strict=True))
        ratio = statistics.median(second / first for first, second in turns)
        cells = mine * 1e9 / cost.numel()
        table.add_row("x".join(map(str, shape)), f"{mine * 1e3:.1f}", f"{cells:.0f}", f"{other * 1e3:.0f}", f"{ratio:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
