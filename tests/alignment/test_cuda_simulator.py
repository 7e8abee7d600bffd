"""The CUDA kernels in CUDA's simulator, against the reference. What runs there instead of the hardware's exchange between lanes is the form
`..._by_simulation`: these tests prove all but that exchange."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from softscribe.alignment import StepWeights
from softscribe.alignment.reference import reference_soft_dtw

pytest.importorskip("numba_cuda")

INFINITE = math.inf
SIMULATION = Path(__file__).with_name("cuda_simulation.py")


def simulate(cases: list[dict]) -> list[dict]:
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    finished = subprocess.run(
        [sys.executable, str(SIMULATION)], input=pickle.dumps(cases), capture_output=True, env=environment, check=False
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return pickle.loads(finished.stdout)


def case_of(
    frames: int,
    targets: int,
    *,
    gamma: float = 1.0,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    lowest: float = 0.0,
    highest: float = 1.0,
    counts: tuple[list[int], list[int]] | None = None,
    warps: int = 8,
    gradient_wanted: bool = True,
) -> dict:
    """Random costs, with NaN in the padding. `warps` is the most per block: with few, a small case has many tiles and launches."""
    frame_counts, target_counts = counts or ([frames], [targets])
    cost = np.random.default_rng(frames * 1000 + targets).uniform(lowest, highest, (len(frame_counts), frames, targets)).astype(np.float32)
    for item, (frame_count, target_count) in enumerate(zip(frame_counts, target_counts, strict=True)):
        cost[item, frame_count:] = np.nan
        cost[item, :, target_count:] = np.nan
    return {
        "cost": cost,
        "frame_counts": np.array(frame_counts),
        "target_counts": np.array(target_counts),
        "gamma": gamma,
        "weights": weights,
        "warps": warps,
        "gradient_wanted": gradient_wanted,
    }


CASES = {
    "one cell": case_of(1, 1, weights=(2.0, 3.0, 4.0)),
    "one frame": case_of(1, 9, weights=(1.0, 0.5, 2.0)),
    "one target": case_of(9, 1, weights=(0.5, 1.0, 2.0)),
    "three tiles of one warp, 1-1-1": case_of(33, 65, warps=1),
    "two warps, 1-1-2, small gamma": case_of(70, 40, weights=(1.0, 1.0, 2.0), gamma=0.01, highest=10.0),
    "unequal counts, padding is NaN, .1-1-1": case_of(40, 35, weights=(0.1, 1.0, 1.0), counts=([40, 7], [3, 35]), gamma=0.5),
    "0-1-1": case_of(20, 34, weights=(0.0, 1.0, 1.0), gamma=0.1, warps=1),
    "large gamma": case_of(40, 8, weights=(1.0, 1.0, 2.0), gamma=100.0, highest=7.0),
    "costs that leave float64's range": case_of(60, 5, gamma=0.01, highest=750.0),
    "no horizontal step, negative and zero costs": case_of(12, 37, weights=(INFINITE, 1.0, 1.0), lowest=-1.0, warps=1),
    "no vertical step, negative costs": case_of(37, 12, weights=(1.0, INFINITE, 2.0), lowest=-5.0, highest=0.0, gamma=0.05),
    "no diagonal step, costs are zero": case_of(20, 9, weights=(1.0, 1.0, INFINITE), highest=0.0),
    "no path for the first item": case_of(12, 5, weights=(1.0, INFINITE, INFINITE), counts=([12, 12], [5, 1])),
    "no gradient": case_of(9, 7, gradient_wanted=False),
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    return dict(zip(CASES, simulate(list(CASES.values())), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_the_references(name: str, results: dict[str, dict]) -> None:
    case, result = CASES[name], results[name]
    counts = [torch.from_numpy(case[counts]) for counts in ("frame_counts", "target_counts")]
    horizontal, vertical, diagonal = case["weights"]
    cost = torch.from_numpy(case["cost"]).nan_to_num().double().requires_grad_()
    weights = StepWeights(horizontal=horizontal, vertical=vertical, diagonal=diagonal)
    losses = reference_soft_dtw(cost, *counts, gamma=case["gamma"], weights=weights)
    possible = torch.isfinite(losses)
    (gradient,) = torch.autograd.grad(losses[possible].sum(), cost)
    np.testing.assert_allclose(result["losses"], losses.detach().numpy(), rtol=1e-6, atol=1e-6 * case["gamma"])
    expected_gradient = gradient.numpy() if case["gradient_wanted"] else 0.0
    np.testing.assert_allclose(result["gradient"], expected_gradient, rtol=0, atol=1e-5)


def test_what_the_numbers_cannot_hold_is_nan_or_blocked_and_never_a_wrong_number() -> None:
    cases = [case_of(3, 3) for _ in range(4)]
    for case, value in zip(cases, (math.nan, -math.inf, -1e9, 1e9), strict=True):
        case["cost"][0, 1, 1] = value
    nan, minus_infinity, too_low, forbidden = (result["losses"][0] for result in simulate(cases))
    assert math.isnan(nan)
    assert math.isnan(minus_infinity)
    assert math.isnan(too_low)
    expected = reference_soft_dtw(torch.from_numpy(cases[3]["cost"])).item()
    assert forbidden == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_exponents_go_beyond_int32() -> None:
    case = case_of(1600, 1, gamma=0.001, lowest=1000.0, highest=1000.0, gradient_wanted=False)  # 2^(-2.3e9) in the end
    (result,) = simulate([case])
    assert result["losses"][0] == pytest.approx(1_600_000.0, rel=1e-7)
