"""Writing files so that a reader, or a process killed at any moment, never meets half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softscribe.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error, what was written there takes the place of `path`.

    The bytes are flushed to the disk before the rename, so that after a crash `path` is either what it was or complete. On any
    error the temporary file is removed and `path` stays as it was.

    Raises:
        InputError: the folder cannot be written, or the disk is full.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "notes.csv") as temporary:
    ...     _ = temporary.write_text("onset_quarters")
    >>> [entry.name for entry in folder.iterdir()]
    ['notes.csv']
    """
    # The suffix stays last, because writers such as soundfile and numpy choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}). Remedy: free disk space or choose another folder."
        ) from error
    finally:
        with suppress(OSError):  # the folder itself may be what failed
            temporary.unlink()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
