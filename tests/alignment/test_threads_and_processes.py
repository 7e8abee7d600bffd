"""Threads, forked processes, what is kept on disk, and what a process that aligns has to import."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from softscribe.alignment import soft_dtw
from softscribe.alignment.cpu import common_kernels


def random_cost(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_many_threads_at_once():
    costs = [random_cost(4, 40, 30, seed=seed) for seed in range(16)]
    alone = [soft_dtw(cost) for cost in costs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(soft_dtw, costs))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


PROGRAM = """
import json, sys
import softscribe.alignment, softscribe.alignment.reference
loaded = sorted(name for name in sys.modules if name.startswith("softscribe."))

import numba, torch
from softscribe.alignment import soft_dtw
from softscribe.alignment.cpu import compiling
call, seen = compiling.call, []
def spy(*arguments):
    seen.append(numba.get_num_threads())
    call(*arguments)
compiling.call = spy
torch.set_num_threads(2)
soft_dtw(torch.zeros(3, 4, 4, dtype=torch.float64))
torch.set_num_threads(64)
soft_dtw(torch.zeros(3, 4, 4, dtype=torch.float64))
print(json.dumps({"loaded": loaded, "threads seen": seen, "threads afterwards": numba.get_num_threads()}))
"""


@pytest.fixture(scope="module")
def program_of_four_threads() -> dict[str, Any]:
    """What a process found that imports the alignment alone, and aligns while torch has two threads, and 64."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return json.loads(run.stdout)


def test_the_package_is_usable_alone(program_of_four_threads):
    assert "softscribe.alignment.reference" in program_of_four_threads["loaded"]
    assert all(name.startswith("softscribe.alignment") for name in program_of_four_threads["loaded"])


def test_numba_uses_no_more_threads_than_torch_and_gets_its_own_back(program_of_four_threads):
    assert program_of_four_threads["threads seen"] == [2, 4]
    assert program_of_four_threads["threads afterwards"] == 4


def test_the_alignment_leaves_torch_its_number_of_threads():
    """Numba's start raises it, by which torch would choose other algorithms: a training's first step would differ from all others."""
    program = "import torch; from softscribe.alignment import soft_dtw; soft_dtw(torch.zeros(3, 8, 5)); print(torch.get_num_threads())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "1\n"


FORKS = """
import os, signal, sys
import numba, torch
from softscribe.alignment import soft_dtw
from softscribe.alignment.cpu import backend

cost = torch.tensor([[[frame * target % 7.0 for target in range(30)] for frame in range(40)]] * 2)
if "torch first" in sys.argv:
    torch.ones(1000, 1000).cos()

def in_a_child():
    backend._kernel_lock.acquire()  # as another thread of the parent does while it aligns
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            print(soft_dtw(cost).tolist(), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    backend._kernel_lock.release()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

in_a_child()
print(soft_dtw(cost).tolist(), flush=True)
in_a_child()
print(soft_dtw(cost).tolist())
print(numba.threading_layer())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.parametrize(("layer", "arguments"), [("default", []), ("default", ["torch first"]), ("workqueue", ["torch first"])])
def test_forked_processes_align_or_say_why_they_cannot(layer, arguments):
    """GNU OpenMP ends a process without a word, or lets it wait forever, that was forked from one with threads of it."""
    soft_dtw(torch.zeros(1, 40, 30))  # children are given the time to load kernels, not to compile them
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    run = subprocess.run([sys.executable, "-c", FORKS, *arguments], capture_output=True, text=True, timeout=200, env=environment)
    assert run.returncode == 0, run.stderr
    *before, alone, after, code, again, layer_found = run.stdout.splitlines()
    assert before == [alone, "0"]
    assert again == alone
    assert code == "0"
    if layer_found == "omp":
        assert re.search("forked.*Remedy", after)
    else:
        assert after == alone


def test_the_kernels_run_without_the_lock_of_python_and_are_kept_on_disk():
    soft_dtw(torch.zeros(1, 2, 2))
    kernel = common_kernels.align_batch
    assert kernel.targetoptions["nogil"]
    assert kernel.targetoptions["parallel"]
    assert list(Path(kernel.stats.cache_path).glob("common_kernels.align_batch-*.nbi"))
