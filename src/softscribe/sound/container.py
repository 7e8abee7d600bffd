"""What the container of an audio file promises, compared with the bytes that are there.

libsndfile reads a WAV or an Ogg file that was cut off without a word, only shorter: its notes would then be searched in the part
that is missing. Nothing here decodes audio or allocates by a size that a header states.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

_LARGEST_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_UNKNOWN_LENGTH_SLACK_BYTES = 1 << 16


def missing_bytes(path: Path) -> int:
    """Return how many bytes at least are missing at the end of a WAV or Ogg file; 0 if it is whole, or of another kind.

    A WAV whose header was never completed, as written into a pipe (a length just below 2^31 or 2^32), counts as whole.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "half.wav"
    >>> _ = path.write_bytes(b"RIFF" + struct.pack("<I", 136) + b"WAVEdata" + struct.pack("<I", 100) + bytes(60))
    >>> missing_bytes(path)
    40
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(12)
        if magic[:4] in (b"RIFF", b"RF64") and magic[8:12] == b"WAVE":
            return _missing_in_wav(file, size)
        if magic[:4] == b"OggS":
            return _missing_in_ogg(file, size)
    return 0


def _missing_in_wav(file: BinaryIO, size: int) -> int:
    length_in_ds64 = None
    while len(header := file.read(8)) == 8:
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        start = file.tell()
        if name == b"ds64":  # RF64: the lengths that do not fit into 32 bits
            length_in_ds64 = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
        elif name == b"data":
            if length_in_ds64 is not None and length == 0xFFFFFFFF:
                return max(0, start + length_in_ds64 - size)
            unknown = any(limit - _UNKNOWN_LENGTH_SLACK_BYTES <= length < limit for limit in (1 << 31, 1 << 32))
            return 0 if unknown else max(0, start + length - size)
        file.seek(start + length + length % 2)
    return 0


def _missing_in_ogg(file: BinaryIO, size: int) -> int:
    """Ogg is a chain of pages, each with a table of its segments' lengths: the last one has to be there in full."""
    tail_start = max(0, size - 2 * _LARGEST_OGG_PAGE_BYTES)
    file.seek(tail_start)
    tail = file.read()
    page_start = tail.rfind(b"OggS")
    if page_start < 0:
        return 0
    page = tail[page_start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))
