"""Soft-DTW against two published implementations, each with its own order of steps (mapped here by name)."""

import ddtw
import pysdtw
import pytest
import torch

from softscribe.alignment import StepWeights, soft_dtw

COST = 3 * torch.rand(4, 23, 11, generator=torch.Generator().manual_seed(0))
FRAME_COUNTS, TARGET_COUNTS = torch.tensor([23, 15, 7, 4]), torch.tensor([11, 11, 3, 9])


def losses_and_gradient(compute) -> tuple[torch.Tensor, torch.Tensor]:
    cost = COST.clone().requires_grad_()
    losses = compute(cost)
    losses.sum().backward()
    return losses.detach(), cost.grad


@pytest.mark.parametrize("backend", ["torch", pytest.param("cpu_numba", marks=pytest.mark.slow)])  # the second compiles for long
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
