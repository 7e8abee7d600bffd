"""`scripts/soak.py`: what it calls a leak."""

import doctest
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripts import soak

from softscribe.training import TrainSettings


def test_the_example_of_what_grew() -> None:
    assert doctest.testmod(soak) == (0, 2)


def test_what_stays_open_after_each_training_is_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[Any] = []
    seconds = count()
    monkeypatch.setattr(soak, "train", lambda *arguments, **options: forgotten.append((tmp_path / "forgotten").open("w")))
    monkeypatch.setattr(soak, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    try:
        measurements = soak.many_short(TrainSettings(), tmp_path, minutes=0.2)
    finally:
        for file in forgotten:
            file.close()
    assert len(forgotten) == 2 * len(measurements) == 22
    assert soak.grown(measurements)[1] == ["open files"]
