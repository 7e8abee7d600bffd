"""Target sequences against what the notes say at each moment, asked note by note."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import (
    PerformedNotes,
    Score,
    stretched_by_score_index,
    stretched_index,
    strong_targets,
    transpose_targets,
    unique_targets,
)

GRID = 12  # positions per quarter note


@st.composite
def scores(draw: st.DrawFn, lowest: int = 0, highest: int = 127) -> Score:
    note = st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(lowest, highest))
    rows = draw(st.lists(note, max_size=15))
    end = max([onset + duration for onset, duration, _ in rows], default=0) + draw(st.integers(0, 12))
    onsets, durations, pitches = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Score(onsets / GRID, durations / GRID, pitches, np.zeros_like(pitches), max(end, 1) / GRID)


def sounding(score: Score, time_quarters: float, outputs: int) -> set[int]:
    """Which outputs sound at a moment."""
    pitches = {
        int(pitch)
        for onset, duration, pitch in zip(score.onsets_quarters, score.durations_quarters, score.pitches, strict=True)
        if onset <= time_quarters < onset + duration
    }
    return {pitch % 12 for pitch in pitches} if outputs == 12 else {pitch - 24 for pitch in pitches if 24 <= pitch <= 95}


@given(scores(), st.sampled_from([12, 72]))
def test_unique_targets_are_what_sounds_and_neighbours_differ(score: Score, outputs: int) -> None:
    unique = unique_targets(score, outputs)
    assert unique.values.shape == (len(unique.onsets_quarters), outputs)
    assert (unique.values[1:] != unique.values[:-1]).any(axis=1).all()
    assert unique.onsets_quarters[0] == 0
    np.testing.assert_allclose(np.cumsum(unique.durations_quarters)[:-1], unique.onsets_quarters[1:], atol=1e-9)
    assert unique.durations_quarters.sum() == pytest.approx(score.end_quarters)
    assert (unique.durations_quarters > 0).all()
    for moment in (np.arange(round(score.end_quarters * GRID)) + 0.5) / GRID:
        place = np.searchsorted(unique.onsets_quarters, moment, side="right") - 1
        assert set(np.flatnonzero(unique.values[place])) == sounding(score, moment, outputs)


def test_times_that_differ_by_rounding_make_no_target_of_their_own() -> None:
    thirds = np.array([0.0, 1 / 3, 1 / 3 + 1 / 3, 1.0])
    durations = np.array([1 / 3, 0.33333333, 1 - 2 / 3 + 1e-12, 1.0])
    score = Score(thirds, durations, np.array([60, 62, 64, 65]), np.zeros(4, dtype=int), 2.0)
    assert [row.nonzero()[0].tolist() for row in unique_targets(score, 12).values] == [[0], [2], [4], [5]]


def test_silence_is_a_target() -> None:
    score = Score(np.array([1.0]), np.array([1.0]), np.array([60]), np.array([0]), 3.0)
    assert unique_targets(score, 72).values.sum(axis=1).tolist() == [0, 1, 0]
    assert unique_targets(score.between(2.0, 3.0), 72).values.tolist() == [[0] * 72]


@given(scores(36, 80), st.integers(-12, 12), st.sampled_from([12, 72]))
def test_transposing_the_score_transposes_its_targets(score: Score, semitones: int, outputs: int) -> None:
    before, after = unique_targets(score, outputs), unique_targets(score.transposed(semitones), outputs)
    np.testing.assert_array_equal(after.values, transpose_targets(before.values, semitones))
    np.testing.assert_array_equal(after.durations_quarters, before.durations_quarters)


@pytest.mark.parametrize("semitones", [-80, -72, -3, 0, 3, 72, 80])
def test_transposed_pitches_leave_at_one_end_and_zeros_enter_at_the_other(semitones: int) -> None:
    values = np.ones((2, 72), dtype=np.uint8)
    shifted = transpose_targets(values, semitones)
    expected = [1 if 0 <= place - semitones < 72 else 0 for place in range(72)]
    assert shifted.tolist() == [expected, expected]
    assert values.all()


@given(st.integers(1, 80), st.integers(1, 400))
def test_stretched_targets_come_in_order_evenly(target_count: int, frame_count: int) -> None:
    index = stretched_index(target_count, frame_count)
    assert index[0] == 0
    assert (np.diff(index) >= 0).all()
    assert index.max() < target_count
    if frame_count >= target_count:
        assert set(index) == set(range(target_count))
        counts = np.bincount(index)
        assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 300))
def test_targets_stretched_by_score_keep_order_and_proportion(twelfths: list[int], frame_count: int) -> None:
    durations = np.array(twelfths) / GRID
    index = stretched_by_score_index(durations, frame_count)
    assert len(index) == frame_count
    assert index[0] == 0
    assert (np.diff(index) >= 0).all()
    if frame_count >= len(durations):
        assert set(index) == set(range(len(durations)))
    expected = durations / durations.sum() * frame_count
    if (expected >= 1).all():
        np.testing.assert_allclose(np.bincount(index), expected, atol=1 + 1e-6)


@given(st.integers(1, 60), st.integers(1, 300))
def test_equal_durations_stretch_evenly(target_count: int, frame_count: int) -> None:
    assume(frame_count >= target_count)
    np.testing.assert_array_equal(
        stretched_by_score_index(np.full(target_count, 0.1), frame_count), stretched_index(target_count, frame_count)
    )


@given(
    st.lists(st.tuples(st.floats(0, 4), st.floats(0.001, 1), st.integers(20, 100)), max_size=12),
    st.integers(1, 60),
    st.sampled_from([10.0, 43.06640625]),
    st.sampled_from([12, 72]),
)
def test_strong_targets_are_what_sounds_at_each_frame(rows: list, frame_count: int, rate: float, outputs: int) -> None:
    onsets, lengths, pitches = (np.array([row[place] for row in rows]) for place in range(3))
    notes = PerformedNotes(onsets.astype(float), (onsets + lengths).astype(float), pitches.astype(int), np.full(len(rows), np.nan))
    expected = np.zeros((frame_count, outputs), dtype=np.uint8)
    for onset, offset, pitch in zip(notes.onsets_seconds, notes.offsets_seconds, notes.pitches, strict=True):
        output = pitch % 12 if outputs == 12 else pitch - 24
        if not 0 <= output < outputs:
            continue
        # An endless row of frames, of which the first frame_count are kept.
        frames = [frame for frame in range(400) if onset <= frame / rate < offset]
        if not frames:
            distances = [max(onset - frame / rate, frame / rate - offset) for frame in range(400)]
            frames = [len(distances) - 1 - int(np.argmin(distances[::-1]))]
        for frame in frames:
            if frame < frame_count:
                expected[frame, output] = 1
    np.testing.assert_array_equal(strong_targets(notes, frame_count, rate, outputs), expected)


def test_wrong_counts_are_named() -> None:
    score = Score(np.array([0.0]), np.array([1.0]), np.array([60]), np.array([0]), 1.0)
    notes = PerformedNotes(np.array([0.0]), np.array([1.0]), np.array([60]), np.array([0.0]))
    with pytest.raises(InputError, match="outputs: 88"):
        unique_targets(score, 88)
    with pytest.raises(InputError, match="outputs: 13"):
        transpose_targets(np.zeros((1, 13)), 1)
    with pytest.raises(InputError, match="frame_count: 0"):
        stretched_index(3, 0)
    with pytest.raises(InputError, match="target_count: 0"):
        stretched_by_score_index(np.array([]), 5)
    with pytest.raises(InputError, match="durations_quarters"):
        stretched_by_score_index(np.array([1.0, 0.0]), 5)
    with pytest.raises(InputError, match="frames_per_second: 0"):
        strong_targets(notes, 3, 0.0, 12)
