"""Files that are whole or absent when written, and that are read in bounded memory whatever they claim."""

import fcntl
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from softscribe.errors import InputError

MAXIMUM_JSON_BYTES = 10_000_000
MAXIMUM_ARRAYS_BYTES = 1_000_000_000
HALF_WRITTEN = re.compile(r"\..+\.([1-9]\d{0,9})\.partial(?:\.[^/]+)?")
"""The names of what `replacing` writes before it renames it, with the number of the process."""

ARRAY_HEADER = re.compile(rb"\{'descr': '([<>|=][a-zA-Z]\d*)', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*)\), \} *\n")


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
        temporary.unlink(missing_ok=True)  # a link of that name would be written through
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


@contextmanager
def kept_to_itself(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same from `folder` until the block, or this process, ends; it leaves a file `.lock` there.

    What processes that were killed while writing (`replacing`) left half-written in there is removed.

    Raises:
        InputError: another process is there, the folder cannot be written, or something in it leads out of it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        # A lock that somebody else made may be a link, or a pipe that nobody reads.
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}). Remedy: choose another folder.") from error
    with os.fdopen(lock, "rb+", buffering=0):
        try:
            # Of this process alone: workers that outlive it for a moment, having been killed by nobody, do not hold such a lock.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InputError(f"{folder}: another process is at work there. Remedy: wait until it has ended, or end it.") from error
        except OSError:
            pass  # some network file systems know no locks
        with suppress(OSError):  # a folder that somebody removes meanwhile
            for half in folder.rglob(".*.partial*"):
                if (process := HALF_WRITTEN.fullmatch(half.name)) and not _is_being_written(int(process[1])):
                    with suppress(OSError):  # if it cannot be removed, what follows cannot write, and says so
                        half.unlink()
        yield


def refuse_links(folder: Path) -> None:
    """Raise InputError if something in a folder is a link to a folder, which would be written through; one to a file is replaced."""
    for entry in folder.rglob("*"):
        if entry.is_symlink() and entry.is_dir():
            raise InputError(f"{entry}: a link to a folder, so what belongs here would be written there. Remedy: a copy of that folder.")


def _is_being_written(process: int) -> bool:
    """Whether the process that `replacing` named a file after is another one, and still runs: not all that write ask for the folder."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, maximum_bytes: int) -> bytes:
    """Return what a regular file holds; a device or a pipe, which may never end, is none.

    Raises:
        InputError: there is no such file, it cannot be read, or it is larger than `maximum_bytes`.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is no file' if path.exists() else 'not found'}. Remedy: check the path.")
    try:
        if path.stat().st_size > maximum_bytes:
            raise InputError(f"{path}: larger than {maximum_bytes / 1_000_000:g} MB. Remedy: check that it is the file you mean.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: check the path and its permissions.") from error


def read_json(path: Path) -> Any:
    """Return the tree in a JSON file.

    Raises:
        InputError: as `read_bounded`, or it is no JSON in UTF-8, nests too deep, or says one thing twice.
    """

    return _parsed(read_bounded(path, MAXIMUM_JSON_BYTES), path, "copy the file again")


def read_json_lines(path: Path) -> list[Any]:
    """Return the tree in each line of a file.

    Raises:
        InputError: as `read_json`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "alarms.jsonl"
    >>> _ = path.write_text('{"step": 10}\\n{"step": 20}\\n')
    >>> read_json_lines(path)
    [{'step': 10}, {'step': 20}]
    """
    lines = read_bounded(path, MAXIMUM_JSON_BYTES).splitlines()
    return [_parsed(line, f"{path}, line {number}", "copy the file again, or move it away") for number, line in enumerate(lines, start=1)]


def _parsed(data: bytes, place: Path | str, remedy: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a key stands twice in {[key for key, _ in pairs]}")
        return dict(pairs)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error}). Remedy: {remedy}.") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an NPZ file by name. Unlike `numpy.load` this allocates nothing that is not in the file, and knows no pickles.

    Raises:
        InputError: as `read_bounded`, or it is no NPZ file as `numpy.savez` writes it, or a checksum is wrong.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.npz"
    >>> np.savez(path, onsets=np.array([0.5, 1.5]), end=np.float64(2.0))
    >>> {name: array.tolist() for name, array in read_arrays(path).items()}
    {'onsets': [0.5, 1.5], 'end': 2.0}
    """
    data = read_bounded(path, MAXIMUM_ARRAYS_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # A member is read up to the size that the directory states, and no further.
            if sum(member.file_size for member in archive.infolist()) > MAXIMUM_ARRAYS_BYTES:
                raise ValueError(f"unpacks to more than {MAXIMUM_ARRAYS_BYTES / 1_000_000:g} MB")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in archive.infolist()}
    # Damaged archives and array headers end in BadZipFile, zlib.error, SyntaxError, TokenError, OverflowError and more.
    except Exception as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}). Remedy: delete it; it is made anew.") from error


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    shape, by_columns, kind = array_header(stream)
    start = stream.tell()
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(data) - start:
        raise ValueError(f"an array of shape {shape} and type {kind} in {len(data) - start} bytes")
    return np.frombuffer(data, kind, offset=start).reshape(shape, order="F" if by_columns else "C")


def array_header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order (true: by columns) and type from the header of a NPY file, and leave `file` at its first value.

    NumPy evaluates a header as an expression of Python. One that is made for it can bring down the interpreter's parser, and in Python
    3.11 the parser fails by itself if garbage is collected meanwhile: what `numpy.save` writes can be read without it.

    Raises:
        ValueError, TypeError: it is no such header.

    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((2, 3), "<f2"))
    >>> _ = file.seek(0)
    >>> array_header(file), file.tell()
    (((2, 3), False, dtype('float16')), 128)
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not the array format 1.0")
    header = ARRAY_HEADER.fullmatch(file.read(int.from_bytes(file.read(2), "little")))
    if header is None:
        raise ValueError("not a header as numpy.save writes it")
    kind, by_columns, lengths = (part.decode() for part in header.groups())
    return tuple(int(length) for length in lengths.split(",") if length), by_columns == "True", np.dtype(kind)
