"""Gradients of per-item losses, and central differences in all entries at once."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradients_and_slopes(
    losses_of: Callable[..., Tensor], *tensors: Tensor, widths: tuple[float, ...] = (1e-5,)
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Return the derivative of every item's loss in all tensors, by autograd, and by differences of every width.

    All is computed in one batch: the items, and every item twice for every entry of it that moves, up and down.

    Args:
        losses_of: takes such batches of the tensors, and which item each of theirs is or is a copy of; returns the losses.
        tensors: float64, the items first.
        widths: how far entries move either way.
    """
    batch = len(tensors[0])
    moving = torch.cat([torch.arange(batch).repeat_interleave(tensor[0].numel()) for tensor in tensors])
    moves = [sign * width for width in widths for sign in (1, -1)]
    items = torch.cat((torch.arange(batch), moving.repeat(len(moves))))
    copies, first = [tensor.detach()[items] for tensor in tensors], batch
    for tensor, copy in zip(tensors, copies, strict=True):
        places, entries = first + torch.arange(tensor.numel()), torch.arange(tensor[0].numel()).repeat(batch)
        for part, move in enumerate(moves):
            copy.view(len(items), -1)[part * len(moving) + places, entries] += move
        first += tensor.numel()
    losses = losses_of(*(copy.requires_grad_() for copy in copies), items)
    gradients = [gradient[:batch] for gradient in torch.autograd.grad(losses[:batch].sum(), copies)]
    moved = losses[batch:].detach().chunk(len(moves))
    slopes = [(up - down) / (2 * width) for up, down, width in zip(moved[::2], moved[1::2], widths, strict=True)]
    sizes = [tensor.numel() for tensor in tensors]
    return gradients, [[part.reshape(tensor.shape) for part, tensor in zip(slope.split(sizes), tensors, strict=True)] for slope in slopes]
