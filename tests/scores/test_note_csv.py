"""Note lists: every dialect says the same notes, writing and reading round exactly, and mistakes are named with their line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import (
    PerformedNotes,
    Score,
    join_alignment,
    read_performed_notes,
    read_score,
    write_performed_notes_csv,
    write_score_csv,
)

EXPECTED = Score(np.array([0.0, 1.0, 1.0]), np.array([1.5, 0.5, 2.0]), np.array([60, 64, 67]), np.array([0, 1, 0]), 3.0)
DIALECTS = {
    "own": ("onset_quarters,duration_quarters,pitch,part\n0,1.5,60,0\n1,0.5,64,1\n1,2,67,0\n", {}),
    "winterreise": (
        'start;end;pitch;pitchclass;instrument\n0.0000;0.7500;60;0;"piano"\n0.5000;0.7500;64;4;"voice"\n0.5000;1.5000;67;7;"piano"\n',
        {"csv_time_unit": "seconds"},
    ),
    "chopin": (
        "Start;Duration;Pitch;Velocity;Instrument\n0;0.75;60;38;piano\n0.5;0.25;64;21;voice\n0.5;1.0;67;21;piano\n",
        {"csv_time_unit": "seconds"},
    ),
    "musicnet": (
        "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n"
        "9182,90078,0,60,0.0,1.5,Dotted Quarter\n33758,62430,1,64,1.0,0.5,Eighth\n33758,90078,0,67,1.0,2.0,Half\n",
        {},
    ),
    "excel": ("\ufeffonset_quarters;duration_quarters;pitch;part\r\n0;1.5;60.0;0\r\n\r\n1;0.5;64;1\r\n1;2;67;0\r\n;;;\r\n", {}),
    "ticks": (
        "onset,offset,pitch,velocity\n0,36,60,64\n24,36,64,64\n24,72,67,64\n",
        {"csv_time_unit": "ticks", "csv_ticks_per_quarter": 24},
    ),
    "quarters": ("onset,offset,pitch\n0,1.5,60\n1,1.5,64\n1,3,67\n", {"csv_time_unit": "quarters"}),
}


def written(tmp_path: Path, text: str, name: str = "notes.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same_score(tmp_path: Path, dialect: str) -> None:
    text, options = DIALECTS[dialect]
    score = read_score(written(tmp_path, text), **options)
    np.testing.assert_allclose(score.onsets_quarters, EXPECTED.onsets_quarters)
    np.testing.assert_allclose(score.durations_quarters, EXPECTED.durations_quarters)
    assert score.pitches.tolist() == EXPECTED.pitches.tolist()
    assert score.end_quarters == pytest.approx(3.0)
    if dialect not in ("ticks", "quarters"):
        assert score.parts.tolist() == EXPECTED.parts.tolist()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("onset_seconds,offset_seconds,pitch\n0.25,1.0,60\n1.0,1.5,64\n", 1),
        ("start;end;pitch;pitchclass;instrument\n0.25;1.0;60;0;piano\n1.0;1.5;64;4;voice\n", 1),
        ("Start;Duration;Pitch;Velocity;Instrument\n0.25;0.75;60;38;piano\n1.0;0.5;64;21;piano\n", 1),
        (
            "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n11025,44100,1,60,0,1,Quarter\n44100,66150,1,64,2,1,Quarter\n",
            1,
        ),
    ],
)
def test_every_dialect_says_the_same_performance(tmp_path: Path, text: str, rate: int) -> None:
    notes = read_performed_notes(written(tmp_path, text))
    assert notes.onsets_seconds.tolist() == [0.25, 1.0]
    assert notes.offsets_seconds.tolist() == [1.0, 1.5]
    assert notes.pitches.tolist() == [60, 64]
    known = "start_beat" in text
    np.testing.assert_array_equal(notes.score_onsets_quarters, [0.0, 2.0] if known else [np.nan, np.nan])


@st.composite
def any_scores(draw: st.DrawFn) -> Score:
    rows = draw(
        st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-3, 1e3), st.integers(0, 127), st.integers(0, 40)), min_size=1, max_size=20)
    )
    onsets, durations, pitches, parts = (np.array(column) for column in zip(*rows, strict=True))
    end = float((onsets + durations).max()) + draw(st.floats(0, 10))
    return Score(onsets.astype(float), durations.astype(float), pitches, parts, end)


@settings(max_examples=50)
@given(any_scores())
def test_a_written_score_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, score: Score) -> None:
    path = tmp_path_factory.mktemp("scores") / "score.csv"
    write_score_csv(score, path)
    assert read_score(path) == score


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-3, 1e2), st.integers(0, 127), st.none() | st.floats(0, 1e4)), max_size=20))
def test_written_performed_notes_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    onsets, lengths, pitches, known = ([row[place] for row in rows] for place in range(4))
    starts = np.array(onsets, dtype=float)
    unknown = [np.nan if onset is None else onset for onset in known]
    notes = PerformedNotes(starts, starts + np.array(lengths, dtype=float), np.array(pitches, dtype=int), np.array(unknown, dtype=float))
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    write_performed_notes_csv(notes, path)
    assert read_performed_notes(path) == notes


def test_a_rest_may_end_a_score_and_grace_notes_are_left_out(tmp_path: Path) -> None:
    text = "onset_quarters,duration_quarters,pitch,part\n0,0,59,0\n0,1,60,0\n1,3,,\n"
    assert read_score(written(tmp_path, text)) == Score(np.array([0.0]), np.array([1.0]), np.array([60]), np.array([0]), 4.0)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("start;end;pitch\n0;1;60\n", {}, "csv_time_unit=quarters.*ticks.*seconds"),
        ("start;end;pitch\n0;1;60\n", {"csv_time_unit": "beats"}, "csv_time_unit: 'beats'; give quarters, ticks or seconds"),
        ("start;end;pitch\n0;1;60\n", {"csv_time_unit": "ticks"}, "give both, or neither"),
        ("start;end;pitch\n0;1;60\n", {"csv_time_unit": "quarters", "csv_ticks_per_quarter": 24}, "give both, or neither"),
        ("start;end;pitch\n0;1;60\n", {"csv_time_unit": "ticks", "csv_ticks_per_quarter": 0}, "csv_ticks_per_quarter: 0"),
        ("onset_quarters,duration_quarters,pitch\n0,1,60\n", {"csv_time_unit": "seconds"}, "counts quarters"),
        ("onset_quarters,duration_quarters,pitch\n0,1,60\n1,x,62\n", {}, "line 3: duration_quarters is 'x'"),
        ("onset_quarters,duration_quarters,pitch\n0,1,C4\n", {}, "line 2: pitch is 'C4'"),
        ("onset_quarters,duration_quarters,pitch\n0,1,60.5\n", {}, "line 2: pitch is '60.5'"),
        ("onset_quarters,duration_quarters,pitch\n0,1,nan\n", {}, "line 2: pitch is 'nan'"),
        ("onset_quarters,duration_quarters,pitch\n0,1\n", {}, "line 2: 2 cells under a header of 3"),
        ("onset_quarters,duration_quarters,pitch\n0,-1,60\n", {}, "durations_quarters"),
        ("onset_quarters,duration_quarters,pitch\n0,1,200\n", {}, "pitches: note 0 has 200"),
        ("onset_quarters,duration_quarters,pitch\n0,inf,60\n", {}, "inf"),
        ("onset_quarters,duration_quarters,pitch\n", {}, "no row is a note"),
        ("start_meas;end_meas;duration_quarterLength;pitch\n0;1;1;60\n", {}, "positions in bars"),
        ("0.1,0.2,60\n0.2,0.3,62\n", {}, "header .* is not known"),
        ("", {}, "empty"),
    ],
)
def test_mistakes_in_a_score_are_named(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_score(written(tmp_path, text, "faulty.csv"), **options)
    assert "faulty.csv" in str(caught.value) or "csv_" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start,end\n0,1\n", "without pitches"),
        ("onset,offset,pitch\n0,1,60\n", "not known"),
        ("start,end,pitch\n1,0.5,60\n", "offsets_seconds"),
        ("start,end,pitch\n-1,0.5,60\n", "onsets_seconds"),
    ],
)
def test_mistakes_in_a_performance_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_performed_notes(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "score.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_score(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "score.csv").mkdir()
    with pytest.raises(InputError, match=r"score\.csv: cannot be written"):
        write_score_csv(EXPECTED, tmp_path / "score.csv")


def test_an_alignment_takes_its_pitches_from_the_rows_of_the_score(tmp_path: Path) -> None:
    times = written(tmp_path, "start,end\n1.5,2.5\n1.0,2.0\n", "times.csv")
    notes = written(tmp_path, "onset,offset,pitch,velocity\n12,24,62,64\n0,24,60,64\n", "notes.csv")
    joined = join_alignment(times, notes, csv_time_unit="ticks", csv_ticks_per_quarter=24)
    assert joined == PerformedNotes(np.array([1.0, 1.5]), np.array([2.0, 2.5]), np.array([60, 62]), np.array([0.0, 0.5]))
    with pytest.raises(InputError, match="2 rows"):
        join_alignment(times, written(tmp_path, "onset,offset,pitch\n0,24,60\n", "short.csv"), csv_time_unit="quarters")


@pytest.mark.parametrize(
    ("name", "quarters", "notes"),
    [
        ("john-garner/john-garner_bwv1002_mov6", 288, 569),
        ("john-garner/john-garner_bwv1002_mov7", 352, 686),
        ("minji-kim/minji-kim_bwv1003_mov3", 78, 381),
        ("minji-kim/minji-kim_bwv1003_mov4", 232, 1021),
    ],
)
def test_real_violin_notes(real_recordings: Path, name: str, quarters: int, notes: int) -> None:
    path = real_recordings / "bach_violin" / "notes" / f"{name}.csv"
    options = {"csv_time_unit": "ticks", "csv_ticks_per_quarter": 24}
    score = read_score(path, **options)
    assert (score.end_quarters, len(score)) == (quarters, notes)
    performed = join_alignment(real_recordings / "bach_violin" / "alignments" / f"{name}.csv", path, **options)
    assert set(performed.pitches) == set(score.pitches)
    assert set(performed.score_onsets_quarters) <= set(score.onsets_quarters)


def test_real_piano_notes_say_the_same_in_csv_and_midi(real_recordings: Path) -> None:
    folder = real_recordings / "chopin_op10_3"
    (csv_path,), (midi_path,) = folder.glob("*.csv"), folder.glob("*.mid")
    from_csv, from_midi = read_performed_notes(csv_path), read_performed_notes(midi_path)
    assert len(from_csv) == 164
    assert sorted(from_csv.pitches) == sorted(from_midi.pitches)
    np.testing.assert_allclose(from_csv.onsets_seconds, from_midi.onsets_seconds, atol=1e-9)
    np.testing.assert_allclose(np.sort(from_csv.offsets_seconds), np.sort(from_midi.offsets_seconds), atol=1e-9)
    # The MIDI file counts 150 quarter notes a minute, seconds in a CSV are taken at 120.
    by_convention = read_score(csv_path, csv_time_unit="seconds")
    np.testing.assert_allclose(by_convention.onsets_quarters, read_score(midi_path).onsets_quarters * 120 / 150, atol=1e-3)
