"""Quantities that change during training, as pure functions of how far it has come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from softscribe.errors import InputError

SHAPES = ("constant", "linear", "geometric", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A value that goes from `start` to `end` while training goes from `begin` to `until`, and stays constant before and after.

    Training's progress is the share of its steps that are done, in [0, 1]: the same schedule fits a run of any length, and since it
    depends on nothing else, a resumed run continues it exactly.

    Args:
        start: value at the beginning.
        end: value at the end; `None` for the shape `constant`.
        shape: `constant`, `linear`, `geometric` (equal ratios in equal times; both values positive) or `cosine` (half a period).
        begin, until: progress at which the change begins and ends, 0 <= begin < until <= 1.

    Raises:
        InputError: a value is outside its range.

    >>> gamma = Schedule(start=8.0, end=0.5, shape="geometric", until=0.5)
    >>> [gamma(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    [8.0, 2.0, 0.5, 0.5]
    """

    start: float
    end: float | None = None
    shape: str = "constant"
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise InputError(f"schedule.shape: {self.shape!r} is not known. Remedy: one of {', '.join(SHAPES)}.")
        if not all(math.isfinite(value) for value in (self.start, self.final)):
            raise InputError(f"schedule: from {self.start} to {self.end}. Remedy: finite values.")
        if (self.shape == "constant") != (self.end is None):
            raise InputError(f"schedule: shape {self.shape!r} with end {self.end}. Remedy: `constant` has no end, all others need one.")
        if self.shape == "geometric" and min(self.start, self.final) <= 0:
            raise InputError(f"schedule: geometric from {self.start} to {self.end}. Remedy: positive values, or the shape `linear`.")
        if not 0 <= self.begin < self.until <= 1:
            raise InputError(f"schedule: from {self.begin} until {self.until}. Remedy: 0 <= begin < until <= 1 (shares of the training).")

    @classmethod
    def of(cls, value: "float | Mapping[str, Any]") -> "Schedule":
        """Return the schedule that a config describes: its settings, or a number that never changes.

        >>> Schedule.of(2), Schedule.of({"start": 2}) == Schedule.of(2)
        (Schedule(start=2, end=None, shape='constant', begin=0.0, until=1.0), True)

        Raises:
            InputError: it is neither.
        """
        if isinstance(value, Mapping):
            return cls(**value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"schedule: {value!r}. Remedy: a number, or settings such as '{{start:5,end:0,shape:linear}}', quoted in a shell."
            )
        return cls(value)

    @property
    def final(self) -> float:
        """The value at the end of training."""
        return self.start if self.end is None else self.end

    def settled(self, progress: float) -> bool:
        """Whether the value has reached its end when the share `progress` of the training is done."""
        return self.shape == "constant" or progress >= self.until

    def __call__(self, progress: float) -> float:
        """Return the value when the share `progress` of the training is done."""
        share = min(max((progress - self.begin) / (self.until - self.begin), 0.0), 1.0)
        if self.shape == "geometric":
            return self.start * (self.final / self.start) ** share
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.final - self.start) * share
