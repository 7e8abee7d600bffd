"""What must not matter to a loss: how a cost lies in memory, torch's modes and settings, the processor."""

import contextlib
import os
import subprocess
import sys

import pytest
import torch

from softscribe.alignment import TWO_ONE_STEPS, SoftDTW, Step, align, costs, ctc_loss, soft_dtw
from softscribe.alignment.cpu import backend, compiling, strips

COST = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(0))
OPTIONS = [{}, {"operator": "sparse"}, {"steps": TWO_ONE_STEPS}, {"steps": (Step(1, 0, weight=torch.ones(7)), Step(1, 1))}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_another_default_device_changes_nothing(options):
    expected = soft_dtw(COST, **options), align(COST, **options)
    with torch.device("meta"):
        found = soft_dtw(COST, **options), align(COST, **options)
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(one, other) for one, other in zip(found[1], expected[1], strict=True))


def test_another_default_device_changes_no_ctc_loss():
    arguments = COST.log_softmax(2), torch.tensor([[1, 1], [2, 3]])
    with torch.device("meta"):
        found = ctc_loss(*arguments)
    assert torch.equal(found, ctc_loss(*arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_view_with_its_sign_turned_is_read_right(dtype):
    cost = COST.to(dtype)
    turned = torch._neg_view(-cost)
    assert turned.is_neg()
    assert torch.equal(soft_dtw(turned), soft_dtw(cost))
    assert torch.equal(align(turned).gradient, align(cost).gradient)


@pytest.mark.parametrize("function", [soft_dtw, SoftDTW()])
def test_without_grad_mode_no_gradient_is_computed(monkeypatch, function):
    wanted = []
    original = backend.losses_and_gradient

    def spy(*arguments, gradient_wanted):
        wanted.append(gradient_wanted)
        return original(*arguments, gradient_wanted=gradient_wanted)

    monkeypatch.setattr(backend, "losses_and_gradient", spy)
    leaf = COST.clone().requires_grad_()
    with torch.no_grad():
        without = function(leaf)
    with_gradient = function(leaf)
    assert wanted == [False, True]
    assert torch.equal(without, with_gradient.detach())


def test_two_uses_that_overlap_leave_the_precision_as_it_was():
    """As in two threads, the one that began first ends first: the other still has full precision, and then all is as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        settings = torch.backends.cuda.matmul
        high = settings.fp32_precision
        first, second = (costs._full_precision(torch.device("cpu")) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert settings.fp32_precision == "ieee" != high
        second.__exit__(None, None, None)
        assert settings.fp32_precision == high
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_processor_without_fused_multiply_add_is_known():
    command = [sys.executable, "-c", "from softscribe.alignment.cpu import strips; print(strips.is_exact())"]
    for generic, exact in (({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, "False"), ({}, "True")):
        found = subprocess.run(command, env=os.environ | generic, capture_output=True, text=True, check=True).stdout.strip()
        assert found == exact


def test_without_a_fused_multiply_add_the_common_kernel_computes(monkeypatch):
    monkeypatch.setattr(strips, "is_exact", lambda: False)
    monkeypatch.setattr(strips, "strip_soft_dtw", lambda *_: pytest.fail("the fast kernel was called"))
    assert torch.allclose(soft_dtw(COST), soft_dtw(COST.double()).float())


def test_kernels_of_any_types_are_compiled_under_the_lock(monkeypatch):
    """Also where types differ inside of a tuple alone, and where it is asked whether there is a path."""
    locked = []
    monkeypatch.setattr(compiling, "_compiled", set())
    monkeypatch.setattr(compiling, "_locked", lambda path: locked.append(path) or contextlib.nullcontext())
    for dtype in (torch.float32, torch.float64):
        soft_dtw(COST, steps=(Step(1, 0, weight=torch.ones(7, dtype=dtype)), Step(0, 1), Step(1, 1)))
    assert len(locked) == 2
    soft_dtw(COST, steps=TWO_ONE_STEPS)
    assert len(locked) == 3
