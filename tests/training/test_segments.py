"""Items of training: the right frames, the right targets, and transposition of both together."""

from pathlib import Path

import numpy as np
import pytest

from softscribe.corpora import FeatureStore
from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES
from softscribe.sound import HcqtSettings
from softscribe.training.segments import AnnotatedSegment, SegmentDataset, TargetSettings, annotated_segments, collate


@pytest.fixture
def segments(store: Path, features: HcqtSettings) -> list[AnnotatedSegment]:
    return annotated_segments(FeatureStore(store, features).recordings(), "train")


def test_splits_are_apart(store: Path, features: HcqtSettings) -> None:
    recordings = FeatureStore(store, features).recordings()
    names = {split: {segment.name for segment in annotated_segments(recordings, split)} for split in ("train", "validation", "test")}
    assert [len(names[split]) for split in ("train", "validation", "test")] == [3, 1, 1]
    assert not names["train"] & names["test"]


def test_features_are_those_of_the_segment_with_real_context(segments: list[AnnotatedSegment]) -> None:
    segment = segments[0]
    features = segment.features()
    stored = np.asarray(segment.prepared.features)
    assert len(features) == segment.frame_count + 2 * CONTEXT_FRAMES
    silence = CONTEXT_FRAMES - segment.first_frame
    assert silence > 0, "this segment is meant to begin less than the context after the recording"
    assert not features[:silence].any()
    np.testing.assert_array_equal(features[silence : silence + len(stored)], stored[: len(features) - silence])


@pytest.mark.parametrize("kind", ["unique", "stretched", "stretched_by_score"])
def test_targets_show_the_written_notes_in_order(segments: list[AnnotatedSegment], features: HcqtSettings, kind: str) -> None:
    for number, segment in enumerate(segments):
        item = SegmentDataset(segments, features, TargetSettings(kind=kind))[0, number]
        changes = np.concatenate([[True], (np.diff(item.targets.astype(int), axis=0) != 0).any(axis=1)])
        written = segment.segment.score.pitches % 12
        expected = written[np.concatenate([[True], np.diff(written) != 0])]
        assert item.targets[changes].argmax(axis=1).tolist() == expected.tolist()
        assert len(item.targets) == (len(expected) if kind == "unique" else segment.frame_count)


def test_truth_is_what_was_performed_and_the_targets_are_not(segments: list[AnnotatedSegment], features: HcqtSettings) -> None:
    """The melodies are played unevenly, so evenly spread targets are right in some frames only."""
    item = SegmentDataset(segments, features, TargetSettings(kind="stretched"))[0, 0]
    assert item.truth is not None
    agreement = (item.truth == item.targets).all(axis=1).mean()
    assert 0.2 < agreement < 0.9


def test_transposition_moves_features_and_targets_together(segments: list[AnnotatedSegment], features: HcqtSettings) -> None:
    plain = SegmentDataset(segments, features, TargetSettings(outputs=72, kind="unique"))[0, 0]
    augmented = SegmentDataset(segments, features, TargetSettings(outputs=72, kind="unique"), transposition_semitones=5, seed=3)
    moved = set()
    for draw in range(20):
        item = augmented[draw, 0]
        semitones = int(item.targets[0].argmax()) - int(plain.targets[0].argmax())
        moved.add(semitones)
        width = 3 * (72 - 5)
        low, high = max(0, -semitones) * 3, max(0, semitones) * 3
        np.testing.assert_array_equal(item.features[..., high : high + width], plain.features[..., low : low + width])
        np.testing.assert_array_equal(augmented[draw, 0].features, item.features)
    assert len(moved) > 5
    assert max(map(abs, moved)) <= 5


def test_padding_is_zero_and_counted(segments: list[AnnotatedSegment], features: HcqtSettings) -> None:
    dataset = SegmentDataset(segments, features, TargetSettings(kind="unique"))
    items = [dataset[0, index] for index in range(3)]
    batch = collate(items)
    assert batch.frame_counts.tolist() == [segment.frame_count for segment in segments]
    assert batch.truth is not None
    for number, item in enumerate(items):
        np.testing.assert_array_equal(batch.features[number].permute(1, 0, 2)[: len(item.features)], item.features)
        assert not batch.features[number, :, len(item.features) :].any()
        assert not batch.targets[number, len(item.targets) :].any()
        assert not batch.truth[number, int(batch.frame_counts[number]) :].any()


def test_published_targets_come_from_the_performance(segments: list[AnnotatedSegment], features: HcqtSettings) -> None:
    item = SegmentDataset(segments, features, TargetSettings(kind="unique", source="performance"))[0, 0]
    written = segments[0].segment.score.pitches % 12
    assert (
        item.targets.argmax(axis=1)[item.targets.any(axis=1)].tolist() == written[np.concatenate([[True], np.diff(written) != 0])].tolist()
    )


@pytest.mark.parametrize(
    "settings", [{"outputs": 13}, {"kind": "even"}, {"source": "memory"}, {"source": "performance", "kind": "stretched_by_score"}]
)
def test_impossible_targets_are_refused(settings: dict) -> None:
    with pytest.raises(InputError, match="targets"):
        TargetSettings(**settings)
