"""Promises of a training run: the same seed gives the same bits, and neither kill -9 nor a signal changes what comes out."""

import errno
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.summary.writer.record_writer import RecordWriter

from softscribe.corpora import FeatureStore
from softscribe.errors import InputError
from softscribe.report import read_curves
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, evaluate, train
from softscribe.training.checkpoints import LAST, read_checkpoint
from softscribe.training.module import OptimizerSettings, TranscriptionModule
from softscribe.training.settings import HealthSettings


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "weights.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def uninterrupted(settings: TrainSettings, tmp_path: Path) -> Path:
    folder = tmp_path / "uninterrupted"
    train(settings, folder)
    return folder


def test_the_same_seed_gives_the_same_bits(settings: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    train(settings, tmp_path / "again")
    assert same(weights(uninterrupted), weights(tmp_path / "again"))
    assert (uninterrupted / "metrics.csv").read_bytes() == (tmp_path / "again" / "metrics.csv").read_bytes()
    assert (uninterrupted / "plots" / "curves.png").read_bytes()[1:4] == b"PNG"
    train(replace(settings, seed=1), tmp_path / "other")
    assert not same(weights(uninterrupted), weights(tmp_path / "other"))


def command_line(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "softscribe.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def wait_for_a_step(path: Path, process: subprocess.Popen) -> None:
    """Wait until a checkpoint stands behind the one from before the first step."""

    def steps() -> int:
        return read_checkpoint(path)["global_step"] if path.exists() else 0

    deadline = time.monotonic() + 300
    while not steps() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert steps(), process.communicate()


def start_elsewhere(run_folder: Path) -> subprocess.Popen:
    """Train in a process of its own, and return it once a step is saved."""
    script = (
        "import sys; from pathlib import Path; from softscribe.cli import read_run, run_one; folder = Path(sys.argv[1]);"
        "sys.exit(run_one(read_run(folder), folder))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(run_folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_a_step(run_folder / "checkpoints" / LAST, process)
    return process


def test_a_disk_that_fills_up_under_tensorboard_is_told_once(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread dies of the full disk, which pytest takes for an error unless somebody else has seen to it."""
    written: list[int] = []

    def fill_up(writer: RecordWriter, data: bytes) -> None:
        written.append(len(data))
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", fill_up)
    with pytest.raises(InputError, match=f"^{tmp_path}: No space left on device, while training. Remedy: free disk space"):
        train(replace(settings, logger={"tensorboard": True}), tmp_path)
    assert len(written) > 1


@pytest.mark.slow
def test_a_signal_saves_and_says_how_to_go_on(uninterrupted: Path, run_folder: Path) -> None:
    """As a user does it, with a network that ships; other signals and kills are tried on a tiny one."""
    process = start_elsewhere(run_folder)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert f"softscribe train resume={run_folder}" in errors
    assert read_checkpoint(run_folder / "checkpoints" / LAST)["global_step"] < 8
    resumed = command_line("train", f"resume={run_folder}")
    output = resumed.communicate()
    assert resumed.returncode == 0, output
    assert same(weights(uninterrupted), weights(run_folder))
    assert read_curves(uninterrupted / "metrics.csv")[-1] == read_curves(run_folder / "metrics.csv")[-1]


def test_a_run_is_evaluated_on_pieces_it_never_saw(settings: TrainSettings, uninterrupted: Path) -> None:
    assert "metrics.json: missing" in (uninterrupted / "report.html").read_text()
    result = evaluate(settings, uninterrupted)
    assert 0 <= result["frame_f_measure"] <= 1
    report = (uninterrupted / "report.html").read_text()
    assert f"{result['frame_f_measure']:.3f}" in report, "the report is rewritten with what was measured"
    assert "metrics.json: missing" not in report
    assert [row["file"] for row in result["files"]] == ["melody4"]
    with pytest.raises(InputError, match="split"):
        evaluate(settings, uninterrupted, split="nowhere")


def test_weak_training_learns_the_melodies(settings: TrainSettings, tmp_path: Path) -> None:
    """On its training pieces a short run beats the untrained network by far: the gradient points the right way."""
    settings = replace(settings, trainer=replace(settings.trainer, steps=60, validation_interval_steps=30))
    train(settings, tmp_path / "run")
    assert evaluate(settings, tmp_path / "run", split="train")["frame_average_precision"] > 0.6


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    settings: TrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Infinite features at every step: the run stops after the stated number of steps and names the files."""
    from softscribe.training import segments

    original = segments.compress
    settings = replace(settings, trainer=replace(settings.trainer, validation_interval_steps=100))
    segments.compress = lambda magnitudes: original(magnitudes) + np.float32("inf")
    try:
        with pytest.raises(InputError, match=r"in a row.*learning rate"):
            train(settings, tmp_path / "run")
    finally:
        segments.compress = original
    assert "melody" in capsys.readouterr().out
    assert "not finished" in (tmp_path / "run" / "report.html").read_text(), "a run that broke down has a report, too"
    for tensor in read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["state_dict"].values():
        assert torch.isfinite(tensor).all()


def test_start_weights_come_from_another_model(settings: TrainSettings, uninterrupted: Path, tmp_path: Path) -> None:
    from softscribe.training.run import build_model

    model = build_model(settings.model | {"init": str(uninterrupted / "model")}, HcqtSettings.from_dict(settings.features), 12)
    assert same(dict(model.state_dict()), weights(uninterrupted))
    with pytest.raises(InputError, match=r"model\.init"):
        build_model(settings.model | {"init": str(uninterrupted / "model")}, HcqtSettings.from_dict(settings.features), 72)


def test_resuming_nothing_is_an_error_that_names_the_checkpoint(settings: TrainSettings, run_folder: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt"):
        train(settings, run_folder, resume=True)


def test_a_broken_checkpoint_is_named(settings: TrainSettings, uninterrupted: Path) -> None:
    path = uninterrupted / "checkpoints" / LAST
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"last\.ckpt"):
        train(settings, uninterrupted, resume=True)


def test_the_best_checkpoint_is_chosen_only_after_the_schedules_have_settled(settings: TrainSettings, tmp_path: Path) -> None:
    """Schedules settle at 70 % of 10 steps; whatever the costs before, the best checkpoint stems from step 8 or 10."""
    settings = replace(settings, trainer=replace(settings.trainer, steps=10, validation_interval_steps=2))
    train(settings, tmp_path / "run")
    rows = {int(row["step"]) + 1: row for row in read_curves(tmp_path / "run" / "metrics.csv") if row["validation/cost"]}
    assert [float(rows[step]["validation/monitored_cost"]) > 1000 for step in (2, 4, 6, 8, 10)] == [True, True, True, False, False]
    best = min((8, 10), key=lambda step: float(rows[step]["validation/cost"]))
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["global_step"] == best


@pytest.mark.parametrize("place", ["validating", "validated", "at the end"])
def test_what_a_validation_decided_survives_a_crash_around_it(settings: TrainSettings, tmp_path: Path, place: str) -> None:
    """Crashes in the middle of a validation, just after one, and in the last one; the learning rate depends on validations, too."""
    settings = replace(
        settings,
        optimizer=OptimizerSettings(learning_rate={"start": 1.0}, plateau_patience=1),  # so high that the cost rises
        loss=settings.loss | {"gamma": {"start": 1.0}, "diagonal_prior": {"start": 0.0}},
        trainer=replace(settings.trainer, steps=8, validation_interval_steps=2, checkpoint_interval_steps=1),
    )
    train(settings, tmp_path / "whole")
    hook = "training_step" if place == "validated" else "validation_step"
    crash_step = {"validating": 4, "validated": 4, "at the end": 8}[place]
    original = getattr(TranscriptionModule, hook)

    def crashing(module: TranscriptionModule, *arguments: object) -> object:
        if module.global_step == crash_step:
            raise ZeroDivisionError
        return original(module, *arguments)

    setattr(TranscriptionModule, hook, crashing)
    try:
        with pytest.raises(ZeroDivisionError):
            train(settings, tmp_path / "crashed")
    finally:
        setattr(TranscriptionModule, hook, original)
    train(settings, tmp_path / "crashed", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "crashed"))
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (tmp_path / "crashed" / "metrics.csv").read_bytes()
    last = [read_checkpoint(tmp_path / name / "checkpoints" / LAST) for name in ("whole", "crashed")]
    assert last[0]["global_step"] == last[1]["global_step"] == 8
    rates = [checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] for checkpoint in last]
    assert rates[0] == rates[1] < 1.0


@pytest.mark.parametrize(("split", "number"), [("validation", 3), ("test", 4)])
def test_features_that_are_not_finite_are_named_wherever_they_are_read(
    settings: TrainSettings, features: HcqtSettings, tmp_path: Path, split: str, number: int
) -> None:
    """Those of validation by the health check, which comes first, and by what sets the threshold; those of the test by the evaluation."""
    shutil.copytree(settings.store, tmp_path / "store")
    settings = replace(settings, store=str(tmp_path / "store"), trainer=replace(settings.trainer, steps=2, validation_interval_steps=100))
    (bad,) = [
        each.features_path for each in FeatureStore(tmp_path / "store", features).recordings() if each.recording.name == f"melody{number}"
    ]
    magnitudes = np.load(bad)
    magnitudes[5] = np.nan
    np.save(bad, magnitudes)
    for interval in (1, 100):
        run = tmp_path / f"run-{interval}"
        watched = replace(settings, health=HealthSettings(interval_steps=interval))
        if split == "validation":
            with pytest.raises(InputError, match=rf"^{bad}: .*Remedy"):
                train(watched, run)
        else:
            train(watched, run)
            with pytest.raises(InputError, match=rf"^{bad}: .*Remedy"):
                evaluate(watched, run)


def test_a_corpus_that_changed_since_is_noticed(settings: TrainSettings, uninterrupted: Path, features: HcqtSettings) -> None:
    """Without one of its melodies the corpus is another one: neither resuming nor evaluating on it would mean what it says."""
    store = FeatureStore(Path(settings.store), features)
    names = [prepared.recording.name for prepared in store.recordings()]
    try:
        store.set_corpus(names[1:])
        with pytest.raises(InputError, match="prepared anew"):
            train(settings, uninterrupted, resume=True)
        with pytest.raises(InputError, match="prepared anew"):
            evaluate(settings, uninterrupted)
    finally:
        store.set_corpus(names)
