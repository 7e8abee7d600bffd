"""Scores made to harm: entities, bombs, archives with tricks, absurd MIDI."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fuzz import wholes
from fuzz.guard import read_or_refuse, refused, saved
from softscribe.scores import read_performed_notes, read_score

pytestmark = pytest.mark.usefixtures("without_shape_types", "nothing_runs")


DOCTYPE = '<?xml version="1.0"?><!DOCTYPE score-partwise {}>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "head",
    [
        DOCTYPE.format('[<!ENTITY e SYSTEM "file:///etc/passwd">]'),
        DOCTYPE.format('[<!ENTITY % p SYSTEM "http://localhost:9/x.dtd"> %p;]'),
        DOCTYPE.format(f'[<!ENTITY l0 "ha">{LAUGHS}]'),
        DOCTYPE.format(f'[<!ENTITY e "{"x" * 100_000}">]'),
    ],
    ids=["external", "parameter", "laughs", "quadratic"],
)
@pytest.mark.parametrize("suffix", ["musicxml", "mei", "mxl"])
def test_entities_are_refused_wherever_they_stand(tmp_path: Path, head: str, suffix: str) -> None:
    text = head + f"<score-partwise><a>{'&e;' * 20_000}&l11;</a></score-partwise>"
    content: bytes | str = text
    if suffix == "mxl":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("score.xml", text)
        content = packed.getvalue()
    refused(read_score, saved(tmp_path / f"a.{suffix}", content), "entity", megabytes=100)


def test_other_documents_that_a_score_names_are_not_opened(tmp_path: Path) -> None:
    """An external document type is left alone (every score from a notation program names one), and so are links and inclusions."""
    whole = wholes.musicxml().replace(b"http://www.musicxml.org/dtds/partwise.dtd", b"http://localhost:9/evil.dtd")
    links = b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'
    links += b'<credit><credit-image source="http://localhost:9/i" type="x"/></credit>'
    path = saved(tmp_path / "a.musicxml", whole.replace(b"<part-list>", links + b"<part-list>"))
    assert len(read_score(path)) > 0


def test_many_small_elements_do_not_fill_the_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mxl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b"<score-partwise>" + b"<a/>" * 20_000_000 + b"</score-partwise>")
    refused(read_score, tmp_path / "a.mxl", "elements", seconds=300)


def mxl(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize("name", ["../evil.xml", "/tmp/evil.xml", "a/../../evil.xml", "..\\evil.xml", "C:\\evil.xml"])
def test_paths_that_leave_an_archive_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    refused(read_score, saved(inner / "a.mxl", mxl(name, wholes.musicxml())), "leaves the archive")
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "a.mxl"]


def test_archives_with_bombs_locks_and_lies_are_refused(tmp_path: Path) -> None:
    bomb = mxl("score.xml", bytes(150_000_000))
    assert len(bomb) < 200_000
    refused(read_score, saved(tmp_path / "bomb.mxl", bomb), "100 MB", megabytes=500)
    for kind, place, value in (("locked", 8, b"\1"), ("method", 10, b"\x63"), ("elsewhere", 42, b"\xff\xff\xff\x7f")):
        refused(read_score, saved(tmp_path / f"{kind}.mxl", in_directory(wholes.mxl(), place, value)), megabytes=200)


@pytest.mark.parametrize("place", [20, 24], ids=["packed", "unpacked"])
def test_a_size_that_an_archive_states_is_not_believed(tmp_path: Path, place: int) -> None:
    path = saved(tmp_path / "a.mxl", in_directory(wholes.mxl(), place, b"\xff\xff\xff\xef"))
    score = read_or_refuse(read_score, path, megabytes=200)
    assert isinstance(score, str) or score == read_score(saved(tmp_path / "b.mxl", wholes.mxl()))


def in_directory(archive: bytes, place: int, value: bytes) -> bytes:
    """The archive with other bytes in its directory's entry of the last member."""
    start = archive.rindex(b"PK\1\2") + place
    return archive[:start] + value + archive[start + len(value) :]


def variable_length(value: int) -> bytes:
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127 | 128)
    return bytes(groups[::-1])


def midi(events: bytes, division: int = 96, length: int | None = None) -> bytes:
    return (
        b"MThd" + struct.pack(">IHHH", 6, 0, 1, division) + b"MTrk" + struct.pack(">I", len(events) if length is None else length) + events
    )


NOTE = b"\0\x90\x3c\x40\x60\x80\x3c\0"
END = b"\0\xff\x2f\0"


@pytest.mark.parametrize(
    "content",
    [
        midi(b"\0\x90\x3c\x40" + variable_length((1 << 28) - 1) + b"\x80\x3c\0" + END),
        midi(b"\0\x90\x3c\x40" + variable_length(9_000_000) + b"\x80\x3c\0" + variable_length(9_000_000) + END, division=1),
        midi(NOTE + END, length=0xFFFFFFFF),
        midi(b"\0\xff\x7f" + variable_length((1 << 28) - 1) + NOTE),
        midi(b"\0\xf0" + variable_length((1 << 28) - 1) + NOTE),
        b"MThd" + struct.pack(">IHHH", 0xFFFFFFFF, 1, 0xFFFF, 96),
        b"MThd" + struct.pack(">IHHH", 6, 1, 0xFFFF, 96) + (b"MTrk" + struct.pack(">I", 4) + END) * 3,
        midi(NOTE + END, division=0),
    ],
)
def test_midi_that_claims_the_absurd_is_refused(tmp_path: Path, content: bytes) -> None:
    for read in (read_score, read_performed_notes):
        refused(read, saved(tmp_path / "a.mid", content))


@pytest.mark.parametrize("microseconds", [0, 1, 0xFFFFFF])
def test_an_absurd_tempo_does_not_move_a_score(tmp_path: Path, microseconds: int) -> None:
    """In seconds it is refused if nothing sounds any more, or taken at its word: 16.8 s per quarter note is slow, but possible."""
    path = saved(tmp_path / "a.mid", midi(b"\0\xff\x51\3" + microseconds.to_bytes(3, "big") + NOTE + END))
    score = read_or_refuse(read_score, path)
    assert isinstance(score, str) or score.end_quarters == 1
    performed = read_or_refuse(read_performed_notes, path)
    assert isinstance(performed, str) or np.isfinite(performed.offsets_seconds).all()


def test_scores_beyond_all_sizes_are_refused_unread(tmp_path: Path) -> None:
    for name in ("a.mid", "a.musicxml", "a.krn", "a.csv"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(20_000_000_000)  # a hole: it takes no place on the disk
        refused(read_score, tmp_path / name, "larger than", megabytes=300)
