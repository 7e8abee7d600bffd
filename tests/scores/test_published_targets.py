"""The published conventions, against published files and against worked examples."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes, published_stretched, published_strong, published_unique, stretched_index


def notes_of(*rows: tuple[float, float, int]) -> PerformedNotes:
    onsets, offsets, pitches = (np.array(column) for column in zip(*rows, strict=True))
    return PerformedNotes(onsets.astype(float), offsets.astype(float), pitches, np.full(len(rows), np.nan))


def test_all_published_weak_and_stretched_targets_come_out_exactly(real_recordings: Path) -> None:
    folder = real_recordings / "mtd"
    names = sorted(path.name for path in (folder / "strong_targets_chroma").glob("*.npy"))
    assert len(names) == 11
    for name in names:
        strong, weak, stretched = (
            np.load(folder / kind / name).T for kind in ("strong_targets_chroma", "weak_targets_chroma", "weak_targets_stretched_chroma")
        )
        unique = published_unique(strong.astype(np.uint8))
        np.testing.assert_array_equal(unique, weak, err_msg=name)
        np.testing.assert_array_equal(published_stretched(unique, len(strong)), stretched, err_msg=name)


def test_the_published_stretch_rounds_in_floating_point() -> None:
    # 39 targets over 143 frames, as in one of the published files: three frames differ from whole-number division.
    shown = published_stretched(np.eye(39, dtype=np.uint8), 143).argmax(axis=1)
    assert (stretched_index(39, 143) - shown).sum() == 3


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(24, 95)), min_size=1, max_size=12))
def test_notes_on_whole_frames_fill_exactly_these(rows: list) -> None:
    notes = notes_of(*[(onset / 8, (onset + length) / 8, pitch) for onset, length, pitch in rows])
    expected = np.zeros((45, 72), dtype=np.uint8)
    for onset, length, pitch in rows:
        expected[onset : onset + length, pitch - 24] = 1
    np.testing.assert_array_equal(published_strong(notes, 45, 8.0, 72), expected)
    classes = np.stack([expected[:, place::12].max(axis=1) for place in range(12)], axis=1)
    np.testing.assert_array_equal(published_strong(notes, 45, 8.0, 12), classes)


def test_a_note_begins_with_the_frame_its_onset_falls_into() -> None:
    assert published_strong(notes_of((0.19, 0.42, 60)), 6, 10.0, 12)[:, 0].tolist() == [0, 1, 1, 1, 0, 0]


def test_a_vanishing_note_keeps_its_place_between_its_neighbours() -> None:
    roll = published_strong(notes_of((0.0, 0.31, 60), (0.31, 0.36, 62), (0.36, 0.6, 64)), 7, 10.0, 12)
    firsts = [int(roll[:, pitch].argmax()) for pitch in (0, 2, 4)]
    assert firsts == sorted(set(firsts))
    assert roll[:, [0, 2, 4]].any(axis=0).all()


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.001, 0.3), st.integers(24, 95)), min_size=1, max_size=10))
def test_no_note_vanishes(rows: list) -> None:
    notes = notes_of(*[(onset, onset + length, pitch) for onset, length, pitch in rows])
    roll = published_strong(notes, 60, 10.0, 72)
    assert set(np.flatnonzero(roll.any(axis=0)) + 24) == set(notes.pitches)


def test_wrong_counts_are_named() -> None:
    with pytest.raises(InputError, match="outputs: 88"):
        published_strong(notes_of((0.0, 1.0, 60)), 5, 10.0, 88)
    with pytest.raises(InputError, match="frame_count: 0"):
        published_stretched(np.eye(2, dtype=np.uint8), 0)
