"""Numba's cache: what two processes write at once it has to hold under its own types; what cannot be read is made anew."""

import subprocess
import sys
from pathlib import Path

import pytest

DOUBLED = "[0.0, 2.0, 4.0, 6.0]\n"

KERNEL = """
from numba import njit

@njit(cache=True)
def doubled(values):
    return values + values
"""

# Numba chooses a number, writes the list of numbers, then the code. Made slow: both have chosen 1 before one writes; the list is written by
# float64 last, the code by float32.
PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from numba.core.caching import IndexDataCacheFile as File
from doubling import doubled
from softscribe.alignment.cpu import compiling

def later(function, seconds):
    return lambda *arguments: (time.sleep(seconds), function(*arguments))

kind, other = sys.argv[1:]
if other:
    before_list, before_code = {"float32": (1, 2), "float64": (2, 0)}[kind]
    File._save_index, File._save_data = later(File._save_index, before_list), later(File._save_data, before_code)
    Path(kind).touch()
    while not Path(other).exists():
        time.sleep(0.01)
print(compiling.call(doubled, np.arange(4, dtype=kind)).tolist())
"""


def start(folder: Path, kind: str, other: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROCESS, kind, other], cwd=folder, stdout=subprocess.PIPE, text=True)


def test_two_types_at_once_are_kept_apart(tmp_path: Path) -> None:
    """Without the lock, which then has a number for float64 and the code of float32 under it, the last process prints other numbers."""
    (tmp_path / "doubling.py").write_text(KERNEL)
    at_once = [start(tmp_path, "float32", "float64"), start(tmp_path, "float64", "float32")]
    assert [process.communicate(timeout=120)[0] for process in at_once] == [DOUBLED, DOUBLED]
    for kind in ("float32", "float64"):
        assert start(tmp_path, kind, "").communicate(timeout=120)[0] == DOUBLED


@pytest.mark.soak
@pytest.mark.parametrize(("damaged", "content"), [("*.nbi", b""), ("*.nbc", b"cut off"), ("*.nbi", "another version")])
def test_what_cannot_be_read_is_compiled_anew(tmp_path: Path, damaged: str, content: bytes | str) -> None:
    (tmp_path / "doubling.py").write_text(KERNEL)
    assert start(tmp_path, "float32", "").communicate(timeout=120)[0] == DOUBLED
    (file,) = (tmp_path / "__pycache__").glob(damaged)
    if isinstance(content, str):  # that names a class which has gone since
        content = file.read_bytes().replace(b"numba.core.types", b"numba.core.gone_")
    file.write_bytes(content)
    assert start(tmp_path, "float32", "").communicate(timeout=120)[0] == DOUBLED
    assert start(tmp_path, "float32", "").communicate(timeout=120)[0] == DOUBLED
