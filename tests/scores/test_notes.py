"""Scores and performances: what they refuse, and what cutting and transposing keep."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes, Score


@st.composite
def scores(draw: st.DrawFn) -> Score:
    """Small scores on a grid of 1/12 quarter notes, with overlaps, unisons, rests and triplets."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 96), st.integers(1, 48), st.integers(0, 127), st.integers(0, 2)), min_size=0, max_size=20)
    )
    end = max([onset + duration for onset, duration, *_ in rows], default=0) + draw(st.integers(1, 24))
    onsets, durations, pitches, parts = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Score(onsets / 12, durations / 12, pitches, parts, end / 12)


def one_note(**changes: object) -> Score:
    values = {"onsets": np.array([0.0]), "durations": np.array([1.0]), "pitches": np.array([60]), "parts": np.array([0]), "end": 1.0}
    values |= changes
    return Score(values["onsets"], values["durations"], values["pitches"], values["parts"], values["end"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onsets": np.array([-0.5])}, "onsets_quarters: note 0 has -0.5"),
        ({"onsets": np.array([np.nan])}, "onsets_quarters: note 0 has nan"),
        ({"durations": np.array([0.0])}, "durations_quarters: note 0 has 0"),
        ({"durations": np.array([np.inf])}, "durations_quarters: note 0 has inf"),
        ({"pitches": np.array([128])}, "pitches: note 0 has 128"),
        ({"parts": np.array([-1])}, "parts: note 0 has -1"),
        ({"end": 0.5}, "a note sounds until 1"),
        ({"end": 0.0}, "end_quarters: 0"),
        ({"end": np.nan}, "end_quarters: nan"),
    ],
)
def test_a_score_names_what_is_wrong(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        one_note(**changes)


@pytest.mark.parametrize(
    "changes", [{"pitches": np.array([60.5])}, {"parts": np.array([0, 0])}, {"onsets": np.array([[0.0]])}, {"onsets": np.array(["0"])}]
)
def test_wrong_types_and_shapes_are_refused(changes: dict) -> None:
    # A TypeError where the tests check the types of arguments, an InputError everywhere else.
    with pytest.raises((InputError, TypeError)):
        one_note(**changes)


@pytest.mark.parametrize(
    ("onset", "offset", "pitch", "message"),
    [
        (-0.1, 1.0, 60, "onsets_seconds"),
        (1.0, 1.0, 60, "offsets_seconds"),
        (0.0, 1.0, 200, "pitches"),
        (0.0, np.nan, 60, "offsets_seconds"),
    ],
)
def test_a_performance_names_what_is_wrong(onset: float, offset: float, pitch: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PerformedNotes(np.array([onset]), np.array([offset]), np.array([pitch]), np.array([np.nan]))


@given(scores())
def test_notes_are_sorted_and_none_is_lost(score: Score) -> None:
    order = list(zip(score.onsets_quarters, score.pitches, score.parts, strict=True))
    assert order == sorted(order)
    shuffled = np.random.default_rng(0).permutation(len(score))
    again = Score(
        score.onsets_quarters[shuffled],
        score.durations_quarters[shuffled],
        score.pitches[shuffled],
        score.parts[shuffled],
        score.end_quarters,
    )
    assert sorted(zip(again.onsets_quarters, again.durations_quarters, again.pitches, again.parts, strict=True)) == sorted(
        zip(score.onsets_quarters, score.durations_quarters, score.pitches, score.parts, strict=True)
    )


@given(scores(), st.lists(st.floats(0.01, 0.99), max_size=4))
def test_cutting_a_score_keeps_every_pitch_sounding_as_long(score: Score, places: list[float]) -> None:
    cuts = sorted({0.0, score.end_quarters, *(round(place * score.end_quarters, 2) for place in places)})
    cuts = [cut for cut in cuts if cut <= score.end_quarters]
    sections = [score.between(start, end) for start, end in itertools.pairwise(cuts)]
    assert sum(section.end_quarters for section in sections) == pytest.approx(score.end_quarters)
    for pitch in range(128):
        whole = score.durations_quarters[score.pitches == pitch].sum()
        parts = sum(section.durations_quarters[section.pitches == pitch].sum() for section in sections)
        assert parts == pytest.approx(whole, abs=1e-3)


def test_a_section_counts_from_its_start_and_cuts_notes() -> None:
    score = Score(np.array([0.0, 1.0, 3.0]), np.array([4.0, 1.0, 1.0]), np.array([48, 60, 62]), np.array([0, 1, 1]), 5.0)
    section = score.between(1.5, 3.0)
    assert section == Score(np.array([0.0, 0.0]), np.array([1.5, 0.5]), np.array([48, 60]), np.array([0, 1]), 1.5)
    assert len(score.between(4.0, 5.0)) == 0


@pytest.mark.parametrize(("start", "end"), [(-1.0, 1.0), (0.0, 6.0), (0.5, 0.5), (0.7, 0.2)])
def test_a_section_outside_the_score_is_refused(start: float, end: float) -> None:
    with pytest.raises(InputError, match="the score goes from 0 to 1"):
        one_note().between(start, end)


def test_transposing_there_and_back_changes_nothing_and_stops_at_the_ends() -> None:
    assert one_note().transposed(7).transposed(-7) == one_note()
    with pytest.raises(InputError, match="transposed by 68"):
        one_note().transposed(68)


def test_a_performed_section_counts_from_its_start() -> None:
    notes = PerformedNotes(np.array([0.0, 2.0]), np.array([1.5, 3.0]), np.array([60, 62]), np.array([0.0, 4.0]))
    section = notes.between_seconds(1.0, 2.5)
    assert section == PerformedNotes(np.array([0.0, 1.0]), np.array([0.5, 1.5]), np.array([60, 62]), np.array([0.0, 4.0]))
    with pytest.raises(InputError, match="section 2 to 1"):
        notes.between_seconds(2.0, 1.0)
