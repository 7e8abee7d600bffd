"""Autograd, types, threads, and what is refused."""

import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from softscribe.alignment import EQUAL_WEIGHTS, SoftDTW, StepWeights, align, bce_cost, expected_alignment, soft_dtw
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
    """The first time gives its memory away, and may be changed by whoever has it; the second time is as good."""
    cost, shares = random_cost(2, 9, 5).requires_grad_(), torch.tensor([1.0, -3.0])
    losses = soft_dtw(cost)
    (first,) = torch.autograd.grad((losses * shares).sum(), cost, retain_graph=True)
    expected = first.clone()
    first.zero_()
    for _ in range(2):
        (again,) = torch.autograd.grad((losses * shares).sum(), cost, retain_graph=True)
        torch.testing.assert_close(again, expected, rtol=0, atol=0)
    (losses * shares).sum().backward(retain_graph=True)
    (losses * shares).sum().backward()
    torch.testing.assert_close(cost.grad, 2 * expected)


TOTALS = {"sum": lambda losses: losses.sum(), "squares": lambda losses: (losses**2).sum()}


def of_logits(logits: torch.Tensor) -> torch.Tensor:
    return soft_dtw(bce_cost(logits, random_cost(2, 5, 4, seed=1)))


@pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS)
@pytest.mark.parametrize("losses_of", [soft_dtw, of_logits])
def test_a_second_derivative_is_refused_and_not_silently_wrong(losses_of, total):
    given = random_cost(2, 6, 4).requires_grad_()
    (alone,) = torch.autograd.grad(total(losses_of(given)), given)
    (gradient,) = torch.autograd.grad(total(losses_of(given)), given, create_graph=True)
    assert torch.equal(gradient, alone)
    for differentiate in (lambda loss: torch.autograd.grad(loss, given, retain_graph=True), lambda loss: loss.backward(retain_graph=True)):
        for loss in (gradient.sum(), (gradient**2).sum() + given.sum()):
            with pytest.raises(ValueError, match=r"second derivatives.*Remedy"):
                differentiate(loss)
    assert given.grad is None


def test_so_it_is_in_what_the_losses_are_multiplied_by():
    cost, factor = random_cost(2, 6, 4).requires_grad_(), torch.tensor(2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(factor * soft_dtw(cost).sum(), cost, create_graph=True)
    with pytest.raises(ValueError, match=r"second derivatives.*Remedy"):
        torch.autograd.grad(gradient.sum() + factor**2, factor)


def test_backward_may_make_a_graph_that_nobody_differentiates():
    cost = random_cost(2, 6, 4).requires_grad_()
    loss = soft_dtw(cost).sum()
    (gradient,) = torch.autograd.grad(loss, cost, create_graph=True)
    (again,) = torch.autograd.grad(loss, cost)
    assert gradient.requires_grad
    torch.testing.assert_close(gradient.detach(), align(cost).gradient)
    torch.testing.assert_close(again, align(cost).gradient)


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


@pytest.mark.usefixtures("without_shape_types")
def test_the_gamma_of_the_module_may_be_set_anew():
    cost, weights = random_cost(2, 7, 5), StepWeights(horizontal=0.5, diagonal=2)
    module = SoftDTW(gamma=10, weights=weights)
    for gamma in (3.0, 1, 0.1):
        module.gamma = gamma
        assert module.gamma == gamma
        assert f"gamma={gamma}" in repr(module)
        assert torch.equal(module(cost), soft_dtw(cost, gamma=gamma, weights=weights))
    for bad in (0, -1.0, math.nan, math.inf, True, "1", None, torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"gamma: .*Remedy"):
            module.gamma = bad
    assert module.gamma == 0.1
    assert torch.equal(module(cost), soft_dtw(cost, gamma=0.1, weights=weights))


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


def test_torch_keeps_its_threads():
    """Else a network would compute with more threads, and in other bits, from the first alignment of a process on."""
    script = "import torch; from softscribe.alignment import soft_dtw; soft_dtw(torch.zeros(1, 40, 30)); print(torch.get_num_threads())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4"}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env=environment, check=True)
    assert run.stdout.strip() == "1"


FORKS = """
import os, signal, sys
import numba, torch
from softscribe.alignment import soft_dtw
from softscribe.alignment.cpu import backend

cost = torch.tensor([[[frame * target % 7.0 for target in range(30)] for frame in range(40)]] * 2)
if "torch first" in sys.argv:
    torch.ones(1000, 1000).cos()

def in_a_child():
    backend._kernel_lock.acquire()  # as another thread of the parent does while it aligns
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            print(soft_dtw(cost).tolist(), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    backend._kernel_lock.release()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

in_a_child()
print(soft_dtw(cost).tolist(), flush=True)
in_a_child()
print(soft_dtw(cost).tolist())
print(numba.threading_layer())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.parametrize(("layer", "arguments"), [("default", []), ("default", ["torch first"]), ("workqueue", ["torch first"])])
def test_forked_processes_align_or_say_why_they_cannot(layer, arguments):
    """GNU OpenMP ends a process without a word, or lets it wait forever, that was forked from one with threads of it."""
    soft_dtw(torch.zeros(1, 40, 30))  # children are given the time to load kernels, not to compile them
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    run = subprocess.run([sys.executable, "-c", FORKS, *arguments], capture_output=True, text=True, timeout=200, env=environment)
    assert run.returncode == 0, run.stderr
    *before, alone, after, code, again, layer_found = run.stdout.splitlines()
    assert before == [alone, "0"]
    assert again == alone
    assert code == "0"
    if layer_found == "omp":
        assert re.search("forked.*Remedy", after)
    else:
        assert after == alone


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
        ((torch.zeros(2, 0, 4),), {}, r"cost: shape \(2, 0, 4\).*only B may be 0"),
        ((torch.zeros(2, 5, 4, dtype=torch.int64),), {}, r"cost: torch.int64.*Remedy: cost.to\(torch.float32\)"),
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
