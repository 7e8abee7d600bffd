"""Schedules are pure functions of progress: ends, order, shapes."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softscribe.errors import InputError
from softscribe.training.schedules import Schedule

positive = st.floats(1e-4, 1e4)


@given(
    start=positive, end=positive, shape=st.sampled_from(["linear", "geometric", "cosine"]), progress=st.lists(st.floats(0, 1), min_size=2)
)
def test_from_start_to_end_without_turning_back(start: float, end: float, shape: str, progress: list[float]) -> None:
    schedule = Schedule(start=start, end=end, shape=shape, begin=0.2, until=0.8)
    assert [schedule(0.0), schedule(0.2)] == pytest.approx([start, start])
    assert [schedule(0.8), schedule(1.0)] == pytest.approx([end, end])
    values = [schedule(share) for share in sorted(progress)]
    direction = 1 if end >= start else -1
    assert all(direction * (later - earlier) >= -1e-9 * max(start, end) for earlier, later in pairwise(values))


def test_shapes_in_the_middle() -> None:
    assert Schedule(start=1, end=100, shape="geometric")(0.5) == pytest.approx(10)
    assert Schedule(start=1, end=100, shape="linear")(0.5) == pytest.approx(50.5)
    assert Schedule(start=1, end=0, shape="cosine")(0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert Schedule(start=3)(0.7) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": 1, "end": 2},
        {"start": 1, "end": 2, "shape": "sudden"},
        {"start": 0, "end": 2, "shape": "geometric"},
        {"start": 1, "end": 2, "shape": "linear", "until": 1.5},
        {"start": 1, "end": 2, "shape": "linear", "begin": 0.5, "until": 0.5},
        {"start": math.nan},
    ],
)
def test_impossible_schedules_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match="schedule"):
        Schedule(**arguments)


@given(until=st.floats(0.1, 1), progress=st.floats(0, 1))
def test_a_settled_schedule_changes_no_more(until: float, progress: float) -> None:
    schedule = Schedule(start=5.0, end=0.3, shape="geometric", until=until)
    assert schedule.settled(progress) == (progress >= until)
    if schedule.settled(progress):
        assert schedule(progress) == pytest.approx(0.3)
    assert Schedule(start=1.0).settled(progress)
