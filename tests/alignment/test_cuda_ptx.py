"""Every CUDA kernel, in both forms, compiles for the architectures in use and fits them; every launch is one that CUDA allows."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda")

from softscribe.alignment.cuda import common_kernels
from softscribe.alignment.cuda.launches import LANES, plan_launches

COMPILATION = Path(__file__).with_name("cuda_compilation.py")
MOST_THREADS = 1024
MOST_STATIC_SHARED_BYTES = 48 * 1024
REGISTERS = 65536  # of a multiprocessor
MOST_GRID_ROWS = 65535


@pytest.mark.parametrize("architecture", ["80", pytest.param("90", marks=pytest.mark.soak)])
def test_kernels_compile_without_spills_and_fit_a_multiprocessor(architecture: str) -> None:
    command = [sys.executable, "-W", "error", str(COMPILATION), architecture]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    kernels = json.loads(finished.stdout)
    assert kernels
    threads = max(LANES * plan_launches(10_000, 10_000).warps, common_kernels.THREADS)
    for name, used in kernels.items():
        assert (used["stack"], used["spill_stores"], used["spill_loads"]) == (0, 0, 0), name
        assert used["shared"] <= MOST_STATIC_SHARED_BYTES, name
        assert 0 < used["registers"] * threads <= REGISTERS, name
        assert (used["shuffles"] > 0) == ("by hardware" in name), name


@pytest.mark.parametrize("frames", [1, 31, 32, 33, 500, 4096, 20_000])
@pytest.mark.parametrize("targets", [1, 32, 33, 60, 256, 257, 1024, 4096, 20_000, 1_000_000])
def test_launches_are_legal_and_cover_all_cells(frames: int, targets: int) -> None:
    plan = plan_launches(frames, targets)
    assert 1 <= LANES * plan.warps <= MOST_THREADS
    assert 1 <= plan.tiles <= MOST_GRID_ROWS
    assert plan.tiles * plan.warps * LANES >= targets
    # The last cell is computed at time frames + targets - 2, its strip's lanes up to 31 later.
    assert plan.phases * plan.phase_chunks * LANES >= math.ceil(targets / LANES) * LANES + frames - 1
    assert plan.phases == 1 or plan.tiles > 1
