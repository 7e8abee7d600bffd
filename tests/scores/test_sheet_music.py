"""Sheet music: the notes that stand there, at sounding pitch, and nothing from a file that is not safe."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from softscribe.errors import InputError
from softscribe.scores import Score, read_score

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)
CONTAINER = '<container><rootfiles><rootfile full-path="{}"/></rootfiles></container>'


def xml_note(step: str, quarters: int, extra: str = "", octave: int = 4, chord: bool = False) -> str:
    """A note of a document with 12 divisions per quarter note."""
    stacked = "<chord/>" if chord else ""
    return f"<note>{stacked}<pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>{quarters * 12}</duration>{extra}</note>"


def document(*measures: str, attributes: str = "", part: str = "<part-name>P</part-name>", head: str = HEAD) -> str:
    start = f"<attributes><divisions>12</divisions>{attributes}</attributes>"
    body = "".join(f'<measure number="{number + 1}">{start if not number else ""}{text}</measure>' for number, text in enumerate(measures))
    return (
        f'{head}<score-partwise version="3.1"><part-list><score-part id="P1">{part}</score-part></part-list>'
        f'<part id="P1">{body}</part></score-partwise>'
    )


def saved(folder: Path, text: str | bytes, name: str = "score.musicxml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(score: Score) -> list[tuple[float, float, int]]:
    return list(zip(score.onsets_quarters.tolist(), score.durations_quarters.tolist(), score.pitches.tolist(), strict=True))


def test_ties_are_merged_across_bars_and_chords_and_repeated_notes_are_not(tmp_path: Path) -> None:
    tie = '<tie type="{}"/>'
    text = document(
        xml_note("C", 2) + xml_note("C", 2, tie.format("start")) + xml_note("E", 2, chord=True),
        xml_note("C", 4, tie.format("stop") + tie.format("start")) + xml_note("E", 4, chord=True),
        xml_note("C", 1, tie.format("stop")) + xml_note("C", 3),
    )
    expected = [(0, 2, 60), (2, 7, 60), (2, 2, 64), (4, 4, 64), (9, 3, 60)]
    assert rows(read_score(saved(tmp_path, text))) == expected


def test_a_tie_that_never_began_is_a_note(tmp_path: Path) -> None:
    text = document(xml_note("C", 4, '<tie type="stop"/>') + xml_note("C", 4, '<tie type="start"/>'))
    assert rows(read_score(saved(tmp_path, text))) == [(0, 4, 60), (4, 4, 60)]


def test_transposing_instruments_sound(tmp_path: Path) -> None:
    clarinet = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    assert read_score(saved(tmp_path, document(xml_note("C", 4), attributes=clarinet))).pitches.tolist() == [58]


def test_an_ottava_is_already_in_the_pitch_of_musicxml(tmp_path: Path) -> None:
    shift = '<direction><direction-type><octave-shift type="{}" size="8" number="1"/></direction-type></direction>'
    text = document(shift.format("down") + xml_note("C", 4, octave=6) + shift.format("stop") + xml_note("C", 4, octave=5))
    assert read_score(saved(tmp_path, text)).pitches.tolist() == [84, 72]


def test_grace_notes_chord_symbols_and_unpitched_notes_are_left_out(tmp_path: Path) -> None:
    grace = "<note><grace/><pitch><step>D</step><octave>5</octave></pitch></note>"
    harmony = "<harmony><root><root-step>G</root-step></root><kind>dominant</kind></harmony>"
    unpitched = (
        "<note><unpitched><display-step>E</display-step><display-octave>4</display-octave></unpitched><duration>12</duration></note>"
    )
    text = document(harmony + grace + xml_note("C", 1) + unpitched + xml_note("G", 2))
    assert rows(read_score(saved(tmp_path, text))) == [(0, 1, 60), (2, 2, 67)]


def test_a_pickup_begins_at_zero_and_rests_end_the_score(tmp_path: Path) -> None:
    rest = "<note><rest/><duration>24</duration></note>"
    meter = "<time><beats>4</beats><beat-type>4</beat-type></time>"
    text = document(xml_note("G", 1), xml_note("C", 2) + rest, attributes=meter).replace('number="1"', 'number="0" implicit="yes"')
    score = read_score(saved(tmp_path, text))
    assert rows(score) == [(0, 1, 67), (1, 2, 60)]
    assert score.end_quarters == 5


def test_voices_and_staves_sound_together(tmp_path: Path) -> None:
    back = "<backup><duration>48</duration></backup>"
    text = document(
        xml_note("E", 4, "<voice>1</voice>") + back + xml_note("C", 2, "<voice>2</voice>") + xml_note("D", 2, "<voice>2</voice>")
    )
    assert rows(read_score(saved(tmp_path, text))) == [(0, 2, 60), (0, 4, 64), (2, 2, 62)]


def test_repeats_and_voltas_as_written_and_as_played(tmp_path: Path) -> None:
    def volta(number: int, place: str, kind: str, repeat: bool = False) -> str:
        again = '<repeat direction="backward"/>' if repeat else ""
        return f'<barline location="{place}"><ending number="{number}" type="{kind}"/>{again}</barline>'

    text = document(
        xml_note("C", 4),
        volta(1, "left", "start") + xml_note("D", 4) + volta(1, "right", "stop", repeat=True),
        volta(2, "left", "start") + xml_note("E", 4) + volta(2, "right", "stop"),
    )
    path = saved(tmp_path, text)
    assert read_score(path).pitches.tolist() == [60, 62, 64]
    played = read_score(path, repeats="expanded")
    assert played.pitches.tolist() == [60, 62, 60, 64]
    assert played.end_quarters == 16
    with pytest.raises(InputError, match="repeats: 'twice'"):
        read_score(path, repeats="twice")


def test_mei_and_kern_say_the_same_as_musicxml(tmp_path: Path) -> None:
    expected = [(0, 1, 60), (1, 2, 64), (3, 1, 62)]
    kern = "**kern\n*M4/4\n=1\n4c\n2e\n4d\n==\n*-\n"
    mei = (
        '<?xml version="1.0" encoding="UTF-8"?><mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="3.0.0">'
        "<music><body><mdiv><score>"
        '<scoreDef meter.count="4" meter.unit="4"><staffGrp><staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef>'
        '<section><measure n="1"><staff n="1"><layer n="1"><note pname="c" oct="4" dur="4"/><note pname="e" oct="4" dur="2"/>'
        '<note pname="d" oct="4" dur="4"/></layer></staff></measure></section></score></mdiv></body></music></mei>'
    )
    xml = document(xml_note("C", 1) + xml_note("E", 2) + xml_note("D", 1))
    for name, text in [("score.krn", kern), ("score.mei", mei), ("mei.xml", mei), ("score.xml", xml)]:
        assert rows(read_score(saved(tmp_path, text, name))) == expected, name
    assert rows(read_score(saved(tmp_path, xml.replace("UTF-8", "UTF-16").encode("utf-16"), "wide.xml"))) == expected


def archive(**members: str | bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return data.getvalue()


def test_compressed_musicxml_with_and_without_a_container(tmp_path: Path) -> None:
    text = document(xml_note("C", 4))
    listed = {"other.xml": "<a/>", "inside/it.xml": text, "META-INF/container.xml": CONTAINER.format("inside/it.xml")}
    for members in (listed, {"it.musicxml": text}):
        assert rows(read_score(saved(tmp_path, archive(**members), "score.mxl"))) == [(0, 4, 60)]


ENTITY = '<?xml version="1.0"?><!DOCTYPE score-partwise [<!ENTITY {}>]>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "broken XML"),
        ("this is no score", "broken XML"),
        (document(xml_note("C", 4))[:-40], "broken XML"),
        ("<html><body/></html>", "root is <html>"),
        (document("<rest/>"), "no pitched note"),
        (document(xml_note("H", 4)), "cannot read"),
        (document(xml_note("D", 8) + xml_note("C", -4)), "durations_quarters|cannot read"),
        (document(xml_note("C", 4), attributes="<time><beats>999999</beats><beat-type>4</beat-type></time>"), "time signature"),
        (document(xml_note("C", 4) + '<barline><repeat direction="backward" times="100000"/></barline>'), "or a repeat"),
        (document(xml_note("C", 4), head=ENTITY.format('a "b"')), "declares the XML entity 'a'"),
        (document(xml_note("C", 4), head=ENTITY.format('a SYSTEM "file:///etc/passwd"')), "declares the XML entity 'a'"),
        (document(xml_note("C", 4), head=ENTITY.format('% a SYSTEM "http://localhost/a"')), "declares the XML entity 'a'"),
        (document(xml_note("C", 4), head=ENTITY.format('a "b"')).replace("?>", ' encoding="utf-16"?>').encode("utf-16"), "XML entity"),
        (HEAD + "<a>" * 1000 + "</a>" * 1000, "nested more than"),
        (document(xml_note("C", 4)).replace("UTF-8", "no-such-code"), "broken XML"),
        (archive(**{"../it.xml": document(xml_note("C", 4))}), "leaves the archive"),
        (archive(**{"/it.xml": document(xml_note("C", 4))}), "leaves the archive"),
        (archive(**{"it.xml": "<a/>", "META-INF/container.xml": CONTAINER.format("../../it.xml")}), "without a score"),
        (archive(**{"META-INF/container.xml": ENTITY.format('a "b"') + "<a/>", "it.xml": "<a/>"}), "XML entity"),
        (archive(**{"readme.txt": "nothing"}), "without a score"),
        (archive(**{"it.xml": document(xml_note("C", 4))}).replace(b"it.xml", b"xx.xml", 1), "damaged"),
        (archive(**{"it.xml": b"<a>" + b" " * 100_000_001}), "unpacks to more than 100 MB"),
    ],
)
def test_broken_and_unsafe_files_are_refused_by_name(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = saved(tmp_path, content, "faulty.mxl")
    with pytest.raises(InputError, match=message) as caught:
        read_score(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_not_there_or_no_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_score(tmp_path / "none.mid")
    with pytest.raises(InputError, match="is no file"):
        read_score(tmp_path)
    with pytest.raises(InputError, match=r"suffix '\.pdf'"):
        read_score(saved(tmp_path, "%PDF", "score.pdf"))


@pytest.mark.parametrize("piece", ["bach/bwv66.6", "bach/bwv1.6", "bach/bwv347"])
def test_musicxml_and_midi_of_the_same_piece_hold_the_same_notes(tmp_path: Path, piece: str) -> None:
    from music21 import corpus

    sheet = corpus.parse(piece, forceSource=True)
    xml = Path(sheet.write("musicxml", fp=tmp_path / "score.musicxml"))
    midi = Path(sheet.toSoundingPitch().write("midi", fp=tmp_path / "score.mid"))
    # music21 plays repeats when it writes MIDI, as in the last of these chorales.
    from_xml, from_midi = read_score(xml, repeats="expanded"), read_score(midi)
    assert len(from_xml) > 100
    for field in ("onsets_quarters", "durations_quarters", "pitches"):
        one, other = (
            sorted(getattr(score, field)[np.lexsort((score.durations_quarters, score.pitches, score.onsets_quarters))])
            for score in (from_xml, from_midi)
        )
        np.testing.assert_allclose(one, other, atol=1e-3, err_msg=field)


@pytest.mark.parametrize(
    ("name", "written", "expanded"),
    [("bwv1002_mov6", 153, 288), ("bwv1002_mov7", 272, 544), ("bwv1003_mov3", 87, 156), ("bwv1003_mov4", 232, 464)],
)
def test_real_violin_scores_written_and_expanded(real_recordings: Path, name: str, written: float, expanded: float) -> None:
    path = real_recordings / "bach_violin" / "scores" / f"{name}.mxl"
    assert read_score(path).end_quarters == written
    assert read_score(path, repeats="expanded").end_quarters == expanded


def test_a_real_score_expanded_is_what_its_note_list_holds(real_recordings: Path) -> None:
    folder = real_recordings / "bach_violin"
    listed = read_score(folder / "notes" / "john-garner" / "john-garner_bwv1002_mov6.csv", csv_time_unit="ticks", csv_ticks_per_quarter=24)
    expanded = read_score(folder / "scores" / "bwv1002_mov6.mxl", repeats="expanded")
    np.testing.assert_allclose(expanded.onsets_quarters, listed.onsets_quarters, atol=1e-9)
    np.testing.assert_array_equal(expanded.pitches, listed.pitches)
