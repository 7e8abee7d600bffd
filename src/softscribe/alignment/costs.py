"""Cost matrices: what it costs to put a frame and a target together.

| cost | frames | targets | range | gradient in |
|---|---|---|---|---|
| `bce_cost` | logits (B, N, K) | on or off (B, M, K) | >= 0 | both |
| `squared_error_cost` | vectors (B, N, K) | vectors (B, M, K) | >= 0 | both |
| `cosine_cost` | vectors (B, N, K) | vectors (B, M, K) | [0, 2] | both |
| `negative_log_probability_cost` | log-probabilities (B, N, K) | classes (B, M) | >= 0 | the frames |

Any other tensor (B, N, M) will do as well. Each cost is a SUM over the K outputs, or one angle: what a gamma means depends on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
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


def squared_error_cost(frames: Float[Tensor, "B N K"], targets: Float[Tensor, "B M K"]) -> Float[Tensor, "B N M"]:
    """Return the squared Euclidean distance between every frame and every target: a SUM over the K outputs.

        C[b, n, m] = |x|^2 + |y|^2 - 2 <x, y>, with x = frames[b, n] and y = targets[b, m]

    So nothing of shape (B, N, M, K) is made. But where x and y are close, large numbers cancel: in float32 nothing would be left of a
    distance below a thousandth of |x|. Hence the sum is taken in float64, which neither autocast nor TF32 touches, and then rounded:
    that is twice the work of float32, and loses only distances below 1e-8 |x|.

    Returns:
        The cost, >= 0 up to rounding: (B, N, M), float64 if an argument is, else float32. Gradients come back in each argument's type.

    Raises:
        ValueError: shapes or devices do not fit, or an argument is not floating point.

    >>> squared_error_cost(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]), torch.tensor([[[0.0, -1.0]]]))
    tensor([[[4.],
             [5.]]])
    """
    _check_vectors(frames, targets)
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
        ValueError: shapes or devices do not fit, or an argument is not floating point.

    >>> cosine_cost(torch.tensor([[[3.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[5.0, 0.0], [0.0, 1.0]]]))
    tensor([[[0., 1.],
             [1., 1.]]])
    """
    _check_vectors(frames, targets)
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
        ValueError: shapes or devices do not fit, an argument has the wrong type, or a label is no class.

    >>> negative_log_probability_cost(torch.tensor([[[-0.1, -2.4], [-0.7, -0.7]]]), torch.tensor([[1, 0, 1]]))
    tensor([[[2.4000, 0.1000, 2.4000],
             [0.7000, 0.7000, 0.7000]]])
    """
    if log_probs.ndim != 3 or labels.ndim != 2 or len(log_probs) != len(labels):
        raise ValueError(
            f"log_probs, labels: shapes {tuple(log_probs.shape)} and {tuple(labels.shape)} do not fit. Remedy: (B, N, K) and (B, M)."
        )
    if not log_probs.is_floating_point():
        raise ValueError(f"log_probs: {log_probs.dtype} is not a floating type. Remedy: logits.log_softmax(dim=2).")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels: {labels.dtype} names no class. Remedy: an integer type.")
    if log_probs.device != labels.device:
        raise ValueError(f"labels: on {labels.device}, but the log-probabilities on {log_probs.device}. Remedy: move both to one device.")
    classes = log_probs.shape[2]
    if labels.device.type == "cpu":
        outside = (labels < 0) | (labels >= classes)
        if outside.any():
            item, target = outside.nonzero()[0].tolist()
            raise ValueError(
                f"labels: item {item} has {int(labels[item, target])} at target {target}, outside [0, {classes}). "
                "Remedy: indices of classes, in padding too."
            )
    log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    return -log_probs.gather(2, labels.long()[:, None].expand(-1, log_probs.shape[1], -1))


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


def _directions(vectors: Tensor) -> Tensor:
    """Divide vectors by their length, in float64; those of zeros stay, without a gradient."""
    vectors = vectors.double()
    lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
    return vectors / lengths.where(lengths > 0, torch.inf)


def _common_type(frames: Tensor, targets: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(frames.dtype, targets.dtype), torch.float32)


def _check_vectors(frames: Tensor, targets: Tensor) -> None:
    if frames.ndim != 3 or targets.ndim != 3 or (frames.shape[0], frames.shape[2]) != (targets.shape[0], targets.shape[2]):
        raise ValueError(
            f"frames, targets: shapes {tuple(frames.shape)} and {tuple(targets.shape)} do not fit. Remedy: (B, N, K) and (B, M, K)."
        )
    for name, vectors in (("frames", frames), ("targets", targets)):
        if not vectors.is_floating_point():
            raise ValueError(f"{name}: {vectors.dtype} is not a floating type. Remedy: {name}.float().")
    if frames.device != targets.device:
        raise ValueError(f"targets: on {targets.device}, but the frames on {frames.device}. Remedy: move both to one device.")


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
