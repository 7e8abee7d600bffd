"""Cost matrices: what it costs to put a frame and a target together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def bce_cost(logits: Float[Tensor, "B N K"], targets: Shaped[Tensor, "B M K"]) -> Float[Tensor, "B N M"]:
    """Return the binary cross-entropy between every frame's logits and every target, SUMMED over the K outputs.

        C[b, n, m] = sum over k of softplus(x[b, n, k]) - x[b, n, k] y[b, m, k]

    That is one sum of softplus and one batched matrix product: no tensor of shape (B, N, M, K) is ever made, nor does a sigmoid
    saturate. The gradient is another product, G = dL/dC at hand: dL/dx = sigmoid(x) (G 1) - G y.

    Both are computed in float32, in float64 if the logits are float64, whatever autocast and the settings for TF32 and reduced
    precision say; the gradient comes back in the type of the logits.

    Args:
        logits: outputs of a network before the sigmoid, of any floating type.
        targets: 0 or 1, or anything in between (soft targets), of any type. The range is checked on a CPU only, since looking at values
            makes a GPU wait.

    Returns:
        The cost, in nats, >= 0 up to rounding: (B, N, M).

    Raises:
        ValueError: shapes or devices do not fit, logits are not floating point, or targets lie outside [0, 1].

    >>> bce_cost(torch.tensor([[[0.0, 0.0], [-2.0, 2.0]]]), torch.tensor([[[0, 1]]]))
    tensor([[[1.3863],
             [0.2539]]])
    """
    _check(logits, targets)
    return _BceCost.apply(logits, targets)


class _BceCost(torch.autograd.Function):
    """Both ways in full precision; only what came in is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        with _full_precision(logits.device):
            x, y = _widened(logits, targets)
            softplus = -torch.nn.functional.logsigmoid(-x)
            return torch.baddbmm(softplus.sum(dim=2, keepdim=True), x, y.mT, alpha=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, targets = ctx.saved_tensors
        (gradient,) = gradients
        logits_gradient = targets_gradient = None
        with _full_precision(logits.device):
            x, y = _widened(logits, targets)
            if ctx.needs_input_grad[0]:
                logits_gradient = torch.baddbmm(gradient.sum(dim=2, keepdim=True) * x.sigmoid(), gradient, y, beta=1, alpha=-1).to(
                    logits.dtype
                )
            if ctx.needs_input_grad[1]:
                targets_gradient = -torch.bmm(gradient.mT, x).to(targets.dtype)
        return logits_gradient, targets_gradient


def _widened(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), targets.to(dtype)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 products away, and put the settings back as they were."""
    mkldnn: Any = torch.backends.mkldnn  # its attributes are not typed
    backends = (torch.backends.cuda.matmul, mkldnn.matmul)
    precisions = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision


def _check(logits: Tensor, targets: Tensor) -> None:
    if logits.ndim != 3 or targets.ndim != 3 or (logits.shape[0], logits.shape[2]) != (targets.shape[0], targets.shape[2]):
        raise ValueError(
            f"logits, targets: shapes {tuple(logits.shape)} and {tuple(targets.shape)} do not fit. Remedy: (B, N, K) and (B, M, K)."
        )
    if not logits.is_floating_point():
        raise ValueError(f"logits: {logits.dtype} is not a floating type. Remedy: pass what the network returns before the sigmoid.")
    if logits.device != targets.device:
        raise ValueError(f"targets: on {targets.device}, but the logits on {logits.device}. Remedy: move both to one device.")
    if targets.is_complex():
        raise ValueError(f"targets: {targets.dtype} has no order. Remedy: real values in [0, 1].")
    if targets.device.type == "cpu":
        inside = ((targets >= 0) & (targets <= 1)).all(dim=2).all(dim=1)
        if not inside.all():
            item = int(inside.int().argmin())
            raise ValueError(f"targets: item {item} has values outside [0, 1]. Remedy: 0 for off, 1 for on, or a probability.")
