from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.corpora.manifest import COLUMNS, ManifestRow, read_manifest, write_manifest
from softscribe.errors import InputError

HEADER = "audio,score,audio_start_seconds,audio_end_seconds,score_start_quarters,score_end_quarters,repeats,transpose_semitones,truth,split"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_columns_are_the_documented_ones():
    assert ",".join(COLUMNS) == HEADER


def test_rows_of_one_recording_are_its_segments_and_paths_are_relative_to_the_manifest(tmp_path):
    path = written(
        tmp_path,
        f"{HEADER}\na.wav,s/a.mid,0,10,0,16,,,,train\nb.wav,s/b.mid,,,,,expanded,-2,t.csv,\na.wav,s/a.mid,10,20.5,16,32,,,,train\n",
    )
    first, second = read_manifest(path)
    assert [(row.audio_start_seconds, row.audio_end_seconds) for row in first] == [(0, 10), (10, 20.5)]
    assert first[0].score == tmp_path / "s" / "a.mid"
    assert second == [
        ManifestRow(tmp_path / "b.wav", tmp_path / "s/b.mid", repeats="expanded", transpose_semitones=-2, truth=tmp_path / "t.csv")
    ]


def test_order_of_columns_byte_order_mark_blank_lines_and_absent_columns_do_not_matter(tmp_path):
    assert read_manifest(written(tmp_path, '\ufeffscore , audio\n\na.mid, "b, c.wav"\n\n')) == [
        [ManifestRow(tmp_path / "b, c.wav", tmp_path / "a.mid")]
    ]


times = st.none() | st.floats(0, 1e5).map(lambda value: round(value, 6))
names = st.text(st.characters(codec="utf-8", exclude_characters="/\0\r\n", exclude_categories=["C", "Z"]), min_size=1, max_size=9)


def row(audio: str, score: str, seconds: float | None, quarters: float | None, truth: str | None, **others: object) -> ManifestRow:
    """Paths are completed below, when the folder of the manifest is known."""
    ends = (None if start is None else start + 1.5 for start in (seconds, quarters))
    times = dict(zip(COLUMNS[2:6], [seconds, next(ends), quarters, next(ends)], strict=True))
    return ManifestRow(Path(audio), Path(f"/elsewhere/{score}.mid"), **times, truth=truth and Path(f"/truth/{truth}"), **others)


rows = st.builds(
    row,
    names,
    names,
    times,
    times,
    st.none() | names,
    repeats=st.sampled_from([None, "written", "expanded"]),
    transpose_semitones=st.integers(-24, 24),
    split=st.sampled_from([None, "train", "validation", "test"]),
)


@given(st.lists(rows, min_size=1, max_size=5, unique_by=lambda row: row.audio))
@settings(deadline=None, max_examples=30)
def test_what_is_written_is_read(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("m")
    moved = [replace(row, audio=folder / "audio" / f"{row.audio}.wav") for row in rows]
    write_manifest(moved, folder / "manifest.csv")
    assert [row for [row] in read_manifest(folder / "manifest.csv")] == moved


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("audio,score,tempo,key\na,b,1,2\n", ["'tempo', 'key'", "unknown"]),
        ("audio;score\na;b\n", ["unknown", "'audio;score'"]),
        ("audio\na.wav\n", ["missing", "'score'"]),
        ("audio,score,audio\na,b,c\n", ["repeated", "'audio'"]),
        ("", ["missing"]),
        ("audio,score\n", ["no rows"]),
        ("audio,score\na.wav,\n", ["line 2", "column score", "name a file"]),
        ("audio,score\na.wav,b,c\n", ["line 2", "3 values for 2 columns"]),
        ("audio,score,split\na,b,\nc,d,training\n", ["line 3", "column split", "'training'", "train, validation, test"]),
        ("audio,score,repeats\na,b,both\n", ["line 2", "column repeats", "'both'"]),
        ("audio,score,transpose_semitones\na,b,1.5\n", ["line 2", "column transpose_semitones", "'1.5'"]),
        ('audio,score,audio_end_seconds\na,b,"1,5"\n', ["line 2", "column audio_end_seconds", "'1,5'", "point"]),
        ("audio,score,audio_end_seconds\na,b,nan\n", ["line 2", "'nan'", "finite"]),
        ("audio,score,audio_start_seconds\na,b,-1\n", ["line 2", "'-1'"]),
        ("audio,score,audio_start_seconds,audio_end_seconds\na,b,5,5\n", ["line 2", "column audio_end_seconds", "above the start, 5"]),
        ("audio,score,score_start_quarters,score_end_quarters\na,b,5,4\n", ["line 2", "column score_end_quarters"]),
        ("audio,score,audio_start_seconds\na,b,1\na,c,2\n", ["line 3", "column score", "line 2"]),
        ("audio,score,audio_start_seconds,split\na,b,1,test\na,b,2,train\n", ["line 3", "column split"]),
        ("audio,score,audio_start_seconds\na,b,1\na,b,\n", ["line 3", "not both are segments"]),
        ('audio,score\n"a.wav,b\n', ["cannot be read"]),
    ],
)
def test_mistakes_are_named_with_file_line_column_value_and_remedy(tmp_path, text, named):
    with pytest.raises(InputError) as caught:
        read_manifest(written(tmp_path, text))
    for part in [str(tmp_path / "manifest.csv"), "Remedy", *named]:
        assert part in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"audio,score\n\xff\xfe,b\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(InputError, match=r"none\.csv: not found"):
        read_manifest(tmp_path / "none.csv")
