"""Sheet music in MusicXML (plain or compressed), MEI and Humdrum kern, read with music21.

What becomes of what stands there: ties are merged, also across bars and voices; grace notes are left out, since they have no written
time; so are unpitched percussion and chord symbols; transposing instruments sound; ornaments are not played out; a pickup begins at 0.

XML is checked before music21 sees it: entity declarations are refused, size and depth are bounded, and no other file is opened.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any
from xml.parsers import expat

import numpy as np

from softscribe.errors import InputError
from softscribe.files import read_bounded
from softscribe.scores.notes import SAME_TIME_QUARTERS, Score

#: An orchestral score has 10-50 MB of MusicXML.
MAXIMUM_BYTES = 100_000_000
#: MusicXML nests 12 deep, MEI about 30.
MAXIMUM_DEPTH = 200
#: 50 MB of MusicXML have 2 million.
MAXIMUM_ELEMENTS = 4_000_000
_REMEDY = "Remedy: export the score again, as MusicXML, or leave it out."


def read_sheet_music(path: Path, repeats: str) -> Score:
    """Read a score with repeats and voltas as "written" (once, one ending after the other) or "expanded" (as played).

    Raises:
        InputError: the file cannot be read, is damaged or unsafe, holds no pitched note, or its repeats cannot be followed.
    """
    data = read_bounded(path, MAXIMUM_BYTES)
    if path.suffix.lower() == ".krn":
        text, form = data.decode("utf-8", errors="replace"), "humdrum"
        _refuse_endless(path, re.findall(r"\*M(\d+/\d+)", text))
    else:
        text, form = _checked_xml(path, _unzipped(path, data) if zipfile.is_zipfile(io.BytesIO(data)) else data)
    try:
        sheet = _parsed(text, form)
        return _score(path, _expanded(path, sheet) if repeats == "expanded" else sheet)
    except (InputError, Warning):
        raise
    # Well-formed nonsense makes music21 raise almost any built-in error, besides its own.
    except Exception as error:
        raise InputError(f"{path}: music21 cannot read it ({type(error).__name__}: {error}). {_REMEDY}") from error


def _unzipped(path: Path, data: bytes) -> bytes:
    """The score inside a compressed MusicXML file; nothing is written to disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            for name in names:
                if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                    raise InputError(f"{path}: holds {name!r}, a path that leaves the archive. {_REMEDY}")
            if "META-INF/container.xml" in names:
                container, _ = _parsed_xml(path, _member(path, archive, "META-INF/container.xml"))
                listed = [str(element.get("full-path")) for element in container.iter() if element.tag.endswith("rootfile")]
            else:
                listed = [name for name in names if name.lower().endswith((".xml", ".musicxml")) and not name.startswith("META-INF/")]
            if not listed or listed[0] not in names:
                raise InputError(f"{path}: a compressed file without a score inside. {_REMEDY}")
            return _member(path, archive, listed[0])
    except InputError:
        raise
    # BadZipFile, zlib.error, RuntimeError (a password), NotImplementedError (a method), ValueError (a place before the beginning) and more.
    except Exception as error:
        raise InputError(f"{path}: a damaged or locked MXL file ({error}). {_REMEDY}") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    # The size in the directory may lie, so the reading itself is bounded.
    with archive.open(name) as file:
        data = file.read(MAXIMUM_BYTES + 1)
    if len(data) > MAXIMUM_BYTES:
        raise InputError(f"{path}: unpacks to more than {MAXIMUM_BYTES // 1_000_000} MB. Remedy: give the score of one piece.")
    return data


def _checked_xml(path: Path, data: bytes) -> tuple[str, str]:
    """The XML written anew, without its document type, and which music21 format it is."""
    root, tag = _parsed_xml(path, data)
    forms = {"score-partwise": "musicxml", "mei": "mei"}
    if tag not in forms:
        raise InputError(f"{path}: its root is <{tag}>. Remedy: export the score as MusicXML (score-partwise) or MEI.")
    _refuse_endless(path, [element.text or "" for element in root.iter() if element.tag in ("beats", "beat-type")])
    _refuse_endless(path, [element.get(name, "") for element in root.iter() for name in ("times", "meter.count", "meter.unit")])
    return ET.tostring(root, encoding="unicode"), forms[tag]


def _refuse_endless(path: Path, counts: list[str]) -> None:
    """Refuse beats in a bar, or times of a repeat, by the thousand: music21 would build them one by one."""
    for count in counts:
        if re.search(r"\d{4}", count):
            raise InputError(f"{path}: asks for a time signature or a repeat of {count[:20]!r}. {_REMEDY}")


def _parsed_xml(path: Path, data: bytes) -> tuple[ET.Element, str]:
    """The XML's root and its tag without namespace; refused if it declares entities, is too deep or too large, or is broken."""
    depth = count = 0

    def refuse_entity(name: str, *_: object) -> None:
        raise InputError(f"{path}: declares the XML entity {name!r}, which a score has no need of. {_REMEDY}")

    def descend(*_: object) -> None:
        nonlocal depth, count
        depth += 1
        count += 1
        if depth > MAXIMUM_DEPTH:
            raise InputError(f"{path}: XML nested more than {MAXIMUM_DEPTH} deep. {_REMEDY}")
        if count > MAXIMUM_ELEMENTS:
            raise InputError(f"{path}: more than {MAXIMUM_ELEMENTS:,} XML elements. Remedy: give the score of one piece.")

    def ascend(_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse_entity
    parser.StartElementHandler = descend
    parser.EndElementHandler = ascend
    try:
        parser.Parse(data, True)
        root = ET.fromstring(data)
    except (expat.ExpatError, ET.ParseError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: broken XML ({error}). {_REMEDY}") from error
    return root, root.tag.rpartition("}")[2]


def _parsed(text: str, form: str) -> Any:
    """The text as a music21 stream, at sounding pitch."""
    from music21 import converter
    from music21.musicxml.xmlObjects import MusicXMLWarning

    reader = converter.Converter()
    with warnings.catch_warnings():
        # Layout and playback details that music21 cannot represent; they hold no notes.
        warnings.simplefilter("ignore", MusicXMLWarning)
        reader.parseData(text, format=form, forceSource=True)
    reader.stream.toSoundingPitch(inPlace=True)
    return reader.stream


def _expanded(path: Path, sheet: Any) -> Any:
    from music21.repeat import ExpanderException

    try:
        expanded = sheet.expandRepeats()
    except ExpanderException as error:
        raise InputError(f"{path}: its repeats cannot be followed ({error}). Remedy: use repeats=written, or correct the score.") from error
    ends = {round(float(part.highestTime), 3) for part in _parts(expanded)}
    written_ends = {round(float(part.highestTime), 3) for part in _parts(sheet)}
    if len(ends) > 1 and len(written_ends) == 1:
        raise InputError(f"{path}: its parts repeat differently. Remedy: use repeats=written, or put the same repeats into every part.")
    return expanded


def _parts(sheet: Any) -> list[Any]:
    return list(getattr(sheet, "parts", [])) or [sheet]


def _score(path: Path, sheet: Any) -> Score:
    from music21 import stream

    if isinstance(sheet, stream.Opus):
        raise InputError(f"{path}: holds {len(sheet.scores)} scores. Remedy: give one file per piece.")
    notes: list[tuple[float, float, int, int]] = []
    for number, part in enumerate(_parts(sheet)):
        notes += [(onset, offset, pitch, number) for onset, offset, pitch in _tied(_written(part))]
    if not notes:
        raise InputError(f"{path}: holds no pitched note. Remedy: give a score that has notes, or leave it out.")
    onsets, offsets, pitches, parts = np.array(notes).T
    end = max(float(sheet.highestTime), offsets.max())
    try:
        return Score(onsets, offsets - onsets, pitches.astype(np.int64), parts.astype(np.int64), end)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _written(part: Any) -> list[tuple[float, float, int, bool]]:
    """Onset, offset, pitch and "continues a tie" of every note of a part, in the order of time."""
    from music21 import harmony

    written = []
    for element in part.flatten().notes:
        # Pitches, not class, decide: an unpitched note has none, a percussion chord may hold both.
        if isinstance(element, harmony.Harmony) or element.duration.isGrace or element.quarterLength == 0:
            continue
        onset = float(element.offset)
        for note in element.notes if element.isChord else [element]:
            if hasattr(note, "pitch"):
                continues = note.tie is not None and note.tie.type in ("stop", "continue")
                # Rounded as music21 does, but not moved by octaves into MIDI's range: what lies outside is refused.
                pitch = math.floor(note.pitch.ps + 0.5)
                written.append((onset, onset + float(element.quarterLength), pitch, continues))
    return sorted(written)


def _tied(written: list[tuple[float, float, int, bool]]) -> list[tuple[float, float, int]]:
    """Notes with ties merged: a note that continues a tie prolongs the one of its pitch that ends where it begins."""
    merged: list[tuple[float, float, int]] = []
    ending: dict[tuple[int, int], int] = {}  # (pitch, offset on a fine grid) -> place in merged
    for onset, offset, pitch, continues in written:
        place = ending.pop((pitch, _grid(onset)), None) if continues else None
        if place is None:
            place = len(merged)
            merged.append((onset, offset, pitch))
        else:
            merged[place] = (merged[place][0], offset, pitch)
        ending[pitch, _grid(offset)] = place
    return merged


def _grid(time_quarters: float) -> int:
    return round(time_quarters / SAME_TIME_QUARTERS)
