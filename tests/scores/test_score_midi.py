"""MIDI: ticks become quarter notes whatever the tempo, and no damaged file does more than raise an InputError."""

import contextlib
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import read_performed_notes, read_score


def write_midi(path: Path, *tracks: list[mido.Message], ticks_per_quarter: int = 480) -> Path:
    file = mido.MidiFile(ticks_per_beat=ticks_per_quarter)
    file.tracks.extend(mido.MidiTrack(track) for track in tracks)
    file.save(path)
    return path


def note(pitch: int, ticks: int, wait: int = 0, channel: int = 0) -> list[mido.Message]:
    return [
        mido.Message("note_on", note=pitch, velocity=64, time=wait, channel=channel),
        mido.Message("note_off", note=pitch, time=ticks, channel=channel),
    ]


def tempo(quarters_per_minute: float, wait: int = 0) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_per_minute), time=wait)


@pytest.mark.parametrize("ticks_per_quarter", [24, 96, 480, 960])
def test_tempo_changes_move_seconds_and_not_quarters(tmp_path: Path, ticks_per_quarter: int) -> None:
    quarter = ticks_per_quarter
    events = [tempo(60), *note(60, quarter), tempo(240), *note(62, 2 * quarter), tempo(33.3), *note(64, quarter // 3, wait=quarter)]
    path = write_midi(tmp_path / "score.mid", events, ticks_per_quarter=ticks_per_quarter)
    score = read_score(path)
    np.testing.assert_allclose(score.onsets_quarters, [0, 1, 4])
    np.testing.assert_allclose(score.durations_quarters, [1, 2, 1 / 3])
    performed = read_performed_notes(path)
    np.testing.assert_allclose(performed.onsets_seconds, [0, 1, 1.5 + 60 / 33.3], rtol=1e-5)
    assert np.isnan(performed.score_onsets_quarters).all()


def test_drums_and_notes_of_no_duration_are_left_out_and_tracks_are_parts(tmp_path: Path) -> None:
    drums, empty = note(36, 480, channel=9), note(70, 0)
    path = write_midi(tmp_path / "score.midi", [tempo(120)], drums, [*note(60, 480), *empty], note(72, 960, channel=1))
    score = read_score(path)
    assert score.pitches.tolist() == [60, 72]
    assert len(set(score.parts)) == 2
    assert score.end_quarters == 2
    assert read_performed_notes(path).pitches.tolist() == [60, 72]


def test_a_tempo_outside_the_first_track_spoils_seconds_only(tmp_path: Path) -> None:
    path = write_midi(tmp_path / "score.mid", [], [*note(60, 480), tempo(30), *note(62, 480)])
    assert read_score(path).onsets_quarters.tolist() == [0, 1]
    with pytest.raises(InputError, match="outside its first track"):
        read_performed_notes(path)


@pytest.mark.parametrize("read", [read_score, read_performed_notes])
def test_damaged_and_empty_files_are_named(tmp_path: Path, read: object) -> None:
    whole = write_midi(tmp_path / "whole.mid", [*note(60, 480), *note(62, 480)]).read_bytes()
    for content, message in [
        (b"", "empty"),
        (b"RIFF, a wave file", "not a MIDI file"),
        (whole[: len(whole) - 9], "damaged"),
        (whole[:12] + b"\xe7\x28" + whole[14:], "time division"),
        (whole[:13], "time division|damaged"),
    ]:
        path = tmp_path / "broken.mid"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
    for tracks in ([], [[tempo(120)]], [note(36, 10, channel=9)]):
        with pytest.raises(InputError, match=r"no pitched note|damaged"):
            read(write_midi(tmp_path / "silent.mid", *tracks))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_a_midi_file_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(write_midi(tmp_path / "whole.mid", [tempo(90), *note(60, 480), *note(62, 30)], note(48, 900)).read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(4, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
        content[place] = value
    (tmp_path / "broken.mid").write_bytes(bytes(content))
    for read in (read_score, read_performed_notes):
        with contextlib.suppress(InputError):
            read(tmp_path / "broken.mid")
