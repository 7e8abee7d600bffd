"""The measures against scikit-learn, mir_eval, plain loops and hand-made examples."""

import mir_eval
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support

from softscribe.errors import InputError
from softscribe.evaluation import frame_measures, multipitch_measures, note_measures, tune_threshold
from softscribe.scores import PerformedNotes


def example(seed: int, frames: int = 300, outputs: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Activations with many ties that tell something about the truth, some frames silent in one or the other."""
    generator = np.random.default_rng(seed)
    truth = generator.random((frames, outputs)) < 0.2
    activations = np.clip(generator.normal(0.3 + 0.3 * truth, 0.2), 0, 1).round(2)
    truth[:20] = False
    activations[10:40] = 0
    return activations, truth


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("outputs", "threshold"), [(12, 0.5), (72, 0.31), (12, 0.0), (12, 1.0)])
def test_frame_measures_against_scikit_learn(dtype: type, outputs: int, threshold: float) -> None:
    activations, truth = example(outputs, outputs=outputs)
    activations = activations.astype(dtype)
    measures = frame_measures(activations, truth, threshold)
    found = activations >= dtype(threshold)
    expected = precision_recall_fscore_support(truth.ravel(), found.ravel(), average="binary", zero_division=0)
    np.testing.assert_allclose([measures[f"frame_{name}"] for name in ("precision", "recall", "f_measure")], expected[:3], atol=1e-12)
    assert measures["frame_average_precision"] == pytest.approx(average_precision_score(truth.ravel(), activations.ravel()), abs=1e-12)
    assert measures["frame_accuracy"] == pytest.approx(accuracy_score(truth.ravel(), found.ravel()), abs=1e-12)


def test_cosine_similarity_frame_by_frame() -> None:
    activations, truth = example(1)
    similarities = []
    for heard, true in zip(activations, truth.astype(float), strict=True):
        pair = [vector / np.linalg.norm(vector) if vector.any() else np.full(12, 12**-0.5) for vector in (heard, true)]
        similarities.append(pair[0] @ pair[1])
    assert frame_measures(activations, truth, 0.5)["frame_cosine_similarity"] == pytest.approx(np.mean(similarities), abs=1e-12)


def test_all_zeros_have_the_published_cosine_similarity_of_a_triad() -> None:
    truth = np.zeros((5, 12), np.uint8)
    truth[:, [0, 4, 7]] = 1
    assert frame_measures(np.zeros((5, 12)), truth, 0.5)["frame_cosine_similarity"] == pytest.approx(np.sqrt(3 / 12))


def test_perfect_and_opposite() -> None:
    _, truth = example(2)
    perfect = frame_measures(truth.astype(np.float32), truth, 0.5)
    assert all(value == pytest.approx(1) for value in perfect.values())
    opposite = frame_measures(1 - truth.astype(np.float32), truth, 0.5)
    assert opposite["frame_f_measure"] == opposite["frame_accuracy"] == 0


def test_order_of_frames_and_outputs_does_not_matter() -> None:
    activations, truth = example(3)
    generator = np.random.default_rng(0)
    frames, outputs = generator.permutation(300), generator.permutation(12)
    moved = frame_measures(activations[frames][:, outputs], truth[frames][:, outputs], 0.4)
    assert moved == pytest.approx(frame_measures(activations, truth, 0.4))


def test_average_precision_knows_only_the_ranks() -> None:
    activations, truth = example(4)
    squeezed = frame_measures(np.sqrt(activations) / 2, truth, 0.5)["frame_average_precision"]
    assert squeezed == pytest.approx(frame_measures(activations, truth, 0.5)["frame_average_precision"])
    constant = frame_measures(np.full((300, 12), 0.3), truth, 0.5)["frame_average_precision"]
    assert constant == pytest.approx(truth.mean())


@pytest.mark.parametrize("heard", [0.0, 1.0])
@pytest.mark.parametrize("true", [0, 1])
def test_silence_and_noise_have_finite_measures(heard: float, true: int) -> None:
    truth = np.full((10, 72), true, np.uint8)
    measures = frame_measures(np.full((10, 72), heard), truth, 0.5)
    measures |= multipitch_measures(np.full((10, 72), heard > 0), truth, 43.0)
    assert all(np.isfinite(value) for value in measures.values())
    both = float(heard == true == 1)
    assert measures["frame_precision"] == measures["frame_recall"] == measures["frame_f_measure"] == both
    assert measures["frame_average_precision"] == true
    assert measures["frame_accuracy"] == (heard == true)
    assert measures["multipitch_accuracy"] == both


@pytest.mark.parametrize("outputs", [12, 72])
def test_multipitch_is_mir_eval_and_agrees_with_our_own(outputs: int) -> None:
    activations, truth = example(5, outputs=outputs)
    found = activations >= 0.5
    measures = multipitch_measures(found, truth.astype(np.uint8), 43.066)
    assert measures["multipitch_precision"] == pytest.approx(frame_measures(activations, truth, 0.5)["frame_precision"])
    assert measures["multipitch_recall"] == pytest.approx(frame_measures(activations, truth, 0.5)["frame_recall"])
    hits, extra, missed = (found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()
    assert measures["multipitch_accuracy"] == pytest.approx(hits / (hits + extra + missed))
    substituted = np.minimum((found & ~truth).sum(1), (~found & truth).sum(1)).sum()
    assert measures["multipitch_substitution_error"] == pytest.approx(substituted / truth.sum())
    total = measures["multipitch_substitution_error"] + measures["multipitch_miss_error"] + measures["multipitch_false_alarm_error"]
    assert measures["multipitch_total_error"] == pytest.approx(total)
    assert len(measures) == 14


def test_octave_errors_are_forgiven_by_the_chroma_measures_alone() -> None:
    truth = np.zeros((4, 72), bool)
    truth[:, 36] = True
    measures = multipitch_measures(np.roll(truth, 12, axis=1), truth, 43.0)
    assert measures["multipitch_accuracy"] == 0
    assert measures["multipitch_chroma_accuracy"] == 1


def test_pitch_classes_are_the_pitches_of_one_octave() -> None:
    """Their chroma measures equal the others, B and C included, which lie next to each other in a circle."""
    activations, truth = example(6)
    measures = multipitch_measures(activations >= 0.4, truth, 43.0)
    for name, value in measures.items():
        if "chroma" in name:
            assert value == measures[name.replace("chroma_", "")]


def notes(*rows: tuple[float, float, int]) -> PerformedNotes:
    onsets, offsets, pitches = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
    return PerformedNotes(onsets, offsets, pitches.astype(np.int64), np.full(len(rows), np.nan))


def test_note_measures_of_a_hand_made_example() -> None:
    true = notes((0.0, 1.0, 60), (1.0, 2.0, 62), (2.0, 3.0, 64), (2.0, 3.0, 67))
    estimated = notes((0.04, 0.9, 60), (1.0, 1.5, 62), (2.1, 3.0, 64), (2.0, 3.0, 68), (2.0, 3.1, 67))
    measures = note_measures(estimated, true)
    assert measures["note_precision"] == 3 / 5
    assert measures["note_recall"] == 3 / 4
    assert measures["note_f_measure"] == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert measures["note_with_offset_precision"] == 2 / 5
    assert measures["note_with_offset_recall"] == 2 / 4


def test_note_measures_against_mir_eval_and_each_note_matches_once() -> None:
    generator = np.random.default_rng(0)
    onsets = np.sort(generator.uniform(0, 20, 150))
    true = notes(*((onset, onset + generator.uniform(0.1, 1), int(generator.integers(40, 60))) for onset in onsets))
    heard = true.onsets_seconds + generator.normal(0, 0.04, 150)
    keep = heard > 0
    estimated = PerformedNotes(
        heard[keep], heard[keep] + generator.uniform(0.1, 1, keep.sum()), true.pitches[keep], np.full(keep.sum(), np.nan)
    )
    intervals = [np.stack([played.onsets_seconds, played.offsets_seconds], 1) for played in (true, estimated)]
    hertz = [440 * 2 ** ((played.pitches - 69) / 12) for played in (true, estimated)]
    reference = mir_eval.transcription.evaluate(intervals[0], hertz[0], intervals[1], hertz[1])
    measures = note_measures(estimated, true)
    assert 0.1 < measures["note_with_offset_f_measure"] < measures["note_f_measure"] < 0.95
    for ours, theirs in (("precision", "Precision"), ("recall", "Recall"), ("f_measure", "F-measure")):
        assert measures[f"note_{ours}"] == pytest.approx(reference[f"{theirs}_no_offset"])
        assert measures[f"note_with_offset_{ours}"] == pytest.approx(reference[theirs])


def test_no_notes_and_notes_out_of_range() -> None:
    some = notes((0.0, 1.0, 60))
    for estimated, true in ((notes(), some), (some, notes()), (notes(), notes())):
        assert set(note_measures(estimated, true).values()) == {0.0}
    outside = notes((0.0, 1.0, 60), (0.0, 1.0, 23), (0.0, 1.0, 96))
    assert set(note_measures(some, outside).values()) == {1.0}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_tuned_threshold_is_the_best_of_the_grid(dtype: type) -> None:
    files = [example(seed, frames) for seed, frames in ((0, 100), (1, 400), (2, 50))]
    files = [(activations.astype(dtype), truth) for activations, truth in files]
    means = {
        threshold: np.mean([frame_measures(activations, truth, threshold)["frame_f_measure"] for activations, truth in files])
        for threshold in (np.arange(1, 100) / 100).tolist()
    }
    tuned = tune_threshold(files)
    assert isinstance(tuned, float)
    assert means[tuned] == pytest.approx(max(means.values()), abs=1e-12)


def test_each_file_counts_alike_when_a_threshold_is_tuned() -> None:
    short = (np.array([[0.2, 0.1]]), np.array([[True, False]]))
    long = (np.tile([[0.9, 0.8]], (1000, 1)), np.tile([[True, False]], (1000, 1)))
    # Above 0.8 the long file alone is right: 1 and 0. At 0.2 the short one is: 2/3 and 1.
    assert tune_threshold([short, long]) == pytest.approx(0.2)


def test_of_equal_thresholds_the_middle_one() -> None:
    assert tune_threshold([(np.array([[0.1, 0.9]]), np.array([[False, True]]))]) == 0.5
    assert tune_threshold([(np.zeros((3, 12)), np.ones((3, 12), bool))]) == 0.5


@pytest.mark.usefixtures("without_shape_types")
def test_bad_input_is_named() -> None:
    activations, truth = example(0)
    with pytest.raises(InputError, match="shapes"):
        frame_measures(activations, truth[:-1], 0.5)
    with pytest.raises(InputError, match="shapes"):
        frame_measures(np.zeros((0, 12)), np.zeros((0, 12), bool), 0.5)
    for wrong in (np.nan, -0.1, 1.1):
        broken = activations.copy()
        broken[5, 5] = wrong
        with pytest.raises(InputError, match="activations"):
            frame_measures(broken, truth, 0.5)
        with pytest.raises(InputError, match="threshold"):
            frame_measures(activations, truth, wrong)
    with pytest.raises(InputError, match="truth: holds 2"):
        frame_measures(activations, 2 * truth.astype(np.uint8), 0.5)
    with pytest.raises(InputError, match="13 outputs"):
        multipitch_measures(np.zeros((4, 13), bool), np.zeros((4, 13), bool), 43.0)
    with pytest.raises(InputError, match="no files"):
        tune_threshold([])
