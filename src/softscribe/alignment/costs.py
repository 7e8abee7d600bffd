"""Cost matrices: what it costs to put a frame and a target together.

| cost | frames | targets | range | gradient in |
|---|---|---|---|---|
| `bce_cost` | logits (B, N, K) | on or off (B, M, K) | >= 0 | both |
| `squared_error_cost` | vectors (B, N, K) | vectors (B, M, K) | >= 0 | both |
| `cosine_cost` | vectors (B, N, K) | vectors (B, M, K) | [0, 2] | both |
| `negative_log_probability_cost` | log-probabilities (B, N, K) | classes (B, M) | >= 0 | the frames |

Any other tensor (B, N, M) will do as well. Each cost is a SUM over the K outputs, or one angle: what a gamma means depends on it.

An alignment never reads what a cost holds in padding, but costs compute it, and NaN there comes back through 0 x NaN: their arguments have
to be finite in padding, too.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softscribe.alignment.arguments import FLOATING, INTEGER, REAL, check_tensors


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
        ValueError: an argument is no tensor of its type, shapes or devices do not fit, or targets lie outside [0, 1].

    Source: the usual binary cross-entropy with logits, as `torch.nn.functional.binary_cross_entropy_with_logits` has it; written as a
    product here.

    >>> bce_cost(torch.tensor([[[0.0, 0.0], [-2.0, 2.0]]]), torch.tensor([[[0, 1]]]))
    tensor([[[1.3863],
             [0.2539]]])
    """
    check_tensors(logits=(logits, "B N K", FLOATING), targets=(targets, "B M? K", REAL))
    if targets.device.type == "cpu":
        inside = ((targets >= 0) & (targets <= 1)).all(dim=2).all(dim=1)
        if not inside.all():
            item = int(inside.int().argmin())
            raise ValueError(f"targets: item {item} has values outside [0, 1]. Remedy: 0 for off, 1 for on, or a probability.")
    return _BceCost.apply(logits, targets)


def squared_error_cost(frames: Float[Tensor, "B N K"], targets: Float[Tensor, "B M K"]) -> Float[Tensor, "B N M"]:
    """Return the squared Euclidean distance between every frame and every target: a SUM over the K outputs.

        C[b, n, m] = |x|^2 + |y|^2 - 2 <x, y>, with x = frames[b, n] and y = targets[b, m]

    So nothing of shape (B, N, M, K) is made. But where x and y are close, large numbers cancel: in float32 nothing would be left of a
    distance below a thousandth of |x|. Hence the sum is taken in float64, which neither autocast nor TF32 touches, and then rounded:
    that is twice the work of float32, and loses only distances below 1e-8 |x|.

    Returns:
        The cost, >= 0 up to rounding: (B, N, M), float64 if an argument is, else float32. Gradients come back in each argument's type.

    Raises:
        ValueError: an argument is no tensor of floating type, or shapes or devices do not fit.

    Source: the usual cost of soft-DTW, M. Cuturi, M. Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML 2017.

    >>> squared_error_cost(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]), torch.tensor([[[0.0, -1.0]]]))
    tensor([[[4.],
             [5.]]])
    """
    check_tensors(frames=(frames, "B N K", FLOATING), targets=(targets, "B M K", FLOATING))
    x, y = frames.double(), targets.double()
    squares = x.square().sum(dim=2, keepdim=True) + y.square().sum(dim=2, keepdim=True).mT
    return torch.baddbmm(squares, x, y.mT, alpha=-2).to(_common_type(frames, targets))


def cosine_cost(frames: Float[Tensor, "B N K"], targets: Float[Tensor, "B M K"]) -> Float[Tensor, "B N M"]:
    """Return 1 - the cosine of the angle between every frame and every target: 0 in the same direction, 2 in the opposite.

    A vector of zeros has no direction. Its cosine with any vector, another of zeros included, counts as 0: such cells cost 1, and no
    gradient reaches the vector. Where silence is to match silence, append a constant output to both sides. Computed in float64, as
    `squared_error_cost` is.

    Returns:
        The cost, in [0, 2] up to rounding: (B, N, M), float64 if an argument is, else float32. Gradients come back in each argument's type.

    Raises:
        ValueError: an argument is no tensor of floating type, or shapes or devices do not fit.

    Source: the usual definition, as `scipy.spatial.distance.cosine` has it, which leaves vectors of zeros undefined.

    >>> cosine_cost(torch.tensor([[[3.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[5.0, 0.0], [0.0, 1.0]]]))
    tensor([[[0., 1.],
             [1., 1.]]])
    """
    check_tensors(frames=(frames, "B N K", FLOATING), targets=(targets, "B M K", FLOATING))
    x, y = _directions(frames), _directions(targets)
    return (1 - torch.bmm(x, y.mT)).to(_common_type(frames, targets))


def negative_log_probability_cost(log_probs: Float[Tensor, "B N K"], labels: Int[Tensor, "B M"]) -> Float[Tensor, "B N M"]:
    """Return minus the log-probability of every target's class in every frame: C[b, n, m] = -log_probs[b, n, labels[b, m]].

    Args:
        log_probs: of K classes, such as `logits.log_softmax(dim=2)`; any scores will do.
        labels: the targets' classes, in [0, K); padding too needs some class. Values are checked on a CPU only.

    Returns:
        The cost, in nats: (B, N, M), float64 for float64 log-probabilities, else float32; the gradient comes back in their type.

    Raises:
        ValueError: an argument is no tensor of its type, shapes or devices do not fit, or a label is no class.

    Source: J. Zeitler, M. Mueller, "A unified perspective on CTC and SDTW using differentiable DTW", 2025 (the local cost of CTC).

    >>> negative_log_probability_cost(torch.tensor([[[-0.1, -2.4], [-0.7, -0.7]]]), torch.tensor([[1, 0, 1]]))
    tensor([[[2.4000, 0.1000, 2.4000],
             [0.7000, 0.7000, 0.7000]]])
    """
    check_tensors(log_probs=(log_probs, "B N K", FLOATING), labels=(labels, "B M?", INTEGER))
    if labels.device.type == "cpu":
        check_labels(labels, log_probs.shape[2])
    log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    return -log_probs.gather(2, labels.long()[:, None].expand(-1, log_probs.shape[1], -1))


def check_labels(labels: Int[Tensor, "B M"], classes: int) -> None:
    """Raise ValueError if a label is no class.

    >>> check_labels(torch.tensor([[0, 3]]), 3)
    Traceback (most recent call last):
    ValueError: labels: item 0 has 3 at target 1, outside [0, 3). Remedy: indices of classes, in padding too.
    """
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        item, target = outside.nonzero()[0].tolist()
        raise ValueError(
            f"labels: item {item} has {int(labels[item, target])} at target {target}, outside [0, {classes}). "
            "Remedy: indices of classes, in padding too."
        )


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


class _Precision:
    """torch's settings for products of float32, which are those of the whole process: the first thread in sets them, the last one out
    puts them back."""

    def __init__(self) -> None:
        mkldnn: Any = torch.backends.mkldnn  # its attributes are not typed
        self.backends = (torch.backends.cuda.matmul, mkldnn.matmul)
        self.lock = threading.Lock()
        self.inside = 0
        self.before: list[Any] = []

    @contextmanager
    def full(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self.before = [backend.fp32_precision for backend in self.backends]
                for backend in self.backends:
                    backend.fp32_precision = "ieee"
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    for backend, precision in zip(self.backends, self.before, strict=True):
                        backend.fp32_precision = precision


_precision = _Precision()
os.register_at_fork(before=_precision.lock.acquire, after_in_parent=_precision.lock.release, after_in_child=_precision.lock.release)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 products away."""
    with _precision.full(), torch.autocast(device.type, enabled=False):
        yield


def _directions(vectors: Tensor) -> Tensor:
    """Divide vectors by their length, in float64; those of zeros stay, without a gradient."""
    vectors = vectors.double()
    lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
    return vectors / lengths.where(lengths > 0, torch.inf)


def _common_type(frames: Tensor, targets: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(frames.dtype, targets.dtype), torch.float32)
