"""`scripts/check_gpu.py` as far as it goes without a GPU."""

import doctest
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_gpu.py"


@pytest.fixture(scope="module")
def check_gpu() -> ModuleType:
    specification = importlib.util.spec_from_file_location("check_gpu", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def report_of(check_gpu: ModuleType) -> dict:
    times = {"softscribe": 0.1, "ddtw cuda_cpp": 0.2, "scratch bytes per cell": "OutOfMemoryError: no"}
    return {
        "correctness": {"cases": 1, "gradient_error": 2e-6, "infinities_differ": []},
        "deterministic": {"same stream": True, "another stream": False},
        "shapes": {name: dict(times) for name in check_gpu.GOAL_MILLISECONDS},
        "training step": "ModuleNotFoundError: no safetensors",
    }


@pytest.mark.parametrize(("arguments", "status"), [([], 1), (["--help"], 0), (["--jason", "x"], 2)])
def test_without_a_gpu_it_says_so_in_one_sentence(arguments: list[str], status: int, tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert finished.returncode == status
    if status == 1:
        assert finished.stderr == "check_gpu: torch finds no GPU on this machine, so nothing was checked.\n"
    assert not any(tmp_path.iterdir())


def test_every_goal_gets_a_verdict(check_gpu: ModuleType) -> None:
    verdicts = check_gpu.goals(report_of(check_gpu))
    assert verdicts["gradient within 1e-05 of float64"] == "met"
    assert verdicts["runs give the same bits"] == "missed"
    assert verdicts["32x500x60 within 0.3 ms"] == "met"
    assert verdicts["32x500x60 in 16 bytes per cell"] == "not measured"
    assert verdicts["64x1024x1024 5.0 times as fast as ddtw"] == "missed"
    assert verdicts["loss at most 5% of a training step"] == "not measured"


def test_goals_of_a_check_in_which_everything_failed(check_gpu: ModuleType) -> None:
    failed = {"softscribe": "no", "ddtw cuda_cpp": "no", "scratch bytes per cell": "no"}
    report = {"correctness": "no", "deterministic": "no", "training step": "no"}
    report["shapes"] = dict.fromkeys(check_gpu.GOAL_MILLISECONDS, failed)
    assert set(check_gpu.goals(report).values()) == {"not measured"}


def test_the_report_is_written_as_json(check_gpu: ModuleType, tmp_path: Path) -> None:
    report = report_of(check_gpu)
    check_gpu.write(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_the_check_of_correctness_passes_on_the_cpu(check_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(check_gpu, "CHECKED_SHAPES", [(2, 1, 5), (2, 9, 7)])
    monkeypatch.setattr(check_gpu, "WEIGHTS", check_gpu.WEIGHTS[:4])  # a CPU refuses items without a path
    result = check_gpu.check_correctness()
    assert result["cases"] == 2 * len(check_gpu.GAMMAS) * 4
    assert result["gradient_error"] <= check_gpu.GOAL_GRADIENT_ERROR
    assert result["infinities_differ"] == []
    assert max(check_gpu.check_common_kernels().values()) < 1e-12


def test_doctests(check_gpu: ModuleType) -> None:
    assert doctest.testmod(check_gpu).failed == 0
