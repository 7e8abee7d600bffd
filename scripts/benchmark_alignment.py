"""How fast is soft-DTW on the CPU, against ddtw's Numba backend, and how much memory does it take?

    .venv/bin/python scripts/benchmark_alignment.py

Float32, loss and gradient through autograd on both sides, CPU time of one thread; the two take turns, and a ratio is the median over the
turns. Memory, the first call and two threads are measured in processes of their own.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": os.environ.get("NUMBA_NUM_THREADS", "1")}

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from ddtw import DTW, SDTW, dDTW, smoothDTW, sparseDTW, subSDTW
from rich.console import Console
from rich.table import Table
from torch import Tensor

from softscribe.alignment import TWO_ONE_STEPS, Step, StepWeights, Subsequence, soft_dtw

ONE_ONE_TWO = StepWeights(diagonal=2)
CLASSICAL_SHAPES = [(32, 500, 60), (16, 500, 500), (4, 2000, 400), (1, 4000, 1000)]
COMMON_SHAPE = (8, 500, 400)
PEER: dict[str, Any] = {"normalization": "none", "backend": "cpu_numba", "dtype_float": torch.float32}
FIVE_STEPS = [[1, 0], [0, 1], [1, 1], [2, 1], [1, 2]]  # [frames, targets]
THREE_STEPS: dict[str, Any] = {"step_sizes": [[1, 0], [0, 1], [1, 1]], "global_step_weights": [1, 1, 2]}
COMMON_OPTIONS = ['dict(operator="sparse")', f"dict(steps=[Step(*advance) for advance in {FIVE_STEPS}])"]
TURNS = 9

MEMORY = """
import pathlib, torch
from softscribe.alignment import Step, StepWeights, soft_dtw
torch.set_num_threads(2)
options, dtype = {options}, torch.{dtype}
soft_dtw(torch.zeros(2, 70, 70, requires_grad=True, dtype=dtype), **options).sum().backward()
cost = torch.rand({shape}, requires_grad=True, dtype=dtype)
def peak_bytes():
    (line,) = (line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = peak_bytes()
losses = soft_dtw(cost, **options)
print((peak_bytes() - before) / cost.numel() - cost.element_size())
"""
FIRST_CALL = """
import time, numba, torch
from softscribe.alignment import StepWeights, soft_dtw
cost = torch.rand(4, 200, 50, requires_grad=True)
start = time.perf_counter()
numba.njit(lambda x: x)(1)  # Numba puts half of its own imports off to whatever is called first
imported = time.perf_counter()
soft_dtw(cost, weights=StepWeights(diagonal=2)).sum().backward()
print(imported - start, time.perf_counter() - imported)
"""
THREADS = """
import time, torch
from softscribe.alignment import StepWeights, soft_dtw
cost = torch.rand(1, 20_000, 2_000, requires_grad=True)
seconds = {1: [], 2: []}
for turn in range(4):
    for threads in seconds:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        soft_dtw(cost, weights=StepWeights(diagonal=2))
        seconds[threads].append(time.perf_counter() - start)
print(min(seconds[1]), min(seconds[2]))
"""


def cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


@dataclass(frozen=True)
class Case:
    """The same problem in our words and as a peer's module, with what the peer takes beside the costs."""

    options: dict[str, Any]
    peer: Any
    peer_inputs: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32


def compare(shape: tuple[int, int, int], case: Case) -> list[str]:
    """Return our nanoseconds per cell, theirs, and the median of the ratios. Both have to find the same loss."""
    torch.manual_seed(0)
    cost = torch.rand(shape, requires_grad=True, dtype=case.dtype)
    counts = [torch.full(shape[:1], length) for length in shape[1:]]

    def ours() -> Tensor:
        mean = soft_dtw(cost, **case.options).mean()
        torch.autograd.grad(mean, cost)
        return mean

    def theirs() -> Tensor:
        mean = case.peer(C=cost, list_N=counts[0], list_M=counts[1], **case.peer_inputs)
        torch.autograd.grad(mean, cost)
        return mean

    torch.testing.assert_close(ours(), theirs(), atol=0, rtol=1e-4)
    turns = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(TURNS)]
    mine, other = (statistics.median(times) * 1e9 / cost.numel() for times in zip(*turns, strict=True))
    return [f"{mine:.1f}", f"{other:.0f}", f"{statistics.median(second / first for first, second in turns):.1f}"]


def common_cases() -> dict[str, Case]:
    """What takes the common kernel."""
    torch.manual_seed(1)
    by_cell = 0.5 + torch.rand(*COMMON_SHAPE, 3)
    steps = [Step(1, 0, by_cell[..., 0]), Step(0, 1, by_cell[..., 1]), Step(1, 1, by_cell[..., 2])]
    double = PEER | {"dtype_float": torch.float64}
    return {
        "weights by cell": Case({"steps": steps}, dDTW(**THREE_STEPS, **PEER), {"local_step_weights": by_cell}),
        "2-1 steps": Case({"steps": TWO_ONE_STEPS}, SDTW(step_sizes=[[1, 1], [2, 1], [1, 2]], global_step_weights=[1, 1, 1], **PEER)),
        "five steps": Case(
            {"steps": [Step(*advance) for advance in FIVE_STEPS]}, SDTW(step_sizes=FIVE_STEPS, global_step_weights=[1] * 5, **PEER)
        ),
        "subsequence": Case(
            {"weights": ONE_ONE_TWO, "boundaries": Subsequence(frames="both")}, subSDTW(**THREE_STEPS, sub_X=True, sub_Y=False, **PEER)
        ),
        "sparsemin": Case({"weights": ONE_ONE_TWO, "operator": "sparse"}, sparseDTW(**THREE_STEPS, **PEER)),
        "smoothmin": Case({"weights": ONE_ONE_TWO, "operator": "smooth"}, smoothDTW(**THREE_STEPS, **PEER)),
        "float64": Case({"weights": ONE_ONE_TWO}, SDTW(**THREE_STEPS, **double), dtype=torch.float64),
        "hard": Case({"weights": ONE_ONE_TWO, "operator": "hard"}, DTW(**THREE_STEPS, **PEER)),
    }


def script_output(script: str, **environment: str) -> list[float]:
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return [float(number) for number in run.stdout.split()]


def main() -> None:
    torch.set_num_threads(1)
    table = Table("case", "items x frames x targets", "ns per cell", "ddtw ns per cell", "ratio")
    cases = [(shape, "1-1-2", Case({"weights": ONE_ONE_TWO}, SDTW(**THREE_STEPS, **PEER))) for shape in CLASSICAL_SHAPES]
    cases += [(COMMON_SHAPE, name, case) for name, case in common_cases().items()]
    for shape, name, case in cases:
        table.add_row(name, "x".join(map(str, shape)), *compare(shape, case))
    console = Console()
    console.print(table)
    memory = [(shape, "dict(weights=StepWeights(diagonal=2))", "float32") for shape in (*CLASSICAL_SHAPES, (1, 20_000, 2_000))]
    memory += [((2, 4_000, 1_000), options, dtype) for options in COMMON_OPTIONS for dtype in ("float32", "float64")]
    for shape, options, dtype in memory:
        (per_cell,) = script_output(MEMORY.format(shape=shape, options=options, dtype=dtype), NUMBA_NUM_THREADS="2")
        console.print(f"memory beyond cost and gradient, two threads, {shape}, {dtype}, {options}: {per_cell:.1f} bytes per cell")
    script_output(FIRST_CALL)  # fills the cache
    imports, call = script_output(FIRST_CALL)
    console.print(f"first call with a warm cache: {call:.2f} s, after {imports:.2f} s in which Numba imports what it puts off")
    one, two = script_output(THREADS, NUMBA_NUM_THREADS="2")
    console.print(f"(1, 20000, 2000): {one:.2f} s on one thread, {two:.2f} s on two, {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
