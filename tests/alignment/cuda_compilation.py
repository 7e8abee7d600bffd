"""Compile all CUDA kernels for an architecture without GPU or driver: `python cuda_compilation.py 90`; prints resources as JSON.

A process of its own: the device functions have to be told what device to compile for, since there is none to ask.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import nvidia
import torch
from numba import cuda, typeof
from numba.cuda import dispatcher

from softscribe.alignment.cuda import launches
from softscribe.alignment.layout import lay_out
from softscribe.alignment.problem import Problem

PTXAS = next(path for root in nvidia.__path__ for path in sorted(Path(root).rglob("bin/ptxas")))


class Recorder:
    """Stands where a kernel stands, and remembers what it is called with."""

    def __init__(self) -> None:
        self.arguments: tuple = ()

    def __getitem__(self, configuration: tuple) -> Callable[..., None]:
        def launch(*arguments: Any) -> None:
            self.arguments = arguments

        return launch


def kernels_and_arguments() -> dict[str, tuple[Any, tuple]]:
    """Name -> kernel and arguments, as the launching code itself hands them over."""
    return classical() | common("float32") | common("float64")


def classical() -> dict[str, tuple[Any, tuple]]:
    forward, backward = Recorder(), Recorder()
    batch, frames, targets = 2, 300, 300
    costs, gradients = np.zeros((2, batch, frames * targets), np.float32)
    counts = np.full(batch, 300)
    launches.sweep_classical(
        launches.Sweeps(forward, backward),
        np.zeros,
        0,
        costs,
        frames,
        targets,
        counts,
        counts,
        1.0,
        (1.0, 1.0, 2.0),
        np.zeros(batch),
        gradients,
    )
    kernels = {}
    for form, sweeps in (("hardware", launches.BY_HARDWARE), ("simulation", launches.BY_SIMULATION)):
        kernels[f"forward by {form}"] = sweeps.forward, forward.arguments
        kernels[f"backward by {form}"] = sweeps.backward, backward.arguments
    return kernels


def common(dtype: str) -> dict[str, tuple[Any, tuple]]:
    forward, backward = Recorder(), Recorder()
    cost, gradient, expected = np.zeros((3, 2, 30, 20), dtype)
    losses, path_costs, entropies = np.zeros((3, 2))
    counts = np.full(2, 20)
    lengths = torch.full((2,), 20)
    steps, starts, ends = lay_out(Problem(), cost.shape, lengths, lengths).converted(torch.Tensor.numpy)
    launches.sweep_common(
        launches.Sweeps(forward, backward),
        np.zeros,
        0,
        cost,
        counts,
        counts,
        1.0,
        0,
        steps,
        starts,
        ends,
        3,
        losses,
        gradient,
        (expected, path_costs, entropies),
    )
    return {
        f"common forward, {dtype}": (launches.COMMON.forward, forward.arguments),
        f"common backward, {dtype}": (launches.COMMON.backward, backward.arguments),
    }


def compiled(kernel: Any, arguments: tuple, architecture: str) -> dict[str, int]:
    """Registers, spilled and stack bytes per thread, shared bytes per block, and shuffles in the code."""
    capability = (int(architecture[:-1]), int(architecture[-1]))
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    types = tuple(typeof(argument) for argument in arguments)
    ptx, _ = cuda.compile_ptx(kernel.py_func, types, cc=capability, launch_bounds=kernel.targetoptions.get("launch_bounds"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [PTXAS, "-v", "-arch", f"sm_{architecture}", source, "-o", source.with_suffix(".cubin")]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    patterns = {
        "registers": r"Used (\d+) registers",
        "stack": r"(\d+) bytes stack frame",
        "spill_stores": r"(\d+) bytes spill stores",
        "spill_loads": r"(\d+) bytes spill loads",
        "shared": r"(\d+) bytes smem",
    }
    found = {name: max((int(number) for number in re.findall(pattern, log)), default=0) for name, pattern in patterns.items()}
    return found | {"shuffles": ptx.count("shfl.sync")}


def main() -> None:
    (architecture,) = sys.argv[1:]
    json.dump({name: compiled(*kernel, architecture) for name, kernel in kernels_and_arguments().items()}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
