"""What an alignment is."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Alignment(NamedTuple):
    """Everything that is known about the alignment of a batch, without a way back through autograd. Formulas: see `soft_dtw.py`.

    Shape: losses, expected_path_cost, path_entropy (B,); gradient, expected_alignment (B, N, M)

    >>> import torch
    >>> from softscribe.alignment import align
    >>> result = align(torch.tensor([[[0.0, 3.0], [1.0, 0.0]]]), gamma=2.0)
    >>> torch.allclose(result.losses, result.expected_path_cost - 2.0 * result.path_entropy)
    True
    """

    losses: Float[Tensor, " B"]
    """SDTW of every item."""
    gradient: Float[Tensor, "B N M"]
    """H, the derivative of an item's loss in its costs; 0 in padding."""
    expected_alignment: Float[Tensor, "B N M"]
    """E, the probability that a path passes a cell; 0 in padding. For the operator "smooth" no probability: values leave [0, 1]."""
    expected_path_cost: Float[Tensor, " B"]
    """The mean of the paths' costs: <C, H>, and what steps and boundaries add. For the operator "smooth", a mean itself, the loss."""
    path_entropy: Float[Tensor, " B"]
    """The entropy of the paths in nats, >= 0; NaN for the operator "smooth", whose gradient is no distribution."""
