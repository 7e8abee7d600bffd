"""The three files agree with each other, and are written whole or not at all."""

import csv
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.transcription import TranscribedNotes, Transcription, write_csv, write_midi, write_npz
from softscribe.transcription.export import PITCH_CLASS_TRACK_NAME


def decoded(rows: list[tuple[int, int, int, int]], frames_per_second: float = 22050 / 512) -> TranscribedNotes:
    start, length, pitch, velocity = np.array(rows, np.int64).reshape(-1, 4).T
    return TranscribedNotes(start / frames_per_second, (start + length) / frames_per_second, pitch, velocity)


def read_csv(path: Path) -> list[tuple[float, float, int, int]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        assert next(reader) == ["onset_seconds", "offset_seconds", "pitch", "velocity"]
        return [(float(onset), float(offset), int(pitch), int(velocity)) for onset, offset, pitch, velocity in reader]


@settings(deadline=None, max_examples=30)
@given(
    rows=st.dictionaries(
        st.tuples(st.integers(0, 160_000), st.integers(24, 95)), st.tuples(st.integers(3, 400), st.integers(1, 127)), max_size=12
    )
)
def test_midi_and_csv_hold_the_same_notes_to_the_millisecond(rows: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    # One note of each pitch: MIDI cannot tell which of two overlapping notes of one pitch ends.
    by_pitch = {pitch: (start, length, pitch, velocity) for (start, pitch), (length, velocity) in rows.items()}
    notes = decoded(sorted(by_pitch.values(), key=lambda row: (row[0], row[2])))
    folder = tmp_path_factory.mktemp("export")
    write_csv(notes, folder / "a.csv")
    write_midi(notes, folder / "a.mid", outputs=72)
    from_csv = read_csv(folder / "a.csv")
    (track,) = pretty_midi.PrettyMIDI(str(folder / "a.mid")).instruments or [pretty_midi.Instrument(0)]
    from_midi = sorted((note.start, note.pitch, note.end, note.velocity) for note in track.notes)
    assert [(pitch, velocity) for _, _, pitch, velocity in from_csv] == [(pitch, velocity) for _, pitch, _, velocity in from_midi]
    for (onset, offset, _, _), (start, _, end, _) in zip(from_csv, from_midi, strict=True):
        assert abs(onset - start) < 1e-6
        assert abs(offset - end) < 1e-6
    np.testing.assert_allclose([row[0] for row in from_csv], notes.onsets_seconds, atol=5.01e-4)


def test_pitch_classes_say_so_in_the_track_name(tmp_path: Path) -> None:
    notes = decoded([(0, 10, 60, 100), (5, 10, 71, 50)])
    write_midi(notes, tmp_path / "classes.mid", outputs=12)
    write_midi(notes, tmp_path / "pitches.mid", outputs=72)
    assert pretty_midi.PrettyMIDI(str(tmp_path / "classes.mid")).instruments[0].name == PITCH_CLASS_TRACK_NAME
    assert "octave unknown" in PITCH_CLASS_TRACK_NAME
    assert "octave" not in pretty_midi.PrettyMIDI(str(tmp_path / "pitches.mid")).instruments[0].name


def test_npz_holds_plain_arrays(tmp_path: Path) -> None:
    transcription = Transcription(np.random.default_rng(0).random((50, 12), np.float32), 22050 / 512, 0.5)
    write_npz(transcription, tmp_path / "result.npz")
    write_npz(transcription, tmp_path / "other_ending.data")
    for name in ("result.npz", "other_ending.data"):
        with np.load(tmp_path / name, allow_pickle=False) as stored:
            np.testing.assert_array_equal(stored["activations"], transcription.activations)
            assert stored["frames_per_second"] == 22050 / 512
            assert stored["pitches"].tolist() == list(range(60, 72))


@pytest.mark.parametrize("name", ["a.mid", "a.csv", "a.npz"])
def test_a_failed_write_leaves_the_old_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in mid-write: the error names the file, what was there stays, and nothing is left beside it."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    write = {
        "a.mid": lambda path: write_midi(decoded([(0, 10, 60, 100)]), path, outputs=12),
        "a.csv": lambda path: write_csv(decoded([(0, 10, 60, 100)]), path),
        "a.npz": lambda path: write_npz(Transcription(np.zeros((5, 12), np.float32), 43.0, 0.5), path),
    }[name]
    path = tmp_path / name
    path.write_text("old")
    monkeypatch.setattr(pretty_midi.PrettyMIDI, "write", fail)
    monkeypatch.setattr(np, "savez_compressed", fail)
    monkeypatch.setattr("softscribe.transcription.export._rows", fail if name == "a.csv" else lambda notes: [])
    with pytest.raises(InputError, match=rf"{name}.*No space left"):
        write(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="out"):
        write_csv(decoded([]), tmp_path / "out" / "a.csv")
