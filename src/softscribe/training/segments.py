"""Items of training: fixed annotated segments of recordings, with their targets, and how they are padded into a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from softscribe.corpora import PreparedRecording, Segment
from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES
from softscribe.scores import (
    UniqueTargets,
    published_strong,
    published_unique,
    stretched_by_score_index,
    stretched_index,
    strong_targets,
    transpose_targets,
    unique_targets,
)
from softscribe.sound import HcqtSettings, compress, transpose
from softscribe.training.batch_stream import Draw

TARGET_KINDS = ("unique", "stretched", "stretched_by_score")
TARGET_SOURCES = ("score", "performance")


@dataclass
class TargetSettings:
    """Which targets a segment gets.

    Attributes:
        outputs: 12 pitch classes or 72 pitches (MIDI 24-95).
        kind: `unique` (consecutive note sets that differ), `stretched` (those spread evenly over the frames) or `stretched_by_score`
            (spread in proportion to their written durations).
        source: `score` (as written), or `performance` (as published systems do: from the performed notes, which leaks articulation).
    """

    outputs: int = 12
    kind: str = "stretched"
    source: str = "score"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("outputs", self.outputs, (12, 72)),
            ("kind", self.kind, TARGET_KINDS),
            ("source", self.source, TARGET_SOURCES),
        ):
            if value not in choices:
                raise InputError(f"targets.{name}: {value!r} is not possible. Remedy: one of {', '.join(map(str, choices))}.")
        if self.source == "performance" and self.kind == "stretched_by_score":
            raise InputError("targets: `stretched_by_score` needs written durations. Remedy: source=score, or kind=stretched.")


class Item(NamedTuple):
    """One segment, ready for the network; N frames, M targets."""

    features: Float[np.ndarray, "T C F"]
    targets: UInt8[np.ndarray, "M K"]
    truth: UInt8[np.ndarray, "N K"] | None
    number: int


class Batch(NamedTuple):
    """B segments, padded with zeros at their ends.

    `features` carry CONTEXT_FRAMES more frames than `truth` on each side; `truth` is None unless every segment has it; `numbers` tell which
    items of the dataset these are.
    """

    features: Float[Tensor, "B C T F"]
    frame_counts: Int[Tensor, " B"]
    targets: Float[Tensor, "B M K"]
    target_counts: Int[Tensor, " B"]
    truth: Float[Tensor, "B N K"] | None
    numbers: Int[Tensor, " B"]


@dataclass(frozen=True)
class AnnotatedSegment:
    """A segment together with the recording that it lies in: where its frames are, and which targets are written for them."""

    prepared: PreparedRecording
    segment: Segment

    @property
    def name(self) -> str:
        return f"{self.prepared.recording.name} {self.segment.name}"

    @property
    def first_frame(self) -> int:
        return round(self.segment.start_seconds * self.prepared.frames_per_second)

    @property
    def frame_count(self) -> int:
        return max(1, round(self.segment.end_seconds * self.prepared.frames_per_second) - self.first_frame)

    @cached_property
    def duration_seconds(self) -> float:
        return self.segment.end_seconds - self.segment.start_seconds

    def features(self) -> Float[np.ndarray, "T C F"]:
        """Return linear magnitudes with CONTEXT_FRAMES of the recording on each side; beyond its ends there is silence."""
        stored = self.prepared.features
        start, end = self.first_frame - CONTEXT_FRAMES, self.first_frame + self.frame_count + CONTEXT_FRAMES
        inside = np.asarray(stored[max(start, 0) : min(end, len(stored))])
        return np.pad(inside, ((max(-start, 0), end - start - max(-start, 0) - len(inside)), (0, 0), (0, 0)))

    def truth(self, outputs: int) -> UInt8[np.ndarray, "N K"] | None:
        """Return the frame-wise truth, None if it is not known."""
        performed = self.prepared.recording.truth
        if performed is None:
            return None
        fps = self.prepared.frames_per_second
        return strong_targets(performed, self.first_frame + self.frame_count, fps, outputs)[self.first_frame :]

    def unique(self, settings: TargetSettings) -> UniqueTargets:
        """Return the consecutive note sets, written or (source=performance) performed."""
        if settings.source == "score":
            return unique_targets(self.segment.score, settings.outputs)
        performed = self.prepared.recording.truth
        if performed is None:
            raise InputError(f"{self.prepared.recording.name}: targets.source=performance needs a truth file. Remedy: source=score.")
        part = performed.between_seconds(self.segment.start_seconds, self.segment.end_seconds)
        values = published_unique(published_strong(part, self.frame_count, self.prepared.frames_per_second, settings.outputs))
        unknown = np.full(len(values), np.nan)
        return UniqueTargets(values, unknown, unknown)

    def target_of_row(self, settings: TargetSettings) -> Int[np.ndarray, " M"]:
        """Return which unique target each row of the targets shows: all of them once, or one for each frame."""
        unique = self.unique(settings)
        if settings.kind == "unique":
            return np.arange(len(unique.values))
        if settings.kind == "stretched":
            return stretched_index(len(unique.values), self.frame_count)
        return stretched_by_score_index(unique.durations_quarters, self.frame_count)


def annotated_segments(recordings: Sequence[PreparedRecording], split: str) -> list[AnnotatedSegment]:
    """Return the segments of a split ("train", "validation" or "test"), in the order of the recordings."""
    return [
        AnnotatedSegment(prepared, segment)
        for prepared in recordings
        if prepared.recording.split == split
        for segment in prepared.recording.segments
    ]


class SegmentDataset(Dataset[Item]):
    """Segments as items: log-compressed features with context, targets and, where it is known, the truth.

    Args:
        segments: of one split.
        features: settings of the stored HCQT.
        targets: which targets to make.
        transposition_semitones: transpose each draw by a random number of semitones up to this in both directions, 0 for none;
            features and targets move together.
        seed: decides, with the number of the draw, the transposition.
    """

    def __init__(
        self,
        segments: Sequence[AnnotatedSegment],
        features: HcqtSettings,
        targets: TargetSettings,
        transposition_semitones: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0 <= transposition_semitones <= 11:
            raise InputError(f"augmentation.transposition_semitones: {transposition_semitones}. Remedy: 0 to 11.")
        self.segments = list(segments)
        self.features = features
        self.targets = targets
        self.transposition_semitones = transposition_semitones
        self.seed = seed
        self._targets = [self._make_targets(segment) for segment in self.segments]

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, draw: Draw) -> Item:
        number, index = draw
        segment = self.segments[index]
        targets, truth = self._targets[index]
        features = compress(segment.features())
        if self.transposition_semitones:
            largest = self.transposition_semitones
            semitones = int(np.random.default_rng([self.seed, number, 1]).integers(-largest, largest + 1))
            features = transpose(features, semitones, self.features)
            targets = transpose_targets(targets, semitones)
            truth = None if truth is None else transpose_targets(truth, semitones)
        return Item(features, targets, truth, index)

    def _make_targets(self, segment: AnnotatedSegment) -> tuple[UInt8[np.ndarray, "M K"], UInt8[np.ndarray, "N K"] | None]:
        values = segment.unique(self.targets).values[segment.target_of_row(self.targets)]
        return values, segment.truth(self.targets.outputs)


def collate(items: Sequence[Item]) -> Batch:
    """Pad items of different lengths into a batch."""
    truths = [item.truth for item in items if item.truth is not None]
    features = _pad([item.features for item in items])
    return Batch(
        features=features.permute(0, 2, 1, 3),
        frame_counts=torch.tensor([len(item.features) - 2 * CONTEXT_FRAMES for item in items]),
        targets=_pad([item.targets for item in items]).float(),
        target_counts=torch.tensor([len(item.targets) for item in items]),
        truth=_pad(truths).float() if len(truths) == len(items) else None,
        numbers=torch.tensor([item.number for item in items]),
    )


def _pad(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)
