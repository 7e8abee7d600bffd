"""The check that a user runs on their own machine: it passes where bits agree, and fails where something random has a state."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from softscribe.cli import main
from softscribe.errors import InputError
from softscribe.training import RunInterruptedError, TrainSettings, check_determinism, deterministic_check
from softscribe.training.losses import LOSSES, SdtwLoss
from softscribe.training.segments import Batch


class RandomLoss(SdtwLoss):
    """Scales the loss by numbers that no seed decides."""

    def __call__(self, logits: Tensor, batch: Batch, progress: float) -> Tensor:
        return super().__call__(logits, batch, progress) * float(np.random.default_rng().uniform(0.5, 1.5))


class CountingLoss(SdtwLoss):
    """Scales the loss by how often it was called: repeatable, but lost when a run is resumed."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.calls = 0

    def __call__(self, logits: Tensor, batch: Batch, progress: float) -> Tensor:
        self.calls += 1
        return super().__call__(logits, batch, progress) / self.calls


@pytest.mark.parametrize(
    ("loss", "words"),
    [(SdtwLoss, "the same bits"), (RandomLoss, "not repeatable"), (CountingLoss, "repeatable, but not resumable")],
)
def test_the_verdict(
    demanding: TrainSettings, loss: type[SdtwLoss], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(LOSSES, "sdtw", loss)
    assert check_determinism(replace(demanding, trainer=replace(demanding.trainer, accumulated_batches=1))) == (loss is SdtwLoss)
    assert words in capsys.readouterr().out


def test_several_processes_are_refused(demanding: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demanding.trainer, "devices", 2)
    with pytest.raises(InputError, match=r"trainer\.devices=1"):
        check_determinism(demanding)


@pytest.mark.parametrize("run", [1, 3])
def test_a_signal_of_the_users_ends_the_check(demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    """In the third run, too, which the check itself stops by a signal."""
    runs = 0

    def interrupted(*arguments: object, **options: object) -> None:
        nonlocal runs
        runs += 1
        if runs == run:
            raise RunInterruptedError(signal.SIGINT)

    monkeypatch.setattr(deterministic_check, "train", interrupted)
    with pytest.raises(RunInterruptedError):
        check_determinism(demanding)
    runs = 0
    monkeypatch.chdir(tmp_path)
    assert main(["train", "deterministic_check=true"]) == 130


@pytest.mark.parametrize("agrees", [True, False])
def test_the_exit_status_of_the_command(agrees: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softscribe.training.check_determinism", lambda settings: agrees)
    assert main(["train", "deterministic_check=true"]) == (0 if agrees else 1)
    assert not list(tmp_path.iterdir()), "a check leaves no run behind"


@pytest.mark.parametrize(
    "words", [["deterministic_check=maybe"], ["deterministic_check=true", "seeds=0,1"], ["deterministic_check=true", "resume=x"]]
)
def test_what_does_not_go_with_it(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *words]) == 1
    assert words[0].split("=")[0] in capsys.readouterr().err
