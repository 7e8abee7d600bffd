"""Soft-DTW read as strong training: every frame gets a target of its own, and a weight.

Soft-DTW's gradient H says how much frame n learns from target m. Summed over the targets,

    h_n = sum over m of H(n, m)    and    y_n = sum over m of H(n, m) y(m) / h_n,

are the weight of the frame and the target that all of its targets amount to. For `bce_cost` the gradient at the logits x_n is then
h_n (sigmoid(x_n) - y_n), for `squared_error_cost` it is 2 h_n (x_n - y_n): that of strong training with the targets y_n and the weights
h_n. This holds exactly for gradients that are affine in y, and for no other cost.

What they show: blurred targets mean that gamma is high; h_n far above the others, that many targets collapsed onto one frame (with unit
weights h_n is how many); h_n near 0, that a frame teaches nothing.

Source: "Reformulating soft dynamic time warping", ISMIR 2025 (known to us from its abstract: the formulas are derived).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softscribe.alignment.arguments import FLOATING, REAL, check_tensors

SMALLEST_WEIGHT = 1e-6
"""Frames with a smaller sum of H have no target: with a horizontal weight of 0 most of them do not."""


class EquivalentTargets(NamedTuple):
    """What frames learn from soft-DTW. Shape: targets (B, N, K); frame_weights (B, N)

    >>> learned = equivalent_targets(torch.tensor([[[1.0, 0.0], [0.5, 1.5], [0.0, 0.0]]]), torch.tensor([[[1.0], [0.0]]]))
    >>> learned.targets[0, :, 0], learned.frame_weights > 0
    (tensor([1.0000, 0.2500, 0.0000]), tensor([[ True,  True, False]]))
    """

    targets: Float[Tensor, "B N K"]
    """y_n: a mean of targets, so between their smallest and largest; 0 where the weight is 0."""
    frame_weights: Float[Tensor, "B N"]
    """h_n >= 0; exactly 0 where there is no target: `frame_weights > 0` is the mask."""


def equivalent_targets(gradient: Float[Tensor, "B N M"], targets: Shaped[Tensor, "B M K"]) -> EquivalentTargets:
    """Return every frame's target and weight: values, through which no gradient flows.

    Args:
        gradient: H, such as `align(...).gradient`, or the cost's `.grad` after the sum of the losses was sent back; 0 in padding.
        targets: of any real type; where H is 0 in a whole column, padding above all, they may hold anything.

    Returns:
        Targets and weights, 0 for frames whose sum of H is below SMALLEST_WEIGHT: float64 if the gradient is, else float32.

    Raises:
        ValueError: an argument is no tensor of its type, or shapes or devices do not fit; on a CPU also if the gradient has negative values
            (that of operator "smooth" has), infinity or NaN, or a target with a gradient is not finite.

    Source: "Reformulating soft dynamic time warping", ISMIR 2025; see the head of this file.

    >>> from softscribe.alignment import align
    >>> cost = torch.tensor([[[0.0, 9.0], [2.0, 2.0], [9.0, 0.0]]])
    >>> targets, weights = equivalent_targets(align(cost).gradient, torch.tensor([[[1, 0], [0, 1]]]))
    >>> targets.round(decimals=3)  # the frame in the middle could be either
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000],
             [0.0000, 1.0000]]])
    >>> weights
    tensor([[1.0001, 1.0634, 1.0001]])
    """
    check_tensors(gradient=(gradient, "B N M", FLOATING), targets=(targets, "B M K", REAL))
    if gradient.device.type == "cpu":
        _check_values(gradient, targets)
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    gradient = gradient.detach().double()  # neither autocast nor TF32 touches it
    counting = (gradient > 0).any(dim=1)
    sums = gradient.sum(dim=2)
    has_target = sums >= SMALLEST_WEIGHT
    means = gradient @ targets.detach().double().where(counting[:, :, None], 0.0) / sums.where(has_target, 1.0)[:, :, None]
    return EquivalentTargets(means.where(has_target[:, :, None], 0.0).to(dtype), sums.where(has_target, 0.0).to(dtype))


def _check_values(gradient: Tensor, targets: Tensor) -> None:
    weighing = (gradient >= 0) & (gradient < torch.inf)
    if not weighing.all():
        item = int((~weighing).flatten(1).any(dim=1).int().argmax())
        raise ValueError(
            f"gradient: item {item} has values below 0, infinite, or NaN, which weigh nothing. "
            'Remedy: H itself, of the sum of the losses, with an operator other than "smooth".'
        )
    broken = ~torch.isfinite(targets)
    if broken.any():  # in padding, perhaps
        learned_from = broken & (gradient > 0).any(dim=1)[:, :, None]
        if learned_from.any():
            item, target, output = learned_from.nonzero()[0].tolist()
            raise ValueError(
                f"targets: item {item} holds {float(targets[item, target, output])} at target {target}, output {output}, "
                "from which frames learn. Remedy: finite targets wherever the gradient is not 0."
            )
