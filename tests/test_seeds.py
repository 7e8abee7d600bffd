"""Several seeds as one command: what was begun goes on, what is finished is kept, nothing is mixed with what is there."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from softscribe import training
from softscribe.cli import main, read_run, runs

Trained = list[tuple[int, int, bool]]
"""Seed, steps, and whether it went on, of each training."""


def finish(folder: Path, *, newer: str = "model/card.json") -> None:
    """Write what a finished run has, `newer` last."""
    for number, name in enumerate(("checkpoints/last.ckpt", "model/card.json")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
        os.utime(folder / name, (100 * (number + 1) + 1000 * (name == newer),) * 2)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    """Trainings that take no time; those of seed 2 are stopped by SIGTERM before their first checkpoint."""
    done: Trained = []

    def train(settings: Any, folder: Path, *, resume: bool = False) -> int:
        done.append((settings.seed, settings.trainer.steps, resume))
        if settings.seed == 2:
            return 143
        finish(folder)
        return 0

    monkeypatch.setattr(runs, "run_one", train)
    monkeypatch.setattr(training, "evaluate", lambda settings, folder: {"frame_f_measure": settings.seed / 10, "split": "test"})
    monkeypatch.setenv("SOFTSCRIBE_RUN_NAME", "mine")
    monkeypatch.chdir(tmp_path)
    return done


FOLDER = Path("runs/demo/mine")


def test_seeds_that_were_stopped_before_any_checkpoint_go_on(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=demo", "trainer.steps=50", "seeds=2,3"]) == 143
    assert f"To go on with all 2 seeds: softscribe train resume={FOLDER}" in capsys.readouterr().err
    assert main(["train", f"resume={FOLDER}"]) == 143
    assert trained == [(2, 50, False), (2, 50, False)]


def test_each_seed_goes_on_by_its_own_config(trained: Trained) -> None:
    assert main(["train", "experiment=demo", "trainer.steps=50", "seeds=0,1"]) == 0
    config = FOLDER / "seed-1" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 50", "steps: 80"))
    (FOLDER / "seed-1" / "model" / "card.json").unlink()
    assert main(["train", f"resume={FOLDER}"]) == 0
    assert trained == [(0, 50, False), (1, 50, False), (1, 80, True)], "the first was finished"
    assert json.loads((FOLDER / "seeds.json").read_text()) == {
        "seeds": [0, 1],
        "frame_f_measure": {"mean": 0.05, "deviation": pytest.approx(0.0707, abs=1e-4)},
    }


def test_a_run_with_a_checkpoint_after_its_model_is_not_finished(trained: Trained) -> None:
    assert main(["train", "experiment=demo", "seeds=0,1"]) == 0
    finish(FOLDER / "seed-0", newer="checkpoints/last.ckpt")
    assert main(["train", "resume=runs/demo"]) == 0, "a folder of runs means all seeds of its newest"
    assert [(seed, resumed) for seed, _, resumed in trained] == [(0, False), (1, False), (0, True)]


def test_a_summary_stays_until_there_is_a_new_one(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", "experiment=demo", "seeds=0,1"]) == 0
    before = (FOLDER / "seeds.json").read_bytes()

    def broken(settings: Any, folder: Path) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(training, "evaluate", broken)
    assert main(["train", f"resume={FOLDER}"]) == 1
    assert (FOLDER / "seeds.json").read_bytes() == before


@pytest.mark.parametrize("words", [[], ["seeds=0,1"]])
@pytest.mark.parametrize("there", ["checkpoints/last.ckpt", "seeds.json", "seed-7/checkpoints/last.ckpt"])
def test_what_is_there_is_not_mixed_with_anything_new(
    trained: Trained, there: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (FOLDER / there).parent.mkdir(parents=True)
    (FOLDER / there).write_text("{}")
    assert main(["train", "experiment=demo", *words]) == 1
    assert f"{FOLDER}: a run is there already. Remedy: resume={FOLDER}, or another name." in capsys.readouterr().err
    assert not trained
    assert [path for path in FOLDER.rglob("*") if path.is_file()] == [FOLDER / there]


@pytest.mark.parametrize("seeds", ["one", "", "0,0", "-1", "0,1.5", "1,,2", "9" * 5000])
def test_seeds_that_are_none_are_refused_before_anything_is_written(
    trained: Trained, seeds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "experiment=demo", f"seeds={seeds}"]) == 1
    assert "each once. Remedy" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_folder_of_one_seed_means_that_seed_alone(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", "experiment=demo", "seeds=0,1"]) == 0
    alone: list[tuple[Path, bool]] = []

    def note(settings: Any, folder: Path, *, resume: bool = False) -> int:
        assert settings == read_run(folder)
        alone.append((folder, resume))
        return 0

    monkeypatch.setattr("softscribe.cli.run_one", note)
    assert main(["train", f"resume={FOLDER / 'seed-1'}"]) == 0
    assert alone == [(FOLDER / "seed-1", True)]
