"""Is soft-DTW right, deterministic and fast on this machine's GPU?

    python scripts/check_gpu.py --json check_gpu.json

Needs torch, numpy, numba and numba-cuda. Looks first whether all is right (`check_gpu_correctness.py`, `check_gpu_precision.py`,
`check_gpu_streams.py`). Then times forward and backward by CUDA events against ddtw (where its extension can be built), a plain kernel as
published, torch's ctc_loss and the floor (bytes by measured bandwidth); measures memory, and a training step of the project's network.
Writes JSON, prints a table, and says of every goal whether it was met, and what could not be run, and why. The exit status is 1 if
something is wrong, or there is no GPU; not if it is merely slow.
"""

import argparse
import importlib.util
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
if importlib.util.find_spec("jaxtyping") is None:  # which is for annotations only
    sys.modules["jaxtyping"] = ModuleType("jaxtyping")
    sys.modules["jaxtyping"].__getattr__ = lambda name: Annotated

from check_gpu_correctness import (
    ONE_ONE_TWO,
    Tally,
    check_bad_values,
    check_common_kernels,
    check_ctc,
    check_fast_kernels,
    check_many_tiles,
    loss_and_gradient,
)
from check_gpu_precision import check_mixed_precision
from check_gpu_streams import check_determinism, check_waiting
from softscribe.alignment import bce_cost, soft_dtw

SHAPES = [(32, 500, 60), (64, 1024, 1024), (16, 4096, 4096)]  # items, frames, targets
CHECKS: dict[str, Callable[[str], Tally]] = {
    "fast kernels": check_fast_kernels,
    "many tiles": check_many_tiles,
    "common kernels": check_common_kernels,
    "CTC": check_ctc,
    "mixed precision": check_mixed_precision,
    "bad values": check_bad_values,
    "determinism": check_determinism,
    "waiting": check_waiting,
}
GOAL_MILLISECONDS = {"32x500x60": 0.3, "64x1024x1024": 1.5, "16x4096x4096": 10.0}
GOAL_TIMES_DDTW = {"32x500x60": 3.0, "64x1024x1024": 5.0}
GOAL_SHARE_OF_STEP = 0.05
GOAL_BYTES_PER_CELL = 16.0
CTC_CLASSES = 73
PLAIN_LIMIT = 1024  # frames of the plain kernel, one thread each
ZERO, ONE = np.float32(0), np.float32(1)  # Numba takes 0.0 and 1.0 for float64


def milliseconds(run: Callable[[], Any], repetitions: int = 30, warm_up: int = 5) -> float:
    """Return the median time of a run on the GPU, waits of the GPU for Python included."""
    for _ in range(warm_up):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repetitions)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events)


def attempt(run: Callable[[], Any]) -> Any:
    """Return what `run` returns, or, in words, why it could not."""
    try:
        return run()
    except Exception as error:  # whatever a peer or a missing package raises is a finding, not a failure of the check
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no text'}"


def plain_kernels() -> tuple[Any, Any]:
    """Return soft-DTW as usually published: one block per item, one thread per frame, log domain, a barrier per anti-diagonal, 1-1-2."""
    from numba import cuda

    @cuda.jit(launch_bounds=PLAIN_LIMIT)
    def forward(cost: Any, gamma: float, accumulated: Any) -> None:
        b, n = cuda.blockIdx.x, cuda.threadIdx.x
        for t in range(cost.shape[1] + cost.shape[2] - 1):
            m = t - n
            if 0 <= m < cost.shape[2]:
                c = cost[b, n, m]
                x = -(accumulated[b, n, m + 1] + c) / gamma
                y = -(accumulated[b, n + 1, m] + c) / gamma
                z = -(accumulated[b, n, m] + (c + c)) / gamma
                highest = max(max(x, y), z)
                total = math.exp(x - highest) + math.exp(y - highest) + math.exp(z - highest)
                accumulated[b, n + 1, m + 1] = -gamma * (math.log(total) + highest)
            cuda.syncthreads()

    @cuda.jit(launch_bounds=PLAIN_LIMIT)
    def backward(cost: Any, gamma: float, accumulated: Any, passing: Any) -> None:
        b, n = cuda.blockIdx.x, cuda.threadIdx.x
        frames, targets = cost.shape[1], cost.shape[2]
        for t in range(frames + targets - 2, -1, -1):
            m = t - n
            if 0 <= m < targets:
                here = accumulated[b, n + 1, m + 1]
                total = ONE if t == frames + targets - 2 else ZERO
                if n + 1 < frames:
                    total += passing[b, n + 1, m] * math.exp((accumulated[b, n + 2, m + 1] - here - cost[b, n + 1, m]) / gamma)
                if m + 1 < targets:
                    total += passing[b, n, m + 1] * math.exp((accumulated[b, n + 1, m + 2] - here - cost[b, n, m + 1]) / gamma)
                if n + 1 < frames and m + 1 < targets:
                    c = cost[b, n + 1, m + 1]
                    total += passing[b, n + 1, m + 1] * math.exp((accumulated[b, n + 2, m + 2] - here - (c + c)) / gamma)
                passing[b, n, m] = total
            cuda.syncthreads()

    return forward, backward


def run_plain(kernels: tuple[Any, Any], cost: Tensor) -> None:
    from numba import cuda

    batch, frames, targets = cost.shape
    accumulated = torch.full((batch, frames + 1, targets + 1), 1e10, device="cuda")
    accumulated[:, 0, 0] = 0
    passing = torch.empty_like(cost)
    arrays = [cuda.as_cuda_array(tensor, sync=False) for tensor in (cost, accumulated, passing)]
    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    kernels[0][batch, frames, stream](arrays[0], ONE, arrays[1])
    kernels[1][batch, frames, stream](arrays[0], ONE, arrays[1], arrays[2])


def time_plain(cost: Tensor) -> float | str:
    if cost.shape[1] > PLAIN_LIMIT:
        return f"not possible: more than {PLAIN_LIMIT} frames"
    kernels = plain_kernels()
    return milliseconds(lambda: run_plain(kernels, cost))


def time_ddtw(cost: Tensor) -> float:
    from ddtw import SDTW

    peer = SDTW(
        gamma=1.0,
        step_sizes=[[1, 0], [0, 1], [1, 1]],  # [frames, targets]
        global_step_weights=[1, 1, 2],
        normalization="none",
        backend="cuda_cpp",
        dtype_float=torch.float32,
        cuda_device=str(cost.device),
    )
    counts = [torch.full(cost.shape[:1], size, device=cost.device) for size in cost.shape[1:]]
    leaf = cost.detach().requires_grad_()
    return milliseconds(lambda: torch.autograd.grad(peer(C=leaf, list_N=counts[0], list_M=counts[1]).sum(), leaf))


def time_ctc(shape: tuple[int, int, int]) -> float:
    """Return the time of a recursion over like many states: 2 labels + 1 of them are about the targets."""
    batch, frames, targets = shape
    log_probabilities = torch.randn(frames, batch, CTC_CLASSES, device="cuda").log_softmax(2).requires_grad_()
    labels = torch.randint(1, CTC_CLASSES, (batch, max(1, min((targets - 1) // 2, frames // 3))), device="cuda")
    counts = [torch.full((batch,), size, dtype=torch.long) for size in (frames, labels.shape[1])]

    def run() -> None:
        torch.autograd.grad(torch.nn.functional.ctc_loss(log_probabilities, labels, *counts, reduction="sum"), log_probabilities)

    return milliseconds(run)


def copy_bandwidth() -> float:
    """Return bytes per second, read and written, of copying a gibibyte."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / (milliseconds(lambda: target.copy_(source)) / 1000)


def scratch_bytes_per_cell(cost: Tensor) -> float:
    """Return the most memory that forward and backward take beyond cost and gradient."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss_and_gradient(cost, weights=ONE_ONE_TWO)
    return (torch.cuda.max_memory_allocated() - before) / cost.numel() - 4


def measure_shape(shape: tuple[int, int, int], bandwidth: float) -> dict[str, Any]:
    """Return all times in milliseconds, and our scratch."""
    torch.cuda.empty_cache()
    cost = torch.rand(shape, device="cuda")
    return {
        "softscribe": attempt(lambda: milliseconds(lambda: loss_and_gradient(cost, weights=ONE_ONE_TWO))),
        "ddtw cuda_cpp": attempt(lambda: time_ddtw(cost)),
        "plain kernel": attempt(lambda: time_plain(cost)),
        "torch ctc_loss": attempt(lambda: time_ctc(shape)),
        "floor: 8 bytes per cell": 8 * cost.numel() / bandwidth * 1000,
        "floor: 24 bytes per cell": 24 * cost.numel() / bandwidth * 1000,
        "scratch bytes per cell": attempt(lambda: scratch_bytes_per_cell(cost)),
    }


def measure_training_step(batch: int = 32, frames: int = 500, targets: int = 60) -> dict[str, float]:
    """Return the time of a step of the published network in bfloat16, and that of its loss, cost matrix included and alone."""
    from softscribe.models.mcnn import CONTEXT_FRAMES, Mcnn

    model = Mcnn(in_channels=6, outputs=72).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    features = torch.rand(batch, 6, frames + 2 * CONTEXT_FRAMES, 216, device="cuda")
    labels = torch.randint(0, 2, (batch, targets, 72), device="cuda").float()

    def loss_of(logits: Tensor) -> Tensor:
        return soft_dtw(bce_cost(logits, labels), weights=ONE_ONE_TWO).sum() / (batch * frames)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(features)
        loss_of(logits).backward()
        optimizer.step()

    logits = torch.randn(batch, frames, 72, device="cuda", requires_grad=True)
    with torch.no_grad():
        cost = bce_cost(logits, labels)
    times = {
        "step": milliseconds(step),
        "cost and soft-DTW": milliseconds(lambda: torch.autograd.grad(loss_of(logits), logits)),
        "soft-DTW": milliseconds(lambda: loss_and_gradient(cost, weights=ONE_ONE_TWO)),
    }
    return times | {"share of the loss": times["cost and soft-DTW"] / times["step"]}


def verdict(value: Any, limit: float, *, at_least: bool = False) -> str:
    """Return whether a goal was met; a value in words is a reason why it was not measured.

    >>> verdict(0.2, 0.3), verdict(2.0, 3.0, at_least=True), verdict(math.nan, 1.0), verdict("ImportError: ...", 0.3)
    ('met', 'missed', 'missed', 'not measured')
    """
    if not isinstance(value, int | float):
        return "not measured"
    return "met" if (value >= limit if at_least else value <= limit) else "missed"


def examine(check: Callable[[str], Tally], device: str = "cuda") -> dict[str, Any]:
    """Return what a check found, and the verdict. A check that breaks off is a fault: what it runs is ours, and the GPU is there.

    >>> examine(lambda device: Tally(cases=3))["verdict"], examine(lambda device: Tally(faults=["NaN"]))["verdict"], examine(None)["faults"]
    ('right', 'WRONG', ["TypeError: 'NoneType' object is not callable"])
    """
    tally = attempt(lambda: check(device))
    found = tally.report() if isinstance(tally, Tally) else {"faults": [tally]}
    return {"verdict": "WRONG" if found["faults"] else "right", **found}


def goals(report: dict[str, Any]) -> dict[str, str]:
    """Return the verdict on every goal."""
    step = report["training step"] if isinstance(report["training step"], dict) else {}
    met = {}
    for name, limit in GOAL_MILLISECONDS.items():
        times = report["shapes"][name]
        met[f"{name} within {limit} ms"] = verdict(times["softscribe"], limit)
        met[f"{name} in {GOAL_BYTES_PER_CELL:.0f} bytes per cell"] = verdict(times["scratch bytes per cell"], GOAL_BYTES_PER_CELL)
    for name, limit in GOAL_TIMES_DDTW.items():
        ours, theirs = report["shapes"][name]["softscribe"], report["shapes"][name]["ddtw cuda_cpp"]
        ratio = theirs / ours if isinstance(ours, float) and isinstance(theirs, float) else None
        met[f"{name} {limit} times as fast as ddtw"] = verdict(ratio, limit, at_least=True)
    met[f"loss at most {GOAL_SHARE_OF_STEP:.0%} of a training step"] = verdict(step.get("share of the loss"), GOAL_SHARE_OF_STEP)
    return met


def lines(report: dict[str, Any], indent: str = "") -> list[str]:
    """Return the report as lines of a table.

    >>> lines({"goals": {"fast": "met"}})
    ['goals', '  fast                                                      met']
    """
    table = []
    for name, value in report.items():
        if isinstance(value, dict):
            table += [f"{indent}{name}", *lines(value, indent + "  ")]
        else:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            table.append(f"{indent}{name}".ljust(60) + text)
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("check_gpu.json"), help="file to write (default: %(default)s)")
    path = parser.parse_args(arguments).json
    if not torch.cuda.is_available():
        sys.exit("check_gpu: torch finds no GPU on this machine, so nothing was checked.")
    report: dict[str, Any] = {
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda of torch": torch.version.cuda,
            **{package: attempt(lambda package=package: version(package)) for package in ("numba", "numba-cuda", "ddtw")},
        },
        "checks": {name: examine(check) for name, check in CHECKS.items()},
    }
    bandwidth = copy_bandwidth()
    report["copy bandwidth, GB/s"] = bandwidth / 1e9
    report["shapes"] = {"x".join(map(str, shape)): measure_shape(shape, bandwidth) for shape in SHAPES}
    report["training step"] = attempt(measure_training_step)
    report["goals"] = goals(report)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("\n".join(lines(report)))
    if faulty := [name for name, found in report["checks"].items() if found["verdict"] == "WRONG"]:
        sys.exit(f"check_gpu: WRONG: {', '.join(faulty)}; the faults stand in {path}.")


if __name__ == "__main__":
    main()
