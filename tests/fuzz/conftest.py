"""Proof that files of others make nothing happen: a canary that poison would leave, and the interpreter's own audit of actions."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.guard import Poison

#: What Python reports before it starts a program or opens a connection.
ACTIONS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}
#: What it reports before a pickle gets what it wants to call. numba's own cache of kernels is made of pickles, with other names.
LOOK_UP = "pickle.find_class"
_seen: list[str] = []


def _note(event: str, arguments: tuple) -> None:
    if event in ACTIONS or (event == LOOK_UP and arguments[0] in ("os", "posix")):
        _seen.append(f"{event}{arguments}")


sys.addaudithook(_note)


@pytest.fixture
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that exists as soon as poison was executed; first it is shown that it would be."""
    path = tmp_path_factory.mktemp("canary") / "executed"
    pickle.loads(pickle.dumps(Poison(path)))
    assert path.exists()
    path.rmdir()
    return path


@pytest.fixture
def actions() -> list[str]:
    """What was done since the beginning of the test, and may be cleared by it."""
    return _seen


@pytest.fixture
def nothing_runs(canary: Path, actions: list[str]) -> Iterator[None]:
    assert actions, "the audit has not even seen the poison of the canary"
    actions.clear()
    yield
    assert not canary.exists(), "a file's code was executed"
    assert not actions, f"a file made softscribe do this: {actions}"
