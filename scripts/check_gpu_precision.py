"""Do costs stay exact under mixed precision on this machine's GPU? One of the checks of `check_gpu.py`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from check_gpu_correctness import ONE_ONE_TWO, Tally
from softscribe.alignment import (
    bce_cost,
    cosine_cost,
    hard_path,
    soft_dtw,
    soft_dtw_divergence,
    squared_error_cost,
    time_symmetric_soft_dtw,
)

LIMIT = 1e-4
"""Costs of some hundreds are rounded to float32 by up to 2e-5, and gradients follow; TF32 would be off by a hundred times that."""


@contextmanager
def _least_precision(device: str) -> Iterator[None]:
    """What mixed precision brings along: autocast, and products of float32 by TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device, torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_mixed_precision(device: str) -> Tally:
    """Compare costs, their gradients and the losses over them, in the least precision that torch may choose, with float64 on the CPU."""
    tally = Tally()
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(3, 200, 72, generator=generator) * 4, (torch.rand(3, 90, 72, generator=generator) < 0.1).float()
    counts = torch.tensor([200, 150, 91]), torch.tensor([90, 60, 90])
    functions: dict[str, Callable[..., Tensor]] = {
        **{cost.__name__: lambda x, y, *counts, cost=cost: cost(x, y) for cost in (bce_cost, squared_error_cost, cosine_cost)},
        "soft_dtw": lambda x, y, *counts: soft_dtw(bce_cost(x, y), *counts, weights=ONE_ONE_TWO),
        "time_symmetric_soft_dtw": lambda x, y, *counts: time_symmetric_soft_dtw(bce_cost(x, y), *counts, weights=ONE_ONE_TWO),
        "soft_dtw_divergence": lambda x, y, *counts: soft_dtw_divergence(x, y, *counts, validate=True),
    }
    for name, function in functions.items():
        results = []
        for where, dtype in ((device, torch.float32), ("cpu", torch.float64)):
            x = logits.to(where, dtype).requires_grad_()
            with _least_precision(device) if dtype == torch.float32 else nullcontext():
                result = function(x, targets.to(where, dtype), *(count.to(where) for count in counts))
                (gradient,) = torch.autograd.grad(result.sum(), x)
            results.append((result, gradient))
        for part, ours, truth in zip(("values", "gradient"), *results, strict=True):
            tally.compare_numbers(f"{name}, {part}", ours, truth, limit=LIMIT)
    path = hard_path(bce_cost(logits, targets).to(device), *(count.to(device) for count in counts))
    wanted = hard_path(bce_cost(logits, targets), *counts)
    tally.expect("hard_path: another path", all(torch.equal(one.cpu(), other) for one, other in zip(path, wanted, strict=True)))
    return tally
