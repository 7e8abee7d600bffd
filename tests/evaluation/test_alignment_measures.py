"""Onsets out of alignments whose course is known."""

import numpy as np
import pytest

from softscribe.errors import InputError
from softscribe.evaluation import aligned_onsets, alignment_measures, true_target_onsets
from softscribe.scores import PerformedNotes


def hard_path(first_frames: list[int], frames: int) -> np.ndarray:
    """E of one path that enters target m at first_frames[m]."""
    expected = np.zeros((frames, len(first_frames)))
    expected[np.arange(frames), np.searchsorted(first_frames, np.arange(frames), side="right") - 1] = 1
    return expected


def test_a_hard_path_gives_its_own_onsets() -> None:
    first_frames = [0, 3, 4, 20, 21]
    onsets = aligned_onsets(hard_path(first_frames, 40), np.arange(5), 10.0)
    np.testing.assert_allclose(onsets, np.array(first_frames) / 10)


def test_stretched_rows_count_together() -> None:
    """Each target is spread over many rows, none of which has half of a frame's probability."""
    generator = np.random.default_rng(0)
    first_frames, frames, rows_each = [0, 7, 12, 30], 40, 10
    shares = generator.dirichlet(np.ones(rows_each), (frames, 4))
    expected = (hard_path(first_frames, frames)[:, :, None] * shares).reshape(frames, 40).astype(np.float32)
    onsets = aligned_onsets(expected, np.repeat(np.arange(4), rows_each), 43.066)
    np.testing.assert_allclose(onsets, np.array(first_frames) / 43.066)


def test_the_median_entry_of_many_paths() -> None:
    entries = np.sort(np.random.default_rng(0).integers(1, 60, (101, 1)), axis=0)
    expected = np.mean([hard_path([0, int(entry[0])], 80) for entry in entries], axis=0)
    assert aligned_onsets(expected, np.array([0, 1]), 1.0)[1] == np.median(entries)


def test_several_targets_in_one_frame_and_scaling() -> None:
    """Vertical steps pass several cells of a frame: its probabilities sum to more than one, and only their shares count."""
    expected = np.array([[1.0, 0, 0], [1, 1, 1], [0, 0, 1]])
    assert aligned_onsets(expected, np.arange(3), 1.0).tolist() == [0, 1, 2]
    scaled = expected * np.array([[3.0], [0.1], [7.0]])
    assert aligned_onsets(scaled, np.arange(3), 1.0).tolist() == [0, 1, 2]


def test_targets_without_a_row_and_without_half() -> None:
    assert aligned_onsets(np.eye(3), np.array([0, 2, 5]), 1.0).tolist() == [0, 1, 1, 2, 2, 2]
    never = np.array([[1.0, 0], [0.9, 0.1], [0.5, 0.5]])
    assert aligned_onsets(never, np.arange(2), 1.0).tolist() == [0, 2]


def test_onsets_never_go_back() -> None:
    expected = np.random.default_rng(0).random((50, 30))
    assert (np.diff(aligned_onsets(expected, np.arange(30), 1.0)) >= 0).all()


@pytest.mark.usefixtures("without_shape_types")
def test_bad_alignments_are_named() -> None:
    for expected, rows in (
        (np.zeros((3, 2)), np.arange(2)),
        (np.full((3, 2), np.nan), np.arange(2)),
        (-np.ones((3, 2)), np.arange(2)),
        (np.ones((3, 2)), np.arange(3)),
        (np.ones((3, 2)), np.array([1, 0])),
        (np.ones((0, 2)), np.arange(2)),
    ):
        with pytest.raises(InputError, match="Remedy"):
            aligned_onsets(expected, rows, 1.0)


def performed(onsets: list[float], written: list[float]) -> PerformedNotes:
    seconds = np.array(onsets, np.float64)
    return PerformedNotes(seconds, seconds + 0.5, np.full(len(onsets), 60), np.array(written, np.float64))


def test_true_onsets_are_means_of_chords_and_unknown_elsewhere() -> None:
    truth = performed([0.0, 0.5, 0.52, 0.54, 1.1, 1.6, 9.0], [8.0, 9.0, 9.0, 9 + 1e-5, 9 + 1 / 960, np.nan, 10.0])
    onsets = true_target_onsets(np.array([0.0, 1.0, 1.0 + 1 / 960, 1.5, 2.0]), 8.0, truth)
    np.testing.assert_allclose(onsets, [np.nan, 0.52, 1.1, np.nan, 9.0])


def test_a_passage_that_is_played_twice_has_no_single_onset() -> None:
    truth = performed([1.0, 20.0, 2.0, 2.3], [1.0, 1.0, 2.0, 2.0])
    np.testing.assert_allclose(true_target_onsets(np.array([0.0, 1.0, 2.0]), 0.0, truth), [np.nan, np.nan, 2.15])


def test_no_notes_no_onsets() -> None:
    assert np.isnan(true_target_onsets(np.array([0.0, 1.0]), 0.0, performed([], []))).all()
    assert np.isnan(true_target_onsets(np.array([0.0, 1.0]), 0.0, performed([1.0], [np.nan]))).all()


def test_measures_of_a_hand_made_example() -> None:
    true = np.array([np.nan, 1.0, 2.0, 3.0, 4.0])
    estimated = np.array([0.0, 1.05, 1.9, 3.02, 4.2])
    measures = alignment_measures(estimated, true)
    assert measures["alignment_median_error_ms"] == pytest.approx(75)
    assert measures["alignment_within_50_ms"] == 0.5
    assert measures["alignment_within_100_ms"] == 0.75
    assert measures["alignment_mean_signed_error_ms"] == pytest.approx((50 - 100 + 20 + 200) / 4)
    assert measures["alignment_onsets"] == 4


def test_a_late_alignment_has_a_positive_error_and_unknown_onsets_do_not_count() -> None:
    true = np.array([1.0, np.nan, 2.0])
    late = alignment_measures(true + 0.03, true)
    assert late["alignment_mean_signed_error_ms"] == pytest.approx(30)
    assert alignment_measures(np.array([0.0, 1.0]), np.full(2, np.nan)) == {}


@pytest.mark.usefixtures("without_shape_types")
def test_bad_onsets_are_named() -> None:
    with pytest.raises(InputError, match="onsets"):
        alignment_measures(np.zeros(2), np.zeros(3))
    with pytest.raises(InputError, match="estimated"):
        alignment_measures(np.array([np.nan]), np.array([1.0]))
