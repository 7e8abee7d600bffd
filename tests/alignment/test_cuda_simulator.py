"""The CUDA backend in CUDA's simulator, against the reference.

What runs there instead of the hardware's exchange between lanes, its `fma` and its fast division are the forms `..._by_simulation`: these
tests prove all but those.
"""

import dataclasses
import importlib.util
import math
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from softscribe.alignment import (
    TWO_ONE_STEPS,
    BoundaryCell,
    BoundaryCells,
    Step,
    StepWeights,
    Subsequence,
    align,
    checks,
    costs,
    ctc,
    ctc_loss,
)
from softscribe.alignment.cuda import backend as cuda
from softscribe.alignment.problem import Problem
from softscribe.alignment.reference import reference_align, reference_soft_dtw

SIMULATION = Path(__file__).with_name("cuda_simulation.py")


def simulate(cases: list[dict]) -> list[tuple[Tensor, ...]]:
    pytest.importorskip("numba_cuda")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, str(SIMULATION)]
    finished = subprocess.run(command, input=pickle.dumps(cases), capture_output=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    return pickle.loads(finished.stdout)


def case_of(
    frames: int,
    targets: int,
    *weights: float,
    problem: Problem | None = None,
    gamma: float = 1.0,
    lowest: float = 0.0,
    highest: float = 1.0,
    counts: tuple[list[int], list[int]] | None = None,
    dtype: torch.dtype = torch.float32,
    warps: int = 8,
    gradient_wanted: bool = True,
    everything: bool = False,
) -> dict[str, Any]:
    """Random costs, with NaN in the padding. `warps` is the most per block: with few, a small case has many tiles and launches."""
    names = ("horizontal", "vertical", "diagonal")
    frame_counts, target_counts = counts or ([frames], [targets])
    cost = np.random.default_rng(frames * 1000 + targets).uniform(lowest, highest, (len(frame_counts), frames, targets))
    for item, (frame_count, target_count) in enumerate(zip(frame_counts, target_counts, strict=True)):
        cost[item, frame_count:] = np.nan
        cost[item, :, target_count:] = np.nan
    return {
        "cost": torch.from_numpy(cost).to(dtype),
        "frame_counts": torch.tensor(frame_counts, dtype=torch.int64),
        "target_counts": torch.tensor(target_counts, dtype=torch.int64),
        "problem": problem or Problem(gamma=gamma, weights=StepWeights(**dict(zip(names, weights or (1, 1, 1), strict=True)))),
        "warps": warps,
        "gradient_wanted": gradient_wanted,
        "everything": everything,
    }


def arguments_of(case: dict[str, Any]) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    problem = case["problem"]
    options = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    return (case["cost"].nan_to_num(), case["frame_counts"], case["target_counts"]), options


CASES = {
    "one cell": case_of(1, 1, 2, 3, 4),
    "one frame": case_of(1, 9, 1, 0.5, 2),
    "one target": case_of(9, 1, 0.5, 1, 2),
    "three tiles of one warp, 1-1-1": case_of(33, 65, 1, 1, 1, warps=1),
    "two warps, 1-1-2, small gamma": case_of(70, 40, 1, 1, 2, gamma=0.01, highest=10.0),
    "unequal counts, padding is NaN, .1-1-1": case_of(30, 35, 0.1, 1, 1, counts=([30, 7], [3, 35]), gamma=0.5),
    "0-1-1": case_of(20, 34, 0, 1, 1, gamma=0.1, warps=1),
    "large gamma": case_of(40, 8, 1, 1, 2, gamma=100.0, highest=7.0),
    "Z outside float64's range": case_of(60, 5, 1, 1, 1, gamma=0.01, highest=750.0),
    "no horizontal step, negative and zero costs": case_of(12, 37, math.inf, 1, 1, lowest=-1.0, warps=1),
    "no vertical step, negative costs": case_of(37, 12, 1, math.inf, 2, lowest=-5.0, highest=0.0, gamma=0.05),
    "no diagonal step, costs are zero": case_of(20, 9, 1, 1, math.inf, highest=0.0),
    "no path for the first item": case_of(12, 5, 1, math.inf, math.inf, counts=([12, 12], [5, 1])),
    "no gradient": case_of(9, 7, gradient_wanted=False),
    "float16": case_of(9, 7, dtype=torch.float16),
    "no item": case_of(9, 7, counts=([], [])),
}
VARIED = torch.from_numpy(np.random.default_rng(0).uniform(0.2, 3.0, (2, 11, 9)))
PROBLEMS = {
    "classical": Problem(weights=StepWeights(diagonal=2), gamma=0.3),
    "hard": Problem(operator="hard"),
    "sparse": Problem(operator="sparse", gamma=0.7),
    "smooth": Problem(operator="smooth", gamma=0.5),
    "2-1 steps and a blocked one": Problem(steps=(*TWO_ONE_STEPS, Step(0, 1), Step(1, 0, weight=math.inf)), gamma=0.5),
    "weights and costs per cell": Problem(
        steps=(
            Step(1, 0, weight=VARIED.where(VARIED < 2.5, math.inf)),
            Step(0, 1, cost=VARIED - 1),
            Step(1, 1, weight=torch.tensor(2.0), cost=0.5),
        )
    ),
    "subsequence": Problem(boundaries=Subsequence(frames="both", targets="start"), weights=StepWeights(horizontal=0.5)),
    "sparse subsequence": Problem(boundaries=Subsequence(frames="both", compensated=False), operator="sparse"),
    "cells to start and end at": Problem(
        boundaries=BoundaryCells(
            start=(BoundaryCell(0, 0, weight=1.0), BoundaryCell(1, 0, weight=0.5, cost=0.2), BoundaryCell(0, 1, weight=2.0)),
            end=(BoundaryCell(-1, -1, weight=0.0), BoundaryCell(-2, -1, weight=1.5, cost=-0.3)),
        )
    ),
    "no path for the first item": Problem(steps=(Step(0, 1), Step(1, 1))),
}
COMMON_CASES = {  # but for the fast kernels' losses and gradients of the classical problem in float32
    (name, dtype, everything): case_of(
        11, 9, problem=problem, counts=([11, 6], [5, 9]), lowest=-0.5, highest=2.0, dtype=dtype, everything=everything
    )
    for name, problem in PROBLEMS.items()
    for dtype in (torch.float32, torch.float64)
    for everything in (False, True)
}


def with_value(value: float) -> dict[str, Any]:
    case = case_of(3, 3)
    case["cost"][0, 1, 1] = value
    return case


def with_detour(gamma: float) -> dict[str, Any]:
    """Dear cells on the straight way, which is still the cheapest: kernels must not take the way round for want of bits."""
    case = case_of(3, 3, gamma=gamma)
    case["cost"][:] = 10_000
    case["cost"][0, :2, 1] = 15_000
    return case


BROKEN = [  # a cell that is NaN, and counts: what would be refused under `validate`, item by item
    ((0, 0), (5, 4)),
    ((2, 1), (5, 4)),
    ((4, 3), (5, 4)),
    (None, (0, 4)),
    (None, (5, 0)),
    (None, (-1, 4)),
    (None, (6, 4)),
    (None, (5, 5)),
    (None, (2**62, 2**62)),
]
BREAKABLE = {
    "fast": Problem(),
    "fast, a blocked step": Problem(weights=StepWeights(vertical=math.inf, diagonal=2)),
    "weights per cell": Problem(steps=(Step(1, 0, weight=torch.tensor([1.0, 2.0, 0.5, 1.0])), Step(0, 1), Step(1, 1))),
    **{name: PROBLEMS[name] for name in ("hard", "sparse", "smooth", "subsequence", "cells to start and end at")},
}


def broken_case(problem: Problem, *, everything: bool) -> dict[str, Any]:
    """All of `BROKEN`, and a last item that is right."""
    items = len(BROKEN) + 1
    case = case_of(5, 4, problem=problem, counts=([5] * items, [4] * items), everything=everything)
    for item, (cell, counts) in enumerate(BROKEN):
        case["frame_counts"][item], case["target_counts"][item] = counts
        if cell is not None:
            case["cost"][item, *cell] = math.nan
    return case


BROKEN_CASES = {("broken", name): broken_case(problem, everything="fast" not in name) for name, problem in BREAKABLE.items()}


LARGER_CASES = {  # several times 32 anti-diagonals, several warps, more cells than threads
    "70 x 40, long steps, unequal counts": case_of(
        70, 40, problem=Problem(steps=(Step(1, 1), Step(2, 1), Step(1, 2), Step(3, 3))), counts=([70, 45], [40, 37]), everything=True
    ),
    "40 x 70, subsequence, float64": case_of(
        40, 70, problem=Problem(boundaries=Subsequence(frames="both", targets="end")), dtype=torch.float64, everything=True
    ),
    "300 x 3, sparse": case_of(300, 3, problem=Problem(operator="sparse")),
    "3 x 100, no gradient": case_of(3, 100, problem=Problem(operator="hard"), gradient_wanted=False),
    "steps that never fit": case_of(5, 9, problem=Problem(steps=(Step(1, 0), Step(0, 1), Step(9, 1), Step(1, 5000)))),
}


def dead_end_case(problem: Problem, *cell: int) -> dict[str, Any]:
    case = case_of(6, 6, problem=problem)
    case["cost"][0, *cell] = math.nan
    return case


DEAD_ENDS = {  # NaN where paths get to, and from where none goes on
    "2-1 steps": dead_end_case(Problem(steps=TWO_ONE_STEPS), 5, 4),
    "behind the end": dead_end_case(Problem(boundaries=BoundaryCells(end=(BoundaryCell(-2, -1, weight=0),))), 5, 5),
}


class CtcItem(NamedTuple):
    """What CTC gets on a GPU, where nothing is looked at, and the loss that it shall find: by torch's own if None."""

    labels: tuple[int, int, int]
    frame_count: int = 6
    target_count: int = 3
    log_prob: float | None = None
    place: tuple[int, int] = (2, 2)
    loss: float | None = None


CTC_ITEMS = {
    "right": CtcItem((1, 2, 3)),
    "equal labels": CtcItem((2, 2, 1)),
    "fewer frames and labels": CtcItem((3, 3, 1), frame_count=5, target_count=2),
    "no label": CtcItem((1, 1, 1), target_count=0),
    "garbage in padding": CtcItem((1, 2, 99), target_count=2),
    "too few frames": CtcItem((1, 1, 1), frame_count=4, loss=math.inf),
    "a label that is the blank": CtcItem((1, 0, 3), loss=math.nan),
    "a label that is no class": CtcItem((1, 2, 4), loss=math.nan),
    "a negative label": CtcItem((-1, 2, 3), loss=math.nan),
    "no frame": CtcItem((1, 2, 3), frame_count=0, loss=math.nan),
    "too many frames": CtcItem((1, 2, 3), frame_count=7, loss=math.nan),
    "too many labels": CtcItem((1, 2, 3), target_count=4, loss=math.nan),
    "fewer than no labels": CtcItem((1, 2, 3), target_count=-1, loss=math.nan),
    "as many labels as there are numbers": CtcItem((1, 2, 3), target_count=2**63 - 1, loss=math.nan),
    "a log-probability that is NaN": CtcItem((1, 2, 3), log_prob=math.nan, loss=math.nan),
    "a log-probability that is NaN where no path goes on": CtcItem((1, 2, 3), log_prob=math.nan, place=(5, 1)),
    "a log-probability that is infinite": CtcItem((1, 2, 3), log_prob=-math.inf, loss=math.nan),
}


def ctc_arguments() -> tuple[Tensor, ...]:
    items = CTC_ITEMS.values()
    log_probs = torch.randn(len(items), 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(dim=2)
    for item, of_item in zip(log_probs, items, strict=True):
        if of_item.log_prob is not None:
            item[of_item.place] = of_item.log_prob
    columns = [torch.tensor(column) for column in zip(*(item[:3] for item in items), strict=True)]
    return log_probs, *columns


def ctc_case() -> dict[str, Any]:
    """The alignment that `ctc_loss` asks for on a GPU."""
    case = case_of(1, 1)

    def soft_dtw(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, *, validate: bool, **options: Any) -> Tensor:
        assert not validate
        case.update(cost=cost, frame_counts=frame_counts, target_counts=target_counts, problem=Problem(**options))
        return cost.sum(dim=(1, 2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctc, "_looked_at", lambda values, validate: False)
        patch.setattr(checks, "check_range", lambda *arguments: None)
        patch.setattr(costs, "check_labels", lambda *arguments: None)
        patch.setattr(ctc, "soft_dtw", soft_dtw)
        ctc_loss(*ctc_arguments())
    return case


EXTREMES = {value: with_value(value) for value in (-math.inf, -1e13, -1e9, 1e9, 1e13, math.inf)}
DETOURS = {gamma: with_detour(gamma) for gamma in (0.01, 1.0)}


@pytest.fixture(scope="module")
def results() -> dict[Any, tuple[Tensor, ...]]:
    """Of all cases but the slow one, from two processes, which take about the same time."""
    groups = (
        CASES | {"ctc": ctc_case()} | LARGER_CASES | DEAD_ENDS,
        COMMON_CASES | BROKEN_CASES | EXTREMES | {("detour", gamma): case for gamma, case in DETOURS.items()},
    )
    with ThreadPoolExecutor() as executor:
        found = list(executor.map(simulate, [list(group.values()) for group in groups]))
    return {name: result for group, of_group in zip(groups, found, strict=True) for name, result in zip(group, of_group, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_the_fast_kernels_agree_with_the_reference(name: str, results: dict[Any, tuple[Tensor, ...]]) -> None:
    case, (losses, gradient) = CASES[name], results[name]
    (cost, *counts), options = arguments_of(case)
    cost = cost.double().requires_grad_()
    expected = reference_soft_dtw(cost, *counts, **options)
    possible = torch.isfinite(expected)
    (expected_gradient,) = torch.autograd.grad(expected[possible].sum() + 0 * cost.sum(), cost)
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-6, atol=1e-6 * case["problem"].gamma)
    if case["gradient_wanted"]:
        torch.testing.assert_close(gradient.double(), expected_gradient, rtol=0, atol=1e-5)
    else:
        assert gradient.shape == (len(cost), 0, 0)


@pytest.mark.parametrize(("name", "dtype", "everything"), COMMON_CASES)
def test_the_common_kernels_agree_with_the_reference(
    name: str, dtype: torch.dtype, everything: bool, results: dict[Any, tuple[Tensor, ...]]
) -> None:
    case = COMMON_CASES[name, dtype, everything]
    losses, gradient, *statistics = results[name, dtype, everything]
    arguments, options = arguments_of(case)
    expected = reference_align(*arguments, **options)
    possible = torch.isfinite(expected.losses)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-6, "atol": 2e-6}

    def assert_close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours[possible].double(), theirs[possible].double(), equal_nan=True, **tolerance)

    assert losses.dtype == dtype
    assert_close(losses, expected.losses)
    assert_close(gradient, expected.gradient)
    assert losses[~possible].isinf().all()
    assert (gradient[~possible] == 0).all()
    if not everything:
        return
    expected_alignment, path_cost, entropy = statistics
    assert_close(expected_alignment, expected.expected_alignment)
    assert path_cost[~possible].isnan().all()
    assert entropy[~possible].isnan().all()
    if possible.all():  # the reference knows the other two for softmin without costs of steps only, the CPU's kernel for all problems
        on_cpu = align(*arguments, **options)
        assert_close(path_cost, on_cpu.expected_path_cost)
        assert_close(entropy, on_cpu.path_entropy)


@pytest.mark.parametrize("name", LARGER_CASES)
def test_larger_matrices_agree_with_the_reference(name: str, results: dict[Any, tuple[Tensor, ...]]) -> None:
    case, (losses, gradient, *statistics) = LARGER_CASES[name], results[name]
    arguments, options = arguments_of(case)
    expected = reference_align(*arguments, **options)
    torch.testing.assert_close(losses.double(), expected.losses.double(), rtol=1e-6, atol=0)
    if case["gradient_wanted"]:
        torch.testing.assert_close(gradient.double(), expected.gradient.double(), rtol=0, atol=1e-6)
    if statistics:
        torch.testing.assert_close(statistics[0].double(), expected.expected_alignment.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DEAD_ENDS)
def test_what_leads_nowhere_harms_nothing(name: str, results: dict[Any, tuple[Tensor, ...]]) -> None:
    losses, gradient = results[name]
    arguments, options = arguments_of(DEAD_ENDS[name])
    expected = reference_align(*arguments, **options)
    torch.testing.assert_close(losses.double(), expected.losses.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), expected.gradient.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BREAKABLE)
def test_what_is_not_validated_gives_nan_and_harms_no_other_item(name: str, results: dict[Any, tuple[Tensor, ...]]) -> None:
    losses, gradient, *statistics = results["broken", name]
    for values in (losses, *statistics[1:]):
        assert values[:-1].isnan().all()
    for item, (cell, _) in enumerate(BROKEN):
        assert cell is not None or (gradient[item] == 0).all()
    (cost, *_), options = arguments_of(BROKEN_CASES["broken", name])
    right = align(cost[-1:], **options)
    torch.testing.assert_close(losses[-1:], right.losses, rtol=0, atol=2e-6)
    torch.testing.assert_close(gradient[-1:], right.gradient, rtol=0, atol=2e-6)


@pytest.mark.parametrize("item", range(len(CTC_ITEMS)), ids=CTC_ITEMS)
def test_ctc_that_is_not_validated(item: int, results: dict[Any, tuple[Tensor, ...]]) -> None:
    log_probs, labels, *counts = (values[item : item + 1] for values in ctc_arguments())
    loss, gradient = (result[item] for result in results["ctc"])
    expected = CTC_ITEMS[list(CTC_ITEMS)[item]].loss
    if expected is None:
        torch_own = torch.nn.functional.ctc_loss(log_probs.nan_to_num().transpose(0, 1), labels.clamp(max=3), *counts, reduction="none")
        torch.testing.assert_close(loss, torch_own[0], rtol=1e-12, atol=0)
        assert gradient.isfinite().all()
    else:
        torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize("value", EXTREMES)
def test_what_the_numbers_cannot_hold_is_nan(value: float, results: dict[Any, tuple[Tensor, ...]]) -> None:
    loss = results[value][0].item()
    if abs(value) > 1e9:
        assert math.isnan(loss)
    else:
        assert loss == pytest.approx(reference_soft_dtw(EXTREMES[value]["cost"].double()).item(), rel=1e-6)


@pytest.mark.parametrize("gamma", DETOURS)
def test_dear_cells_are_not_blocked(gamma: float, results: dict[Any, tuple[Tensor, ...]]) -> None:
    losses, gradient = results["detour", gamma]
    cost = DETOURS[gamma]["cost"].double().requires_grad_()
    expected = reference_soft_dtw(cost, gamma=gamma)
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected.sum(), cost)[0], rtol=0, atol=1e-5)


@pytest.mark.soak
def test_exponents_go_beyond_int32() -> None:
    case = case_of(1600, 1, gamma=0.001, lowest=1000.0, highest=1000.0, gradient_wanted=False)  # 2^(-2.3e9) in the end
    ((losses, _),) = simulate([case])
    assert losses.item() == pytest.approx(1_600_000.0, rel=1e-7)


def test_nobody_without_a_gpu_loads_cuda() -> None:
    program = "import sys, softscribe.alignment; assert not [name for name in sys.modules if name.startswith(('numba.cuda', 'numba_cuda'))]"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_missing_packages_and_drivers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    cuda.cuda_launches.cache_clear()
    if not torch.cuda.is_available() and importlib.util.find_spec("numba_cuda"):
        with pytest.raises(ValueError, match=r"cost: on cuda:0, but Numba finds no CUDA driver .* Remedy: .* cuda12 or cuda13"):
            cuda.cuda_launches(device)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"cost: on cuda:0, and numba-cuda is not installed. Remedy: pip install 'softscribe\[cuda12\]'"):
        cuda.cuda_launches(device)
