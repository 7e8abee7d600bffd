"""Small corpora of sine melodies, made afresh for every test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softscribe.scores import PerformedNotes, Score, write_performed_notes_csv, write_score_csv

SAMPLE_RATE = 22050


class Melody:
    """A random melody of quarter and half notes over held bass notes, and its performance with a wandering tempo."""

    def __init__(self, seed: int, quarters: int, mean_seconds_per_quarter: float = 0.5, silence_seconds: float = 0.7) -> None:
        random = np.random.default_rng(seed)
        lengths = random.choice([1, 1, 2], size=quarters)
        onsets = np.concatenate([[0], np.cumsum(lengths)])
        onsets, lengths = onsets[:-1][onsets[1:] <= quarters], lengths[onsets[1:] <= quarters]
        pitches = 60 + np.array([0, 2, 4, 5, 7, 9, 11, 12])[random.integers(0, 8, len(onsets))]
        bass_onsets = np.arange(0, quarters, 4)
        bass = 36 + np.array([0, 5, 7, 9, 2])[random.integers(0, 5, len(bass_onsets))]
        end = float(onsets[-1] + lengths[-1])
        self.score = Score(
            np.concatenate([onsets, bass_onsets]).astype(float),
            np.concatenate([lengths, np.minimum(4, end - bass_onsets)]).astype(float),
            np.concatenate([pitches, bass]),
            np.concatenate([np.zeros(len(onsets), int), np.ones(len(bass_onsets), int)]),
            end,
        )
        grid = np.arange(int(end) + 1)
        tempo = np.exp(0.25 * np.sin(grid / 9 + seed) + 0.05 * random.normal(size=len(grid)))
        self._seconds = silence_seconds + np.concatenate([[0], np.cumsum(tempo[:-1])]) * mean_seconds_per_quarter
        self._quarters = grid.astype(float)
        self.duration_seconds = self._seconds[-1] + silence_seconds

    def seconds(self, quarters: np.ndarray | float) -> np.ndarray:
        """When a place in the score sounds."""
        return np.interp(quarters, self._quarters, self._seconds)

    @property
    def performed(self) -> PerformedNotes:
        ends = self.score.onsets_quarters + self.score.durations_quarters
        onsets = self.seconds(self.score.onsets_quarters)
        return PerformedNotes(onsets, self.seconds(ends), self.score.pitches, self.score.onsets_quarters)

    def samples(self, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """Decaying tones of four harmonics."""
        sound = np.zeros(int(self.duration_seconds * sample_rate) + 1)
        notes = self.performed
        for onset, offset, pitch in zip(notes.onsets_seconds, notes.offsets_seconds, notes.pitches, strict=True):
            time = np.arange(int((offset - onset) * sample_rate)) / sample_rate
            phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time
            tone = sum(np.sin(harmonic * phase) / harmonic**1.5 for harmonic in range(1, 5))
            envelope = np.minimum(1, time / 0.01) * np.exp(-1.5 * time) * np.minimum(1, (time[-1] - time) / 0.02)
            start = int(onset * sample_rate)
            sound[start : start + len(time)] += 0.1 * tone * envelope
        return sound.astype(np.float32)


@pytest.fixture
def melody() -> type[Melody]:
    return Melody


@pytest.fixture
def add_pair(tmp_path: Path) -> Callable[..., Melody]:
    """Write audio/<name>.wav, scores/<score_name>.csv and, if wanted, truth/<name>.csv below tmp_path / "corpus"."""

    def add(
        name: str, *, seed: int = 0, quarters: int = 16, score_name: str | None = None, truth: bool = False, rate: int = 22050
    ) -> Melody:
        made = Melody(seed, quarters)
        corpus = tmp_path / "corpus"
        for folder in ("audio", "scores"):
            (corpus / folder).mkdir(parents=True, exist_ok=True)
        samples = made.samples(rate)
        # Two channels at high rates: what people's files are like.
        soundfile.write(corpus / "audio" / f"{name}.wav", np.stack([samples] * 2, axis=1) if rate > 48000 else samples, rate)
        write_score_csv(made.score, corpus / "scores" / f"{score_name or name}.csv")
        if truth:
            (corpus / "truth").mkdir(exist_ok=True)
            write_performed_notes_csv(made.performed, corpus / "truth" / f"{name}.csv")
        return made

    return add
