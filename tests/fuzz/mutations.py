"""Damage to small files that were good: what disks, networks, editors, converters and attackers make of them."""

from __future__ import annotations

import copy
import io
import re
import struct
import zipfile
from typing import Any

from hypothesis import strategies as st

WORDS = re.compile(rb"[\w.+#-]+")
NUMBERS = [
    b"0",
    b"-1",
    b"1e308",
    b"1e-320",
    b"nan",
    b"inf",
    b"-inf",
    b"99999999999999999999",
    b"9" * 5000,
    b"0x10",
    b"1_0",
    b"1/0",
    b"2147483648",
]
TEXTS = [b"", b"\0", b"\xff\xfe", b"../../etc/passwd", b"/etc/passwd", b"${oc.env:HOME}", b"!!python/object/apply:os.system", b"A" * 70_000]
TEXTS += [
    "\u0661\u200f\U0001d11e".encode(),
    b'"',
    b"'",
    b"&",
    b"<",
    b">",
    b",",
    b";",
    b"\n",
    b"\r",
    b"\t",
    b"{",
    b"]",
    b"\x1b[2J",
    b"&amp;",
    b"&x;",
]
EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
VALUES: list[Any] = [None, True, -1, 0, 0.5, 2, 10**6, 10**30, 1e308, float("nan"), float("inf"), "", "0", "\0", "../../x", "/etc/passwd"]
VALUES += ["mcnn", "x" * 10_000, [], [0], [[]], {}, {"": 0}, {"_target_": "os.system"}, "${oc.env:HOME}", "\ud800", [1] * 1000]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to four injuries to bytes: flipped, cut, inserted, removed, repeated, exchanged, or overwritten with the edges of integers."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        # Headers decide the most: half of the injuries lie there.
        place = draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))
        other = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 8) | st.integers(1, 2000))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "remove", "repeat", "exchange", "edge"]))
        if kind == "flip":
            data[place : place + 1] = bytes(byte ^ (1 << length % 8) for byte in data[place : place + 1])
        elif kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = draw(st.sampled_from([*NUMBERS, *TEXTS]) | st.binary(max_size=20))
        elif kind == "remove":
            del data[place : place + length]
        elif kind == "repeat":
            data[place:place] = data[place : place + length] * draw(st.integers(1, 8))
        elif kind == "exchange":
            data[place : place + length], data[other : other + length] = data[other : other + length], data[place : place + length]
        else:
            form = draw(st.sampled_from(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]))
            size = struct.calcsize(form)
            data[place : place + size] = struct.pack(form, draw(st.sampled_from(EDGES)) % (1 << 8 * size))
    return bytes(data)


@st.composite
def reworded(draw: st.DrawFn, whole: bytes) -> bytes:
    """A text whose words were exchanged for each other or for absurd ones, whose lines were lost or doubled, or in another encoding."""
    data = whole
    for _ in range(draw(st.integers(1, 4))):
        words = list(WORDS.finditer(data))
        if not words:
            return data
        word = draw(st.sampled_from(words))
        kind = draw(st.sampled_from(["word", "absurd", "line", "nest"]))
        if kind == "word":
            data = data[: word.start()] + draw(st.sampled_from(words)).group() + data[word.end() :]
        elif kind == "absurd":
            data = data[: word.start()] + draw(st.sampled_from([*NUMBERS, *TEXTS])) + data[word.end() :]
        elif kind == "line":
            lines = data.split(b"\n")
            place = draw(st.integers(0, len(lines) - 1))
            lines[place : place + 1] = [lines[place]] * draw(st.integers(0, 3))
            data = b"\n".join(lines)
        else:
            opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(", b")"), (b"- ", b"")]))
            depth = draw(st.sampled_from([10, 1000, 20_000]))
            data = data[: word.start()] + opening * depth + word.group() + closing * depth + data[word.end() :]
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "utf-8-sig", "utf-32"]))
    return data if encoding == "utf-8" else data.decode("utf-8", "replace").encode(encoding)


@st.composite
def replanted(draw: st.DrawFn, whole: Any) -> Any:
    """A tree of dicts and lists in which values were replaced, dropped, or moved under another key."""
    root = [copy.deepcopy(whole)]
    for _ in range(draw(st.integers(1, 3))):
        places = [(root, 0), *_places(root[0])]
        holder, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "replace", "drop", "key", "exchange"]))
        if kind == "replace":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif kind == "exchange":
            other, other_key = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[other_key])
        elif kind == "drop" and isinstance(holder, dict):
            del holder[key]
        elif kind == "key" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "_target_", "name", "1", "x" * 300]))] = holder.pop(key)
    return root[0]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(min(len(tree), 20)) if isinstance(tree, list) else []
    return [place for key in keys for place in [(tree, key), *_places(tree[key])]]


@st.composite
def repacked(draw: st.DrawFn, whole: bytes) -> bytes:
    """A ZIP archive of which one member was damaged and packed again, with a checksum that fits."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        compression = archive.infolist()[0].compress_type
    victim = draw(st.sampled_from(sorted(members)))
    content = draw(damaged(members[victim]) | reworded(members[victim]))
    name = draw(st.sampled_from([victim] * 6 + ["../evil.xml", "/etc/evil", "a\\b", *members]))
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", draw(st.sampled_from([compression] * 6 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))) as archive:
        for member, data in members.items():
            place, stored = (name, content) if member == victim else (member, data)
            if place not in archive.namelist():
                archive.writestr(place, stored)
    return result.getvalue()
