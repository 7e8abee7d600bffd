"""Autograd, types, threads, and what is refused."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from softscribe.alignment import EQUAL_WEIGHTS, SoftDTW, StepWeights, align, expected_alignment, soft_dtw
from softscribe.alignment.cpu import common_kernels


def random_cost(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_each_item_gets_its_own_share_of_the_gradient():
    cost = random_cost(3, 8, 5).requires_grad_()
    shares = torch.tensor([2.0, 0.0, -1.5])
    (soft_dtw(cost) * shares).sum().backward()
    torch.testing.assert_close(cost.grad, shares[:, None, None] * align(cost).gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_types(dtype, autocast):
    cost = random_cost(2, 20, 6).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses = soft_dtw(cost, gamma=0.1)
        losses.sum().backward()
    inside = torch.float64 if dtype == torch.float64 else torch.float32
    assert losses.dtype == inside
    assert cost.grad.dtype == dtype
    widened = cost.detach().to(inside).requires_grad_()
    alone = soft_dtw(widened, gamma=0.1)
    alone.sum().backward()
    assert torch.equal(losses, alone)
    assert torch.equal(cost.grad, widened.grad.to(dtype))


def test_layout_of_the_memory_does_not_matter():
    cost = random_cost(6, 5, 4).transpose(0, 2)
    assert torch.equal(soft_dtw(cost), soft_dtw(cost.contiguous()))
    every_other = random_cost(4, 20, 10)[:, ::2, ::2]
    assert torch.equal(soft_dtw(every_other), soft_dtw(every_other.contiguous()))


def test_the_cost_is_left_as_it_was():
    cost = random_cost(2, 6, 6)
    before = cost.clone()
    align(cost)
    assert torch.equal(cost, before)


def test_values_without_gradient():
    cost = random_cost(2, 6, 6).requires_grad_()
    with torch.no_grad():
        assert torch.equal(soft_dtw(cost), soft_dtw(cost).detach())
    assert not expected_alignment(cost).requires_grad
    assert not any(part.requires_grad for part in align(cost))


def test_backward_may_be_called_again():
    cost = random_cost(2, 6, 6).requires_grad_()
    loss = soft_dtw(cost).sum()
    loss.backward(retain_graph=True)
    once = cost.grad.clone()
    loss.backward()
    torch.testing.assert_close(cost.grad, 2 * once)


def test_a_second_derivative_is_refused():
    cost = random_cost(1, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad((soft_dtw(cost) ** 2).sum(), cost, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_an_empty_batch_has_no_losses():
    cost = torch.zeros(0, 4, 3, requires_grad=True)
    losses = soft_dtw(cost)
    losses.sum().backward()
    assert losses.shape == (0,)
    assert cost.grad.shape == (0, 4, 3)


def test_the_module_is_the_function():
    cost = random_cost(2, 7, 5)
    counts = torch.tensor([7, 3]), torch.tensor([2, 5])
    weights = StepWeights(horizontal=0.5, diagonal=2)
    module = SoftDTW(gamma=0.3, weights=weights)
    assert torch.equal(module(cost, *counts), soft_dtw(cost, *counts, gamma=0.3, weights=weights))
    assert "gamma=0.3" in repr(module)
    assert list(module.parameters()) == []


def test_training_on_the_loss_finds_the_path():
    truth = torch.repeat_interleave(torch.arange(4), 6)
    logits = torch.zeros(1, 24, 4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        soft_dtw(-logits.log_softmax(dim=2), gamma=0.5, weights=StepWeights(diagonal=2)).sum().backward()
        optimizer.step()
    found = logits.detach()[0].argmax(dim=1)
    assert (found.diff() >= 0).all()
    assert (found == truth).float().mean() > 0.7


def test_many_threads_at_once():
    costs = [random_cost(4, 40, 30, seed=seed) for seed in range(16)]
    alone = [soft_dtw(cost) for cost in costs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(soft_dtw, costs))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_numba_uses_no_more_threads_than_torch_and_gets_its_own_back():
    script = """
import numba, torch
from softscribe.alignment import soft_dtw
from softscribe.alignment.cpu import common_kernels
kernel, seen = common_kernels.align_batch, []
def spy(*arguments):
    seen.append(numba.get_num_threads())
    kernel(*arguments)
common_kernels.align_batch = spy
torch.set_num_threads(2)
soft_dtw(torch.zeros(3, 4, 4, dtype=torch.float64))
torch.set_num_threads(64)
soft_dtw(torch.zeros(3, 4, 4, dtype=torch.float64))
print(seen, numba.get_num_threads())
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_NUM_THREADS": "4"}
    )
    assert run.stdout.strip() == "[2, 4] 4"


def test_the_kernels_run_without_the_lock_of_python_and_are_kept_on_disk():
    soft_dtw(torch.zeros(1, 2, 2))
    kernel = common_kernels.align_batch
    assert kernel.targetoptions["nogil"]
    assert kernel.targetoptions["parallel"]
    assert list(Path(kernel.stats.cache_path).glob("common_kernels.align_batch-*.nbi"))


def test_the_package_is_usable_alone():
    script = (
        "import sys, softscribe.alignment, softscribe.alignment.reference;"
        "print(sorted(name for name in sys.modules if name.startswith('softscribe.') and not name.startswith('softscribe.alignment')))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


COST = torch.zeros(3, 5, 4)
NAN = COST.clone()
NAN[2, 4, 1] = math.nan
INFINITE = COST.clone()
INFINITE[1, 0, 3] = math.inf


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((torch.zeros(5, 4),), {}, r"cost: shape \(5, 4\).*Remedy: \(B, N, M\)"),
        ((torch.zeros(2, 0, 4),), {}, "at least one frame"),
        ((torch.zeros(2, 5, 4, dtype=torch.int64),), {}, "cost: torch.int64.*Remedy: cost.float"),
        ((torch.zeros(2, 5, 4, dtype=torch.complex64),), {}, "cost: torch.complex64"),
        ((torch.zeros(2, 5, 4, device="meta"),), {}, "cost: on meta.*Remedy: cost.cpu"),
        ((NAN,), {}, "cost: item 2 holds nan at frame 4, target 1.*Remedy"),
        ((INFINITE,), {}, "cost: item 1 holds inf at frame 0, target 3.*Remedy"),
        ((COST, torch.tensor([5, 5])), {}, r"frame_counts: shape \(2,\), but the cost has 3 items"),
        ((COST, torch.tensor([5, 6, 5])), {}, r"frame_counts: item 1 has 6, outside \[1, 5\]"),
        ((COST, torch.tensor([5, 5, 0])), {}, "frame_counts: item 2 has 0"),
        ((COST, None, torch.tensor([-1, 4, 4])), {}, r"target_counts: item 0 has -1, outside \[1, 4\]"),
        ((COST, torch.tensor([5.0, 5.0, 5.0])), {}, "frame_counts: torch.float32 does not count"),
        ((COST, None, torch.tensor([True, True, True])), {}, "target_counts: torch.bool does not count"),
        ((COST, torch.ones(3, dtype=torch.int64, device="meta")), {}, "frame_counts: on meta"),
        ((COST,), {"gamma": 0.0}, "gamma: 0.0.*Remedy"),
        ((COST,), {"gamma": -1.0}, "gamma: -1.0"),
        ((COST,), {"gamma": math.nan}, "gamma: nan"),
        ((COST,), {"gamma": math.inf}, "gamma: inf"),
        ((COST,), {"weights": StepWeights(horizontal=math.inf)}, "item 0, 5 frames by 4 targets, has no path.*Remedy"),
        ((COST, torch.tensor([4, 4, 3])), {"weights": StepWeights(vertical=math.inf)}, "item 2, 3 frames by 4 targets, has no path"),
    ],
)
@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("function", [soft_dtw, align])
def test_what_is_refused(function, arguments, options, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments, **options)


@pytest.mark.parametrize("weight", [-0.5, math.nan, -math.inf])
@pytest.mark.parametrize("step", ["horizontal", "vertical", "diagonal"])
def test_weights_that_are_refused(step, weight):
    with pytest.raises(ValueError, match=rf"{step}: the weight {weight}.*Remedy"):
        StepWeights(**{step: weight})


def test_weights_have_names_and_no_positions():
    with pytest.raises(TypeError):
        StepWeights(1, 1, 2)
    assert StepWeights() == EQUAL_WEIGHTS


def test_a_path_of_one_cell_needs_no_step():
    closed = StepWeights(horizontal=math.inf, vertical=math.inf, diagonal=math.inf)
    assert align(torch.full((1, 1, 1), 3.0), weights=closed).losses.item() == 3.0
