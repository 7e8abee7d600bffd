"""Decoding reverses drawing a piano roll, whatever the notes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes, strong_targets
from softscribe.transcription import decode_notes, output_pitches

FRAMES_PER_SECOND = 22050 / 512


@st.composite
def notes_in_frames(draw: st.DrawFn, outputs: int) -> list[tuple[int, int, int]]:
    """Notes (start frame, end frame, pitch), at least 3 frames long, at least 2 frames apart if of one pitch."""
    pitches = output_pitches(outputs).tolist()
    notes = []
    for pitch in draw(st.lists(st.sampled_from(pitches), max_size=6, unique=True)):
        position = 0
        for gap, length in draw(st.lists(st.tuples(st.integers(2, 40), st.integers(3, 60)), min_size=1, max_size=5)):
            notes.append((position + gap, position + gap + length, pitch))
            position += gap + length
    return sorted(notes, key=lambda note: (note[0], note[2]))


@pytest.mark.parametrize("outputs", [12, 72])
@settings(deadline=None)
@given(data=st.data())
def test_a_piano_roll_gives_back_its_notes(outputs: int, data: st.DataObject) -> None:
    notes = data.draw(notes_in_frames(outputs))
    starts, ends, pitches = np.array(notes, np.int64).reshape(-1, 3).T
    truth = PerformedNotes(starts / FRAMES_PER_SECOND, ends / FRAMES_PER_SECOND, pitches, np.full(len(notes), np.nan))
    roll = strong_targets(truth, 600, FRAMES_PER_SECOND, outputs)
    decoded = decode_notes(0.9 * roll.astype(np.float32), 0.5, FRAMES_PER_SECOND)
    assert decoded.as_performed() == truth
    assert (decoded.velocities == round(0.9 * 127)).all()


@settings(deadline=None)
@given(seed=st.integers(0, 999), threshold=st.floats(0.05, 0.95))
def test_without_rules_every_active_cell_is_in_exactly_one_note(seed: int, threshold: float) -> None:
    activations = np.random.default_rng(seed).random((60, 12), np.float32)
    notes = decode_notes(activations, threshold, 10.0, minimum_duration_seconds=0.0, maximum_gap_seconds=0.0)
    covered = np.zeros((60, 12), int)
    for onset, offset, pitch in zip(notes.onsets_seconds, notes.offsets_seconds, notes.pitches, strict=True):
        covered[round(onset * 10) : round(offset * 10), pitch - 60] += 1
    np.testing.assert_array_equal(covered, (activations >= threshold).astype(int))


@settings(deadline=None)
@given(seed=st.integers(0, 999))
def test_rules_hold_on_noise(seed: int) -> None:
    """No note is too short, no two of one pitch are too near, and a threshold that falls never loses sound."""
    activations = np.random.default_rng(seed).random((200, 12), np.float32)
    notes = decode_notes(activations, 0.6, 10.0, minimum_duration_seconds=0.3, maximum_gap_seconds=0.2)
    frames = np.rint(np.stack([notes.onsets_seconds, notes.offsets_seconds]) * 10)
    assert (frames[1] - frames[0] >= 3).all()
    for pitch in range(60, 72):
        starts, ends = frames[:, notes.pitches == pitch]
        assert (starts[1:] - ends[:-1] > 2).all()
    assert (np.diff(notes.onsets_seconds) >= 0).all()
    assert ((notes.velocities >= 1) & (notes.velocities <= 127)).all()


def test_repeated_notes_are_split_by_gaps_alone() -> None:
    activations = np.zeros((30, 12), np.float32)
    activations[2:10, 0] = activations[11:20, 0] = activations[22:28, 0] = 1  # gaps of one and of two frames
    notes = decode_notes(activations, 0.5, 43.0)
    np.testing.assert_allclose(notes.onsets_seconds * 43, [2, 22])
    np.testing.assert_allclose(notes.offsets_seconds * 43, [20, 28])


def test_a_gap_between_two_pitches_is_none() -> None:
    """The end of one output and the beginning of the next are not neighbours."""
    activations = np.zeros((10, 12), np.float32)
    activations[5:10, 0] = activations[0:5, 1] = 1
    assert decode_notes(activations, 0.5, 10.0, maximum_gap_seconds=0.5).pitches.tolist() == [61, 60]


def test_a_run_of_just_the_minimum_stays_despite_rounding() -> None:
    activations = np.zeros((20, 12), np.float32)
    activations[4:7, 3] = 1
    assert len(decode_notes(activations, 0.5, 10.0, minimum_duration_seconds=0.3)) == 1  # 0.3 * 10 = 3.0000000000000004 in places
    assert len(decode_notes(activations, 0.5, 10.0, minimum_duration_seconds=0.31)) == 0


def test_velocity_is_the_mean_activation() -> None:
    activations = np.zeros((20, 72), np.float32)
    activations[0:4, 10] = [0.5, 0.7, 0.9, 0.9]
    assert decode_notes(activations, 0.4, 10.0).velocities.tolist() == [round(127 * 0.75)]
    assert len(decode_notes(np.zeros((5, 12), np.float32), 0.5, 10.0)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.5}, "threshold: 1.5"),
        ({"frames_per_second": 0.0}, "frames_per_second: 0"),
        ({"minimum_duration_seconds": -1.0}, "minimum_duration_seconds: -1"),
        ({"maximum_gap_seconds": float("nan")}, "maximum_gap_seconds: nan"),
        ({"activations": np.full((5, 12), np.nan)}, r"outside \[0, 1\]"),
        ({"activations": np.full((5, 12), -3.0)}, "not logits"),
        ({"activations": np.zeros((5, 13))}, "outputs: 13"),
    ],
)
def test_bad_arguments_are_named(changes: dict, message: str) -> None:
    arguments = {"activations": np.zeros((5, 12)), "threshold": 0.5, "frames_per_second": 10.0} | changes
    with pytest.raises(InputError, match=message):
        decode_notes(**arguments)
