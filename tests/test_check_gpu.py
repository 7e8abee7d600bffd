"""`scripts/check_gpu.py` as far as it goes without a GPU."""

import doctest
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_gpu.py"


@pytest.fixture(scope="module")
def check_gpu() -> Iterator[ModuleType]:
    specification = importlib.util.spec_from_file_location("check_gpu", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))  # the script extends it
        specification.loader.exec_module(module)
        yield module


@pytest.fixture
def correctness(check_gpu: ModuleType) -> ModuleType:
    return sys.modules["check_gpu_correctness"]


def report_of(check_gpu: ModuleType) -> dict:
    times = {"softscribe": 0.1, "ddtw cuda_cpp": 0.2, "scratch bytes per cell": "OutOfMemoryError: no"}
    return {"shapes": {name: dict(times) for name in check_gpu.GOAL_MILLISECONDS}, "training step": "ModuleNotFoundError: no safetensors"}


@pytest.mark.parametrize(("arguments", "status"), [([], 1), (["--help"], 0), (["--jason", "x"], 2)])
def test_without_a_gpu_it_says_so_in_one_sentence(arguments: list[str], status: int, tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert finished.returncode == status
    if status == 1:
        assert finished.stderr == "check_gpu: torch finds no GPU on this machine, so nothing was checked.\n"
    assert not any(tmp_path.iterdir())


def test_it_needs_neither_jaxtyping_nor_a_path_to_the_package(tmp_path: Path) -> None:
    program = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "jaxtyping":
            raise ModuleNotFoundError(name)
importlib.util.find_spec = lambda name, package=None: None if name == "jaxtyping" else find(name, package)
sys.meta_path.insert(0, Missing())
space = runpy.run_path(sys.argv[1])
print(space["soft_dtw"].__module__, sorted(space["CHECKS"])[0])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPT)], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert finished.stdout == "softscribe.alignment.soft_dtw CTC\n", finished.stderr


def test_every_goal_gets_a_verdict(check_gpu: ModuleType) -> None:
    verdicts = check_gpu.goals(report_of(check_gpu))
    assert verdicts["32x500x60 within 0.3 ms"] == "met"
    assert verdicts["32x500x60 in 16 bytes per cell"] == "not measured"
    assert verdicts["64x1024x1024 5.0 times as fast as ddtw"] == "missed"
    assert verdicts["loss at most 5% of a training step"] == "not measured"


def test_goals_of_a_check_in_which_everything_failed(check_gpu: ModuleType) -> None:
    failed = {"softscribe": "no", "ddtw cuda_cpp": "no", "scratch bytes per cell": "no"}
    report = {"training step": "no", "shapes": dict.fromkeys(check_gpu.GOAL_MILLISECONDS, failed)}
    assert set(check_gpu.goals(report).values()) == {"not measured"}


@pytest.fixture
def small(correctness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference can do in a moment, and a CPU does not refuse."""
    monkeypatch.setattr(correctness, "SHAPES", [(2, 1, 5), (2, 9, 7)])
    monkeypatch.setattr(correctness, "WEIGHTS", correctness.WEIGHTS[:4])
    for module in (correctness, sys.modules["check_gpu_streams"]):
        monkeypatch.setattr(module, "LARGE_SHAPE", (2, 60, 50))


def test_the_large_shape_has_many_tiles_and_phases(correctness: ModuleType) -> None:
    pytest.importorskip("numba_cuda")
    from softscribe.alignment.cuda.launches import plan_launches

    plan = plan_launches(*correctness.LARGE_SHAPE[1:])
    assert plan.tiles > 1
    assert plan.phases > 1


@pytest.mark.usefixtures("small")
def test_all_checks_pass_on_a_cpu(check_gpu: ModuleType) -> None:
    for name, check in check_gpu.CHECKS.items():
        found = check_gpu.examine(check, "cpu")
        assert found["verdict"] == "right", (name, found)
        assert found["cases"] > 0 or name == "waiting"


@pytest.mark.usefixtures("small")
def test_checks_see_what_is_wrong(check_gpu: ModuleType, correctness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def spoiled(function: Callable[..., Any]) -> Callable[..., Any]:
        """A bit more than right, and never twice the same."""

        def run(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            error = 1e-3 * (1 + next(calls) % 7)
            wrong = [part + error * (1 + part.abs()) for part in (result if isinstance(result, tuple) else (result,))]
            return type(result)(*wrong) if isinstance(result, tuple) else wrong[0]

        return run

    for module in (correctness, sys.modules["check_gpu_precision"], sys.modules["check_gpu_streams"]):
        for name in ("soft_dtw", "align", "ctc_loss", "multi_label_ctc_loss"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, spoiled(getattr(module, name)))
    for name, check in check_gpu.CHECKS.items():
        if name not in ("bad values", "waiting"):
            assert check_gpu.examine(check, "cpu")["verdict"] == "WRONG", name
    monkeypatch.setattr(correctness, "soft_dtw", lambda cost, *counts, **options: cost.sum((1, 2)))
    assert check_gpu.examine(correctness.check_bad_values, "cpu")["verdict"] == "WRONG"


@pytest.mark.parametrize(("fault", "status"), [("", None), ("an error of 1", "check_gpu: WRONG: CTC; the faults stand in ")])
def test_the_exit_status_tells_what_is_wrong_and_not_what_is_slow(
    fault: str, status: str | None, check_gpu: ModuleType, correctness: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("is_available", "get_device_name", "get_device_capability"):
        monkeypatch.setattr(torch.cuda, name, lambda: (9, 0))
    monkeypatch.setattr(check_gpu, "CHECKS", {"CTC": lambda device: correctness.Tally(cases=1, faults=[fault] if fault else [])})
    monkeypatch.setattr(check_gpu, "copy_bandwidth", lambda: 1e12)
    monkeypatch.setattr(
        check_gpu, "measure_shape", lambda *_: dict.fromkeys(("softscribe", "ddtw cuda_cpp", "scratch bytes per cell"), 1e9)
    )
    monkeypatch.setattr(check_gpu, "measure_training_step", lambda: {"share of the loss": 1.0})
    if status is None:
        check_gpu.main(["--json", str(tmp_path / "report.json")])
    else:
        with pytest.raises(SystemExit, match=status) as stop:
            check_gpu.main(["--json", str(tmp_path / "report.json")])
        assert isinstance(stop.value.code, str)  # which Python turns into 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["checks"]["CTC"]["faults"] == ([fault] if fault else [])
    assert "missed" in report["goals"].values()


def test_doctests(check_gpu: ModuleType, correctness: ModuleType) -> None:
    assert doctest.testmod(check_gpu).failed == 0
    assert doctest.testmod(correctness).failed == 0
