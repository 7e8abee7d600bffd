"""Compiling a kernel at its first call, by one process at a time."""

import contextlib
import fcntl
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.dispatcher import Dispatcher

LOCK = "softscribe.lock"

_compiled: set[tuple[Any, ...]] = set()


def call(kernel: Dispatcher, *arguments: Any) -> Any:
    """Return kernel(*arguments); before its first call with such types compile it, or load it, while no other process does.

    Numba numbers on disk what it compiled of a function for different types. Two processes that begin at the same time, one with float32
    and one with float64, may use one number for both: from then on every process would run the code of one on arrays of the other.

    What is there of another version of softscribe, or cut off by a full disk, Numba may fail to read: then all is compiled anew.
    """
    types = (kernel, *_types(arguments))
    if types not in _compiled:
        folder = Path(str(kernel.stats.cache_path))
        signature = tuple(numba.typeof(argument) for argument in arguments)
        with _locked(folder / LOCK):
            try:
                kernel.compile(signature)
            except (AttributeError, ImportError, EOFError, pickle.UnpicklingError):
                for index in folder.glob("*.nbi"):
                    index.unlink(missing_ok=True)
                kernel.compile(signature)
        _compiled.add(types)
    return kernel(*arguments)


def _types(arguments: Iterable[Any]) -> Iterator[Any]:
    """What a kernel's arguments differ in from call to call, arrays in tuples included: `numba.typeof` takes a hundred times as long."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _types(argument)
        else:
            yield getattr(argument, "dtype", type(argument))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock; a folder that cannot have one is taken without."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            fcntl.lockf(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
        yield
