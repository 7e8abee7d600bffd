"""Alignment against two published implementations, each with its own order of steps (mapped here by name).

pysdtw knows the classical case alone, ddtw other steps, boundaries and operators, too.
"""

import ddtw
import pysdtw
import pytest
import torch
from torch import Tensor

from drawn_problems import random_costs
from softscribe.alignment import TWO_ONE_STEPS, BoundaryCell, BoundaryCells, Step, StepWeights, Subsequence, align, soft_dtw

COST = 3 * torch.rand(4, 23, 11, generator=torch.Generator().manual_seed(0))
FRAME_COUNTS, TARGET_COUNTS = torch.tensor([23, 15, 7, 4]), torch.tensor([11, 11, 3, 9])


def losses_and_gradient(compute) -> tuple[Tensor, Tensor]:
    cost = COST.clone().requires_grad_()
    losses = compute(cost)
    losses.sum().backward()
    return losses.detach(), cost.grad


@pytest.mark.parametrize("backend", ["torch", pytest.param("cpu_numba", marks=pytest.mark.soak)])  # the second compiles for long
@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(
    "weights",
    [StepWeights(), StepWeights(diagonal=2), StepWeights(horizontal=0.1), StepWeights(horizontal=0.3, vertical=1.7, diagonal=0.9)],
    ids=str,
)
def test_ddtw(weights, gamma, backend):
    peer = ddtw.SDTW(
        gamma=gamma,
        step_sizes=[[1, 0], [0, 1], [1, 1]],  # [frames, targets]
        global_step_weights=[weights.horizontal, weights.vertical, weights.diagonal],
        normalization="none",
        backend=backend,
        dtype_float=torch.float32,
    )
    theirs, their_gradient = losses_and_gradient(
        lambda cost: len(cost) * peer(C=cost, list_N=FRAME_COUNTS, list_M=TARGET_COUNTS).reshape(1)
    )
    ours, our_gradient = losses_and_gradient(lambda cost: soft_dtw(cost, FRAME_COUNTS, TARGET_COUNTS, gamma=gamma, weights=weights))
    torch.testing.assert_close(theirs, ours.sum(dim=0, keepdim=True), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(their_gradient, our_gradient, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_pysdtw(gamma):
    lengths = torch.stack([FRAME_COUNTS, TARGET_COUNTS], dim=1)
    inside = torch.zeros_like(COST)
    for item, (frames, targets) in enumerate(lengths):
        inside[item, :frames, :targets] = 1

    def peer(cost):  # its gradient depends on the costs in the padding, unless they are 0, and has a stray 1 there
        return pysdtw.sdtw_cpu.SoftDTWcpu.apply(inside * cost, lengths, gamma, 0.0)

    theirs, their_gradient = losses_and_gradient(peer)
    ours, our_gradient = losses_and_gradient(lambda cost: soft_dtw(cost, FRAME_COUNTS, TARGET_COUNTS, gamma=gamma))
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(their_gradient, our_gradient, atol=2e-4, rtol=1e-3)


FEW_FRAMES, FEW_TARGETS = torch.tensor([9, 6]), torch.tensor([7, 6])


def with_peer(cost: Tensor, peer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    cost = cost.clone().requires_grad_()
    loss = len(cost) * peer(C=cost, list_N=FEW_FRAMES, list_M=FEW_TARGETS)
    loss.sum().backward()
    return loss.detach(), cost.grad


def peer_options(steps: tuple[Step, ...], gamma: float = 0.7) -> dict:
    return {
        "gamma": gamma,
        "step_sizes": [[step.frames, step.targets] for step in steps],
        "global_step_weights": [step.weight for step in steps],
        "normalization": "none",
        "backend": "torch",
        "dtype_float": torch.float64,
    }


@pytest.mark.parametrize("kind", ["sparseDTW", "smoothDTW", "DTW", "SDTW"])
@pytest.mark.parametrize("steps", [StepWeights(horizontal=0.5, diagonal=2).steps(), TWO_ONE_STEPS], ids=["classical", "2-1"])
def test_operators_and_2_1_steps_of_ddtw(kind, steps):
    options = peer_options(steps)
    if kind == "DTW":
        del options["gamma"]
    operator = {"sparseDTW": "sparse", "smoothDTW": "smooth", "DTW": "hard", "SDTW": "soft"}[kind]
    cost = random_costs(2, 9, 7, seed=3)
    loss, gradient = with_peer(cost, getattr(ddtw, kind)(**options))
    ours = align(cost, FEW_FRAMES, FEW_TARGETS, gamma=0.7, steps=steps, operator=operator)
    torch.testing.assert_close(ours.losses.sum().reshape(loss.shape), loss, atol=1e-6, rtol=1e-7)  # it keeps gamma in single precision
    torch.testing.assert_close(ours.gradient, gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("frames", "targets"), [("both", None), (None, "both"), ("both", "both")])
@pytest.mark.parametrize("compensated", [True, False])
@pytest.mark.parametrize("corner", [0.0, 1e3])
def test_subsequences_of_ddtw(frames, targets, compensated, corner):
    """ddtw leaves out the start (N - 1, 0) and the end (0, M - 1), or (0, M - 1) and (N - 1, 0): no matter if these cells are dear."""
    steps = StepWeights(horizontal=0.5, vertical=0.8, diagonal=1.2).steps()
    cost = random_costs(2, 9, 7, seed=4).abs()
    for item, (n, m) in enumerate(zip(FEW_FRAMES.tolist(), FEW_TARGETS.tolist(), strict=True)):
        cost[item, n - 1, 0] += corner
        cost[item, 0, m - 1] += corner
    kind = {"sub_X": frames is not None, "sub_Y": targets is not None, "compensate_subseq": compensated}
    peer = ddtw.subSDTW(**peer_options(steps, gamma=0.5), **kind)
    loss, gradient = with_peer(cost, peer)
    boundaries = Subsequence(frames=frames, targets=targets, compensated=compensated)
    ours = align(cost, FEW_FRAMES, FEW_TARGETS, gamma=0.5, steps=steps, boundaries=boundaries)
    if corner == 0:
        assert ours.losses.sum() < loss  # more paths
        return
    torch.testing.assert_close(ours.losses.sum().reshape(loss.shape), loss, atol=1e-6, rtol=1e-7)
    difference = (ours.gradient - gradient).abs()
    if not compensated:
        assert difference.max() < 1e-6
        return
    assert difference.max() > 0.05  # its gradient lacks the weights of starts and ends: its own losses contradict it
    nudge = torch.zeros_like(cost)
    nudge.view(-1)[difference.argmax()] = 1e-4
    slope = (with_peer(cost + nudge, peer)[0] - with_peer(cost - nudge, peer)[0]).item() / 2e-4
    assert slope == pytest.approx(ours.gradient.view(-1)[difference.argmax()].item(), abs=1e-4)


def test_boundary_sets_of_ddtw():
    steps = StepWeights(horizontal=0.5, vertical=0.8, diagonal=1.2).steps()
    starts, ends = [[0, 0], [2, 1], [0, 3]], [[8, 6], [5, 6], [8, 4]]
    cost = random_costs(1, 9, 7, seed=8)
    peer = ddtw.dDTW(min_function="softmin", **peer_options(steps, gamma=0.5))
    theirs = peer(C=cost, B_start=[starts], B_end=[ends], start_penalty=[[1.0, 2.0, 0.3]], end_penalty=[[0.0, 0.4, 1.5]])
    boundaries = BoundaryCells(
        start=tuple(BoundaryCell(*cell, weight=weight) for cell, weight in zip(starts, [1, 2, 0.3], strict=True)),
        end=tuple(BoundaryCell(*cell, weight=weight) for cell, weight in zip(ends, [0, 0.4, 1.5], strict=True)),
    )
    assert soft_dtw(cost, gamma=0.5, steps=steps, boundaries=boundaries).item() == pytest.approx(theirs.item(), abs=1e-9)
