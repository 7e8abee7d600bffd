"""CTC's graph, an alignment problem of frames and states: what it is, `ctc.py` tells."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softscribe.alignment import checks
from softscribe.alignment.arguments import BOOLEAN, FLOATING, check_tensors, number_or_nan
from softscribe.alignment.boundaries import BoundaryCell, BoundaryCells
from softscribe.alignment.steps import Step


class CTCGraph(NamedTuple):
    """CTC as an alignment problem of N frames and S = 2M + 1 states.

    Shape: cost (B, N, S); state_counts (B,)

    >>> blank, label = torch.tensor([[0.7, 0.7]]), torch.tensor([[[0.7], [0.7]]])
    >>> graph = ctc_graph(label, blank, torch.tensor([[False]]))
    >>> graph.cost.shape, graph.state_counts, [(step.frames, step.targets) for step in graph.steps]
    (torch.Size([1, 2, 3]), tensor([3]), [(1, 0), (1, 1), (1, 2)])
    """

    cost: Float[Tensor, "B N S"]
    state_counts: Int[Tensor, " B"]
    steps: tuple[Step, Step, Step]
    boundaries: BoundaryCells

    @property
    def options(self) -> dict[str, Any]:
        """The options of `soft_dtw` and its kin: `soft_dtw(graph.cost, None, graph.state_counts, **graph.options)`."""
        return {"steps": self.steps, "boundaries": self.boundaries}


def ctc_graph(
    label_cost: Float[Tensor, "B N M"],
    blank_cost: Float[Tensor, "B N"],
    repeated: Bool[Tensor, "B M"],
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    blank_weight: int | float = 1.0,
    repeat_weight: int | float = 1.0,
) -> CTCGraph:
    """Return CTC's alignment problem, whatever labels and blanks cost. Differentiable in both costs.

    Args:
        label_cost: of emitting a label in a frame.
        blank_cost: of emitting the blank.
        repeated: whether a label is the one before it, so that the blank between them may not be skipped.
        target_counts: labels of every item, in [0, M]. None: M. On a GPU they are not looked at; one out of range makes 0 states.
        blank_weight: as for `ctc_loss`.
        repeat_weight: as for `ctc_loss`.

    Raises:
        ValueError: an argument is no tensor of its type, shapes or devices do not fit, or a count or weight is out of range.

    Source: J. Zeitler, M. Mueller, "A unified perspective on CTC and SDTW using differentiable DTW", 2025.

    The most likely path, as states (0: blank, 1: the label, 2: blank):

    >>> from softscribe.alignment import hard_path
    >>> graph = ctc_graph(torch.tensor([[[9.0], [1.0], [1.0], [9.0]]]), torch.tensor([[1.0, 9.0, 9.0, 1.0]]), torch.tensor([[False]]))
    >>> hard_path(graph.cost, None, graph.state_counts, **graph.options)[0][:, 1]
    tensor([0, 1, 1, 2])
    """
    check_tensors(
        label_cost=(label_cost, "B N M?", FLOATING), blank_cost=(blank_cost, "B N", FLOATING), repeated=(repeated, "B M?", BOOLEAN)
    )
    batch, _, labels = label_cost.shape
    target_counts = checks.checked_count("target_counts", target_counts, "label_cost", label_cost, labels)
    if target_counts.device.type == "cpu":
        checks.check_range("target_counts", target_counts, 0, labels)
    blank_weight, repeat_weight = _checked_weight("blank_weight", blank_weight), _checked_weight("repeat_weight", repeat_weight)
    blanks = blank_cost[:, :, None]
    cost = torch.cat((torch.stack((blanks.expand(-1, -1, labels), label_cost), dim=3).flatten(2), blanks), dim=2)
    no_skip = torch.full((batch, 1, 2 * labels + 1), torch.inf, device=repeated.device)
    no_skip[:, 0, 3::2] = torch.where(repeated[:, 1:], torch.inf, 0.0)
    steps = (
        Step(1, 0, weight=_alternating(blank_weight, repeat_weight, labels)),
        Step(1, 1, weight=_alternating(blank_weight, 1.0, labels)),
        Step(1, 2, cost=no_skip),
    )
    first_blank = (BoundaryCell(0, 0, weight=blank_weight),) if blank_weight != math.inf else ()
    boundaries = BoundaryCells(
        start=(*first_blank, BoundaryCell(0, 1, weight=1.0)),
        end=(BoundaryCell(-1, -1, weight=0.0), BoundaryCell(-1, -2, weight=0.0)),
    )
    state_counts = (2 * target_counts + 1).where((target_counts >= 0) & (target_counts <= labels), 0)
    return CTCGraph(cost, state_counts, steps, boundaries)


def _checked_weight(name: str, weight: int | float) -> float:
    """Return a weight as a float: infinity forbids blanks, and nothing else."""
    number = number_or_nan(weight)
    forbidding = name == "blank_weight"
    if not number >= 0 or (number == math.inf and not forbidding):
        raise ValueError(f"{name}: {weight!r}. Remedy: a number of at least 0{', or infinity to forbid blanks' * forbidding}.")
    return number


def _alternating(blank: int | float, label: int | float, labels: int) -> int | float | Tensor:
    """A step's weight by the state of arrival, one number if it is the same for all."""
    return blank if blank == label else torch.tensor([blank, label], dtype=torch.float64, device="cpu").repeat(labels + 1)[:-1]
