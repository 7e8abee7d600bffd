"""No broken and no lost checkpoint: whatever happens while one is written, the one before it still loads; one sentence says so."""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from interrupted_runs import differences, start
from softscribe.errors import InputError
from softscribe.training import TrainSettings, train
from softscribe.training.checkpoints import BEST, LAST, AtomicCheckpointIO, read_checkpoint
from softscribe.training.module import TranscriptionModule

DISTURBED_WRITE = 3
"""Of last.ckpt that is the one after step 3's validation, of best.ckpt the one of step 9. Steps 0, 2, 3, 4, 6, 8 and 9 write the former."""


def kill(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lose_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("checkpoints-before"))
    path.parent.write_text("where a folder is wanted")


def disturb(stem: str, place: str, happen: Callable[[Path], None]) -> None:
    """Called in the run's process: let `happen` at a place of the `DISTURBED_WRITE`-th writing of a checkpoint."""
    write, move = Path.write_bytes, Path.replace
    count = 0

    def disturbed_write(path: Path, data: memoryview) -> int:
        nonlocal count
        count += stem in path.name
        if stem in path.name and count == DISTURBED_WRITE and place in ("before the temporary file", "half-way"):
            if place == "half-way":
                write(path, data[: len(data) // 2])
            happen(path)
        return write(path, data)

    def disturbed_move(path: Path, target: Path) -> Path:
        disturbed = stem in path.name and count == DISTURBED_WRITE
        if disturbed and place == "before the rename":
            happen(path)
        moved = move(path, target)
        if disturbed and place == "after the rename":
            happen(path)
        return moved

    Path.write_bytes, Path.replace = disturbed_write, disturbed_move  # type: ignore[method-assign, assignment]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "place", "last_good_step"),
    [
        ("last", "before the temporary file", 2),
        ("last", "half-way", 2),
        ("last", "before the rename", 2),
        ("last", "after the rename", 3),
        ("best", "half-way", 8),
    ],
)
def test_killed_while_saving(
    demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, stem: str, place: str, last_good_step: int
) -> None:
    run = start(demanding, tmp_path / "run", patches=partial(disturb, stem, place, kill))
    assert run.status() == -signal.SIGKILL, run.output
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == last_good_step
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / BEST)["global_step"] == (6 if stem == "best" else 3)
    assert list((tmp_path / "run").rglob(".*.partial*")) or place.endswith("the rename") or place.startswith("before"), "it left a half"
    (tmp_path / "run" / ".metrics.99999999.partial.csv").write_text("step,tra")
    assert start(None, tmp_path / "run").status() == 0
    assert not differences(uninterrupted, tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*.partial*")), "what a kill leaves half-written is cleared away"


@pytest.mark.slow
@pytest.mark.parametrize(("place", "happen"), [("half-way", refuse), ("before the temporary file", lose_the_folder)])
def test_writing_fails(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, place: str, happen: Callable[[Path], None]) -> None:
    """With TensorBoard, which writes in a thread of its own."""
    settings = replace(demanding, logger={"tensorboard": True})
    run = start(settings, tmp_path / "run", patches=partial(disturb, "last", place, happen))
    assert run.status() == 1, run.output
    assert "Traceback" not in run.output
    (complaint,) = [line for line in run.output.splitlines() if line.startswith("softscribe train:")]
    assert f"{LAST}: cannot be written" in complaint
    assert "Remedy" in complaint
    if happen is lose_the_folder:
        (tmp_path / "run" / "checkpoints").unlink()
        (tmp_path / "run" / "checkpoints-before").rename(tmp_path / "run" / "checkpoints")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [BEST, LAST], "no half is left behind"
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 2
    train(settings, tmp_path / "run", resume=True)
    assert not differences(uninterrupted, tmp_path / "run")


def limit_files_after_a_checkpoint() -> None:
    """Called in the run's process: once last.ckpt is written for the `DISTURBED_WRITE`-th time no file may grow beyond 16 kB."""
    move = Path.replace
    count = 0

    def moving(path: Path, target: Path) -> Path:
        nonlocal count
        moved = move(path, target)
        count += target.name == LAST
        if count == DISTURBED_WRITE:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
        return moved

    Path.replace = moving  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("logger", [{}, {"tensorboard": True}], ids=["metrics.csv", "TensorBoard"])
def test_the_disk_is_full(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path, logger: dict[str, bool]) -> None:
    settings = replace(demanding, logger=logger)
    run = start(settings, tmp_path / "run", patches=limit_files_after_a_checkpoint)
    assert run.status() == 1, run.output
    assert "Traceback" not in run.output
    (complaint,) = [line for line in run.output.splitlines() if line.startswith("softscribe train:")]
    assert "free disk space" in complaint
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [BEST, LAST], "no half is left behind"
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / BEST)["global_step"] == 3
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 3
    train(settings, tmp_path / "run", resume=True)
    assert not differences(uninterrupted, tmp_path / "run")


def test_curves_that_are_none_are_named(demanding: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=rf"^{tmp_path / 'run' / 'metrics.csv'}: .*Remedy"):
        train(demanding, tmp_path / "run", resume=True)


def test_a_folder_that_cannot_be_written_shows_before_the_first_step(
    demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(TranscriptionModule, "on_train_batch_start", lambda module, batch, number: steps.append(number))
    (tmp_path / "checkpoints").write_text("where a folder is wanted")
    with pytest.raises(InputError, match=r"cannot be written.*Remedy"):
        train(demanding, tmp_path)
    assert not steps


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure cannot be had in a test; the order of the calls that guard against it can."""
    flush, move = os.fsync, Path.replace
    order: list[str] = []

    def noted_flush(descriptor: int) -> None:
        order.append(f"flushed {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        flush(descriptor)

    def noted_move(path: Path, target: Path) -> Path:
        order.append(f"renamed {path.name}")
        return move(path, target)

    monkeypatch.setattr(os, "fsync", noted_flush)
    monkeypatch.setattr(Path, "replace", noted_move)
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "global_step": 0}, tmp_path / LAST)
    half = f".last.{os.getpid()}.partial.ckpt"
    assert order == [f"flushed {half}", f"renamed {half}", f"flushed {tmp_path.name}"]


def test_a_disk_that_is_full_when_a_signal_comes_is_told(demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the signal alone, a cluster would take it for a run to start again, for ever."""
    write = AtomicCheckpointIO.save_checkpoint

    def full(saving: AtomicCheckpointIO, checkpoint: dict, path: Path, storage_options: object = None) -> None:
        if checkpoint["global_step"] == 3:
            raise InputError(f"{path}: cannot be written (No space left on device). Remedy: free disk space or choose another folder.")
        if checkpoint["global_step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        write(saving, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    with pytest.raises(InputError, match="No space left"):
        train(demanding, tmp_path)
