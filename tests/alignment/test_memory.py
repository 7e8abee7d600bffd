"""How much memory the CPU's common kernel takes, in a process of its own, whose peak the system counts."""

import subprocess
import sys

import pytest

PROGRAM = """
import pathlib, torch
from softscribe.alignment import Step, soft_dtw
torch.set_num_threads(2)
options, dtype = {options}, torch.{dtype}
soft_dtw(torch.zeros(2, 9, 9, requires_grad=True, dtype=dtype), **options)
cost = torch.zeros(2, 4_000, 300, requires_grad=True, dtype=dtype)
def peak_bytes():
    (line,) = (line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = peak_bytes()
losses = soft_dtw(cost, **options)
print((peak_bytes() - before) / cost.numel() - cost.element_size())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the peak by /proc")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", ["dict(operator='sparse')", "dict(steps=[Step(1, 0), Step(0, 1), Step(1, 1), Step(2, 1), Step(1, 2), Step(3, 1)])"]
)
def test_at_most_16_bytes_per_cell_for_any_problem(options: str, dtype: str) -> None:
    program = PROGRAM.format(options=options, dtype=dtype)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert 4 < float(finished.stdout) <= 16
