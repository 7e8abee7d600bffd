"""The steps of an alignment path and what they cost."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from softscribe.alignment.arguments import number_or_nan, whole_number


@dataclass(frozen=True, eq=False)
class Step:
    """One way to go on from a cell: so many frames and so many targets further.

    It costs `weight` x C + `cost`, where C is the cost of the cell that it ARRIVES at.

    Args:
        frames: frames that it advances, >= 0. Cells in between are skipped: they cost nothing and are not passed.
        targets: targets that it advances, >= 0, not 0 together with `frames`.
        weight: in [0, inf]. 0 makes the step cost nothing but its `cost`.
        cost: in (-inf, inf], in the unit of the cost matrix: -gamma log p says that the step has the prior probability p.

    Weight and cost are numbers, the same everywhere, or tensors that broadcast to the cost matrix (B, N, M), so that they depend on the
    cell of arrival: shape (M,) gives every target its own, (B, N, 1) every frame of every item. Infinity blocks the step there: no path
    takes it, even where cells cost nothing or less. They are copied, and constants: no gradient reaches them. Their values in padding
    never matter. They lie on the CPU or on the cost's device; on a GPU their values are looked at under `validate` only.

    Source: J. Zeitler, M. Mueller, "A unified perspective on CTC and SDTW using differentiable DTW", 2025.

    Raises:
        ValueError: a number of frames or targets is negative or both are 0, a weight is negative, or something is not a number.

    >>> Step(2, 1, weight=1.5)
    Step(frames=2, targets=1, weight=1.5, cost=0.0)
    """

    frames: int
    targets: int
    weight: int | float | Tensor = 1.0
    cost: int | float | Tensor = 0.0

    def __post_init__(self) -> None:
        for name in ("frames", "targets"):
            advance = whole_number(getattr(self, name))
            if advance is None or not 0 <= advance < 2**31:
                raise ValueError(
                    f"{name}: {getattr(self, name)!r}. Remedy: how many {name} the step advances, an integer from 0 to 2**31 - 1."
                )
            object.__setattr__(self, name, advance)  # NumPy's, too
        if self.frames == self.targets == 0:
            raise ValueError("frames, targets: 0 and 0 is no step. Remedy: advance at least one of them.")
        for name, lowest in (("weight", 0.0), ("cost", -math.inf)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                    raise ValueError(f"{name}: {value.dtype} is not computed with. Remedy: {name}.float().")
                if value.requires_grad:
                    raise ValueError(f"{name}: requires a gradient, but steps are constants. Remedy: {name}.detach().")
                # What is done to the caller's tensor later, even between a loss and its gradient, shall not matter.
                object.__setattr__(self, name, value.detach().clone(memory_format=torch.contiguous_format))
            elif not (number := number_or_nan(value)) >= lowest or number == -math.inf:
                kind = "a number of at least 0" if lowest == 0 else "a finite number"
                raise ValueError(
                    f"{name}: {value!r}. Remedy: {kind}, or math.inf to block the step; for every cell its own: torch.as_tensor(...)."
                )
            elif not isinstance(value, int | float):
                object.__setattr__(self, name, number)  # of NumPy, say

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        values = ((self.weight, other.weight), (self.cost, other.cost))
        same = all(torch.equal(torch.as_tensor(one).cpu(), torch.as_tensor(another).cpu()) for one, another in values)
        return same and (self.frames, self.targets) == (other.frames, other.targets)

    def __hash__(self) -> int:
        return hash((self.frames, self.targets))

    @property
    def is_open_everywhere(self) -> bool:
        """Whether no cell blocks this step."""
        return all(bool((value < math.inf).all()) if isinstance(value, Tensor) else value < math.inf for value in (self.weight, self.cost))

    @property
    def is_blocked(self) -> bool:
        """Whether no path takes this step anywhere."""
        return any(isinstance(value, int | float) and math.isinf(value) for value in (self.weight, self.cost))

    def on_cpu(self) -> "Step":
        """Return the step with its tensors on the CPU."""
        weight, cost = (value.cpu() if isinstance(value, Tensor) else value for value in (self.weight, self.cost))
        return Step(self.frames, self.targets, weight, cost)


@dataclass(frozen=True, kw_only=True)
class StepWeights:
    """Weights of the three classical steps: each multiplies the cost of the cell that the step arrives at.

    The weights are named because published code orders them in contradictory ways. Entering the start cell costs 1 x C whatever the
    weights.

    Args:
        horizontal: of the step to the next frame and the same target (the target is repeated); in [0, inf].
        vertical: of the step to the next target and the same frame; in [0, inf].
        diagonal: of the step to the next frame and the next target; in [0, inf].

    Infinity blocks a step: no path takes it, even where cells cost nothing or less. 0 makes a step free. Weights 1-1-2 favour no
    direction: then, and whenever diagonal = horizontal + vertical, a constant added to the cost matrix leaves the gradient as it is.
    Weights 1-1-1 favour the diagonal.

    Source: J. Zeitler, M. Krause, M. Mueller, "Soft dynamic time warping with variable step weights", ICASSP 2024.

    Raises:
        ValueError: a weight is negative or not a number.

    >>> StepWeights(diagonal=2)
    StepWeights(horizontal=1.0, vertical=1.0, diagonal=2)
    """

    horizontal: int | float = 1.0
    vertical: int | float = 1.0
    diagonal: int | float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if not isinstance(weight, int | float):
                object.__setattr__(self, field.name, number_or_nan(weight))  # of NumPy, say
            if not number_or_nan(weight) >= 0:
                raise ValueError(
                    f"{field.name}: the weight {weight!r} is not a number >= 0. Remedy: 0 or more, or math.inf to block the step."
                )

    def steps(self) -> tuple[Step, Step, Step]:
        """Return the same as general steps.

        >>> StepWeights(diagonal=2).steps()[2]
        Step(frames=1, targets=1, weight=2, cost=0.0)
        """
        return Step(1, 0, self.horizontal), Step(0, 1, self.vertical), Step(1, 1, self.diagonal)


EQUAL_WEIGHTS = StepWeights()
"""1-1-1: soft-DTW as first published."""

TWO_ONE_STEPS = (Step(1, 1), Step(2, 1), Step(1, 2))
"""2-1 steps: neither sequence runs more than twice as fast as the other, so (N - 1) / (M - 1) has to lie in [1/2, 2].

Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978 (slope constraints).

    soft_dtw(cost, steps=TWO_ONE_STEPS)
"""


def exponent_factor(weight: float, gamma: float) -> tuple[np.float32, np.float32]:
    """Return log2 of what a cost of 1 multiplies exp(-D / gamma) by, and what rounding took from it: the sum of both has 48 bits.

    0 for a blocked step, infinite beyond the range of float32.

    >>> high, low = exponent_factor(2.0, 0.5)
    >>> float(high), abs(float(high) + float(low) + 4 * math.log2(math.e)) < 1e-13
    (-5.770780...True)
    """
    exact = 0.0 if math.isinf(weight) else -weight / (gamma * math.log(2))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.float32(exact)
        return rounded, np.float32(exact - float(rounded))
