"""What every reader owes its user: a result, or an InputError that names the file and a remedy; soon, and in bounded memory."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softscribe.errors import InputError

SECONDS = 60
MEGABYTES = 1500
LONGEST_MESSAGE = 3000


class TooLongError(BaseException):
    """A reader took longer than it may; no `except Exception` in its way swallows this."""


@contextmanager
def bounded(seconds: float = SECONDS, megabytes: int = MEGABYTES) -> Iterator[None]:
    """Raise TooLongError after `seconds`, and let allocations fail that take more than `megabytes` on top of what is in use."""

    def give_up(number: int, frame: object) -> None:
        raise TooLongError(f"{seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use_pages = int(Path("/proc/self/statm").read_text().split()[0])
    previous = signal.signal(signal.SIGALRM, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (in_use_pages * resource.getpagesize() + (megabytes << 20), hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, previous)


def read_or_refuse(read: Callable[[Path], Any], path: Path, **limits: float) -> Any:
    """Return what `read` returns, or the text of its refusal; fail if it breaks the promise of this module."""
    with bounded(**limits):
        try:
            return read(path)
        except InputError as error:
            refusal = error
    text = str(refusal)
    assert str(path) in text, f"does not name the file: {text}"
    assert "Remedy: " in text, f"names no remedy: {text}"
    assert len(text) < LONGEST_MESSAGE, f"{len(text)} characters: {text[:200]}"
    reasons = []
    reason: BaseException | None = refusal
    while reason is not None:
        reasons.append(reason)
        reason = reason.__cause__ or reason.__context__
    assert not any(isinstance(reason, MemoryError) for reason in reasons), f"asked for too much memory before it refused: {text}"
    return text


def refused(read: Callable[[Path], Any], path: Path, *words: str, seconds: float = SECONDS, megabytes: int = 800) -> None:
    """Demand that `read` refuses `path`, with `words` in its reason."""
    text = read_or_refuse(read, path, seconds=seconds, megabytes=megabytes)
    assert isinstance(text, str), f"{path} was read: {text}"
    for word in words:
        assert word in text, text


def saved(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class Poison:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.canary),))
