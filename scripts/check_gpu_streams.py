"""Does soft-DTW keep to its stream on this machine's GPU, without waiting, and always with the same bits? Checks of `check_gpu.py`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from check_gpu_correctness import COMMON_OPTIONS, COMMON_SHAPE, LARGE_SHAPE, ONE_ONE_TWO, Tally, loss_and_gradient, random_batch
from softscribe.alignment import Step, align, ctc_loss, multi_label_ctc_loss, soft_dtw


def _bits(device: str) -> Iterator[tuple[str, Tensor]]:
    """Everything of all kernels."""
    cost, *counts = random_batch(COMMON_SHAPE)
    large = random_batch(LARGE_SHAPE)
    yield from zip(("losses", "gradient"), loss_and_gradient(*(part.to(device) for part in large), weights=ONE_ONE_TWO), strict=True)
    for name, options in COMMON_OPTIONS.items():
        result = align(*(part.to(device) for part in (cost, *counts)), **options)
        yield from ((f"{name}, {quantity}", part) for quantity, part in zip(result._fields, result, strict=True))


def check_determinism(device: str) -> Tally:
    """Look whether a second run gives the same bits: on the same stream, on another one, and on every other GPU."""
    tally = Tally()
    first = {name: part.cpu() for name, part in _bits(device)}

    def compare(where: str, device: str) -> None:
        for name, part in _bits(device):
            same = torch.equal(part.cpu().nan_to_num(-1.0), first[name].nan_to_num(-1.0))
            tally.expect(f"{name} has other bits on {where}", same)

    compare("a second run", device)
    if device != "cpu":
        with torch.cuda.stream(torch.cuda.Stream()):
            compare("another stream", device)
        _compare_order(tally, device)
        for other in range(1, torch.cuda.device_count()):
            compare(f"GPU {other}", f"cuda:{other}")
    return tally


def _compare_order(tally: Tally, device: str) -> None:
    """On a stream that is busy, costs are written last of all: what does not keep to the stream, reads zeros."""
    cost = random_batch((2, 300, 200))[0].nan_to_num().to(device)
    for name, options in {"fast": {}, "hard": {"operator": "hard"}}.items():
        truth = soft_dtw(cost, **options)
        late = torch.zeros_like(cost)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(500_000_000)
            late.copy_(cost)
            losses = soft_dtw(late, **options)
            torch.cuda.current_stream().synchronize()
        tally.expect(f"{name}: runs before what comes before it on its stream", torch.equal(losses, truth))


@contextmanager
def _busy_gpu() -> Iterator[torch.cuda.Event]:
    """Give the GPU work for about a second, and an event that comes after it."""
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)
    event = torch.cuda.Event()
    event.record()
    yield event
    torch.cuda.synchronize()


def check_waiting(device: str) -> Tally:
    """Look whether Python goes on while the GPU is still busy with something else."""
    tally = Tally()
    if device == "cpu":
        return tally
    cost, *counts = (part.to(device) for part in random_batch(COMMON_SHAPE))
    runs: dict[str, Callable[[], Any]] = {
        "float64": lambda: loss_and_gradient(cost.double(), *counts),
        "tensors by cell, on the GPU": lambda: loss_and_gradient(cost, *counts, steps=on_gpu),
        "CTC": lambda: torch.autograd.grad(ctc_loss(log_probs, labels).sum(), log_probs),
        "multi-label CTC": lambda: torch.autograd.grad(multi_label_ctc_loss(log_probs, log_probs[:, :, 0], multi_hot).sum(), log_probs),
    }
    per_cell = torch.rand(COMMON_SHAPE, device=device)
    on_gpu = (Step(1, 0, weight=per_cell), Step(0, 1), Step(1, 1, cost=per_cell))
    log_probs = torch.randn(3, 60, 9, device=device, requires_grad=True).log_softmax(2)
    labels = torch.randint(1, 9, (3, 20), device=device)
    multi_hot = torch.nn.functional.one_hot(labels, 9).float()
    for name, options in {"fast": {}, **COMMON_OPTIONS}.items():
        runs[name] = partial(loss_and_gradient, cost, *counts, **options)
    for name, run in runs.items():
        run()  # compiles
        with _busy_gpu() as event:
            run()
            tally.expect(f"{name}: waits for the GPU", not event.query())
    return tally
