"""The statistics of performances against what was measured on pianists, and the promises that annotation rests on."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softscribe.corpora.performance import Performance, PerformanceSettings, perform
from softscribe.errors import InputError
from softscribe.scores import Score


def chorale(beats: int = 64, seed: int = 0) -> Score:
    """Four parts in quarters, some beats in eighths."""
    rng = np.random.default_rng(seed)
    onsets, durations, pitches, parts = [], [], [], []
    for part in range(4):
        for beat in range(beats):
            split = rng.random() < 0.25
            for half in range(2 if split else 1):
                onsets.append(beat + 0.5 * half)
                durations.append(0.5 if split else 1.0)
                pitches.append(int(72 - 8 * part + rng.integers(-4, 5)))
                parts.append(part)
    return Score(np.array(onsets), np.array(durations), np.array(pitches), np.array(parts), float(beats))


def many(count: int = 60, **options: object) -> list[Performance]:
    rng = np.random.default_rng(1)
    return [perform(chorale(seed=seed), rng, PerformanceSettings(**options)) for seed in range(count)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def performances() -> list[Performance]:
    return many()


def test_two_to_five_onsets_per_second(performances: list[Performance]) -> None:
    rates = [len(np.unique(one.score.onsets_quarters)) / one.offsets_seconds.max() for one in performances]
    assert min(rates) > 1.95
    assert max(rates) < 5.05
    assert max(rates) - min(rates) > 2  # both ends are visited


def test_the_beat_varies_as_measured(performances: list[Performance]) -> None:
    logarithms = [np.log2(np.diff(one.map_seconds))[:-4] for one in performances]
    deviations = np.array([np.std(values) for values in logarithms])
    assert 0.18 <= deviations.mean() <= 0.26
    centred = [values - values.mean() for values in logarithms]
    correlation = np.mean([np.mean(values[1:] * values[:-1]) / np.mean(values**2) for values in centred])
    assert correlation == pytest.approx(0.3, abs=0.06)


def test_the_last_four_beats_slow_down_as_measured() -> None:
    ratios = []
    for one in many(count=200):
        periods = np.diff(one.map_seconds)
        ratios.append(np.log2(periods[-4:]).mean() - np.log2(periods[:-4]).mean())
    assert np.log2(1.1) <= np.mean(ratios) <= np.log2(1.3)


def test_chords_spread_as_measured(performances: list[Performance]) -> None:
    spreads = []
    for one in performances:
        times = np.array([one.seconds_at(quarters) for quarters in one.score.onsets_quarters])
        spreads.append(np.std(one.onsets_seconds - times))
    assert np.min(spreads) >= 0.010 * 0.9
    assert np.max(spreads) <= 0.015 * 1.1


@pytest.mark.parametrize(("detached_share", "low", "high"), [(1.0, 0.5, 0.65), (0.0, 0.85, 1.0)])
def test_notes_sound_the_measured_share_of_their_length(detached_share: float, low: float, high: float) -> None:
    shares = []
    for one in many(count=20, detached_share=detached_share):
        written = np.interp(one.score.onsets_quarters + one.score.durations_quarters, one.map_quarters, one.map_seconds) - np.interp(
            one.score.onsets_quarters, one.map_quarters, one.map_seconds
        )
        inner = one.score.onsets_quarters < 60
        shares.append(np.median(((one.offsets_seconds - one.onsets_seconds) / written)[inner]))
        assert np.max((one.offsets_seconds - one.onsets_seconds) / written) <= 1.2 + 1e-9
    assert low - 0.02 <= np.min(shares)
    assert np.max(shares) <= high + 0.02


def test_velocity_varies_by_14(performances: list[Performance]) -> None:
    assert np.mean([np.std(one.velocities) for one in performances]) == pytest.approx(14, abs=1)
    assert all(one.velocities.min() >= 1 and one.velocities.max() <= 127 for one in performances)


def random_scores() -> st.SearchStrategy[Score]:
    note = st.tuples(st.integers(0, 200), st.integers(1, 30), st.integers(0, 127), st.integers(0, 3))
    return st.lists(note, min_size=1, max_size=40).map(
        lambda notes: Score(
            np.array([onset / 24 for onset, *_ in notes]),
            np.array([duration / 24 for _, duration, *_ in notes]),
            np.array([pitch for *_, pitch, _ in notes]),
            np.array([part for *_, part in notes]),
            10.0,
        )
    )


@settings(max_examples=150, deadline=None)
@given(random_scores(), st.integers(0, 2**32))
def test_time_runs_forward_and_written_order_is_kept(score: Score, seed: int) -> None:
    performance = perform(score, np.random.default_rng(seed))
    assert np.all(np.diff(performance.map_seconds) > 0)
    assert np.all(np.diff(performance.map_quarters) > 0)
    assert performance.onsets_seconds.min() == 0
    assert np.all(performance.offsets_seconds > performance.onsets_seconds)
    positions = np.unique(score.onsets_quarters)
    chords = [performance.onsets_seconds[score.onsets_quarters == position] for position in positions]
    assert all(before.max() < after.min() for before, after in itertools.pairwise(chords))


@settings(max_examples=100, deadline=None)
@given(random_scores(), st.integers(0, 2**32))
def test_a_note_ends_before_its_pitch_is_struck_again(score: Score, seed: int) -> None:
    performance = perform(score, np.random.default_rng(seed))
    for i in range(len(score)):
        later = (score.pitches == score.pitches[i]) & (score.onsets_quarters > score.onsets_quarters[i])
        assert np.all(performance.offsets_seconds[i] <= performance.onsets_seconds[later])


def test_the_truth_holds_the_same_notes_later_by_the_lead_in() -> None:
    performance = perform(chorale(), np.random.default_rng(0))
    truth = performance.notes(lead_in_seconds=1.5)
    assert truth.onsets_seconds.min() == 1.5
    expected = sorted(
        zip(performance.onsets_seconds + 1.5, performance.score.pitches, performance.score.onsets_quarters, strict=True), key=tuple
    )
    assert list(zip(truth.onsets_seconds, truth.pitches, truth.score_onsets_quarters, strict=True)) == expected


def test_the_generator_alone_decides() -> None:
    first, second, other = (perform(chorale(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.onsets_seconds, second.onsets_seconds)
    np.testing.assert_array_equal(first.velocities, second.velocities)
    assert not np.array_equal(first.onsets_seconds, other.onsets_seconds)


def test_mistakes_are_named() -> None:
    rng = np.random.default_rng(0)
    empty = Score(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros(0, int), 1.0)
    with pytest.raises(InputError, match="no notes"):
        perform(empty, rng)
    for wrong in ({"onsets_per_second": (5.0, 2.0)}, {"velocity_deviation": -1.0}, {"detached_share": 1.5}, {"ritardando": (0.5, 1.0)}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            perform(chorale(), rng, PerformanceSettings(**wrong))  # type: ignore[arg-type]
