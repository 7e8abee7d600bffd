"""What all tests share: shapes are checked, slow tests run in CI or on demand, real recordings are used where they lie beside the clone."""

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # there is a process for each core: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import numba
import pytest
import torch

# Numba's start raises torch's number of threads, and kernels are called directly here: the same tests then ran on one thread or on two,
# by what had run before them in their process, and ended with other bits than the processes they start.
_torch_threads = torch.get_num_threads()
numba.get_num_threads()
torch.set_num_threads(_torch_threads)

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
SOURCE = ROOT / "src"

# jaxtyping's hook cannot take modules with compiled kernels, and naming a package would take all of its modules.
CHECKED_MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if path.stem != "__init__" and not path.stem.endswith("_kernels")
]
jaxtyping.install_import_hook(CHECKED_MODULES, "shape_types.check")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take more than 20 seconds, too")
    parser.addoption("--soak", action="store_true", help="run those of `make soak`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Long files first, so that no process has one left when the others are done; the README's takes longest.
    slow_files = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: (item.path.name != "test_readme.py", item.path not in slow_files))
    left_out = {
        "slow": "run with --slow, or CI=true" * (not config.getoption("--slow") and os.environ.get("CI") != "true"),
        "soak": "run with --soak, as make soak does" * (not config.getoption("--soak")),
    }
    for item in items:
        for mark, reason in left_out.items():
            if mark in item.keywords and reason:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reason}"))


@pytest.fixture
def without_shape_types() -> Iterator[None]:
    """Call functions as a user does, who has their own checks only: shape types are checked before those."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """The folder of real recordings beside the clone."""
    if not REAL.is_dir():
        pytest.skip(f"no real recordings at {REAL}")
    return REAL
