from itertools import pairwise

import numpy as np
import pytest

from softscribe.corpora.coarse_alignment import SHORTEST_SEGMENT_SECONDS, align_coarsely, audio_chroma, guess_segments, score_chroma
from softscribe.errors import InputError
from softscribe.scores import Score
from softscribe.sound import read_audio

RATE = 22050


def without(score: Score, start: float, end: float) -> Score:
    """The score with quarters start to end cut out: what is read when a repeat that was played is not written out."""
    parts = [score.between(0, start), score.between(end, score.end_quarters)]
    shifts = (0.0, start)
    return Score(
        np.concatenate([part.onsets_quarters + shift for part, shift in zip(parts, shifts, strict=True)]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("durations_quarters", "pitches", "parts")),
        end_quarters=start + score.end_quarters - end,
    )


def test_score_chroma_is_the_time_that_notes_sound():
    random = np.random.default_rng(0)
    onsets, durations = random.uniform(0, 8, 30), random.uniform(0.01, 2, 30)
    score = Score(onsets, durations, random.integers(30, 90, 30), np.zeros(30, int), 11.0)
    fine = score_chroma(score, 11_000)
    time = (np.arange(11_000) + 0.5) / 1000
    for pitch_class in range(12):
        chosen = score.pitches % 12 == pitch_class
        sounding = (score.onsets_quarters[chosen, None] <= time) & (time < (score.onsets_quarters + score.durations_quarters)[chosen, None])
        assert np.abs(fine[pitch_class] - sounding.sum(axis=0)).sum() <= 2 * chosen.sum() + 1e-6
    for frames in (1, 7, 100):
        coarse = score_chroma(score, frames)
        assert np.allclose(coarse.sum(axis=1) * 11 / frames, fine.sum(axis=1) / 1000)


def test_a_long_performance_is_cut_at_the_right_places(melody):
    performance = melody(seed=3, quarters=200)
    audio = audio_chroma(performance.samples(), RATE)
    assert abs(audio.start_seconds - 0.7) < 0.1
    assert abs(audio.end_seconds - (performance.duration_seconds - 0.7)) < 0.6
    segments, left_out = guess_segments(audio, performance.score)
    assert left_out < 0.5 * performance.duration_seconds
    for segment in segments:
        assert SHORTEST_SEGMENT_SECONDS <= segment.end_seconds - segment.start_seconds <= 30
        end_quarters = segment.score_start_quarters + segment.score.end_quarters
        assert abs(segment.start_seconds - performance.seconds(segment.score_start_quarters)) < 0.3
        assert abs(segment.end_seconds - performance.seconds(end_quarters)) < 0.3
        assert segment.score == performance.score.between(segment.score_start_quarters, end_quarters)
    assert all(first.end_seconds <= second.start_seconds for first, second in pairwise(segments))
    covered = sum(segment.end_seconds - segment.start_seconds for segment in segments)
    assert covered + left_out == pytest.approx(audio.end_seconds - audio.start_seconds)


def test_no_place_of_a_wrong_score_is_sure(melody):
    audio = audio_chroma(melody(seed=3, quarters=160).samples(), RATE)
    segments, left_out = guess_segments(audio, melody(seed=4, quarters=160).score)
    assert segments == ()
    assert left_out == audio.end_seconds - audio.start_seconds


def test_where_the_score_lacks_a_passage_nothing_is_annotated(melody):
    performance = melody(seed=5, quarters=240)
    start, end = 100.0, 130.0
    segments, _ = guess_segments(audio_chroma(performance.samples(), RATE), without(performance.score, start, end))
    assert segments
    for segment in segments:
        for seconds, quarters in (
            (segment.start_seconds, segment.score_start_quarters),
            (segment.end_seconds, segment.score_start_quarters + segment.score.end_quarters),
        ):
            true_seconds = performance.seconds(quarters if quarters <= start else quarters + end - start)
            assert abs(seconds - true_seconds) < 0.5
        assert not segment.start_seconds < performance.seconds(start + 1) < performance.seconds(end - 1) < segment.end_seconds


def test_a_cut_prefers_rests_and_places_where_no_note_is_held(melody):
    performance = melody(seed=6, quarters=200)
    segments, _ = guess_segments(audio_chroma(performance.samples(), RATE), performance.score)
    # The bass holds its notes for four quarters: between them it ends together with the melody half of the time.
    cuts = np.array([segment.score_start_quarters for segment in segments[1:]])
    assert len(cuts)
    assert np.mean(cuts % 4 == 0) > 0.5


def test_nothing_to_align_is_refused(melody):
    with pytest.raises(InputError, match="silence"):
        audio_chroma(np.zeros(RATE, np.float32), RATE)
    audio = audio_chroma(melody(0, 60).samples(), RATE)
    rest = Score(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros(0, int), 4.0)
    with pytest.raises(InputError, match="no notes"):
        align_coarsely(audio, rest)
    with pytest.raises(InputError, match="at least 20"):
        guess_segments(audio, melody(0, 60).score, longest_segment_seconds=15.0)


def test_real_violin_is_cut_where_a_reliable_alignment_says(real_recordings):
    real = real_recordings / "bach_violin"
    names = "john-garner/john-garner_bwv1002_mov7"
    ticks = np.loadtxt(real / "notes" / f"{names}.csv", delimiter=",", skiprows=1)
    true_seconds = np.loadtxt(real / "alignments" / f"{names}.csv", delimiter=",", skiprows=1)[:, 0]
    onsets, offsets = ticks[:, 0] / 24, ticks[:, 1] / 24
    score = Score(onsets, offsets - onsets, ticks[:, 2].astype(int), np.zeros(len(ticks), int), offsets.max())
    segments, left_out = guess_segments(audio_chroma(read_audio(real / "audio" / f"{names}.mp3"), RATE), score)
    assert left_out < 30
    starts = np.array([(segment.start_seconds, segment.score_start_quarters) for segment in segments])
    assert np.abs(starts[:, 0] - np.interp(starts[:, 1], onsets, true_seconds)).max() < 0.4
    assert not guess_segments(audio_chroma(read_audio(real / "audio" / f"{names}.mp3"), RATE), score.transposed(1))[0]
