"""The steps of an alignment path and what they cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

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
    never matter.

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
        same = all(torch.equal(torch.as_tensor(one), torch.as_tensor(another)) for one, another in values)
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


class StepArrays(NamedTuple):
    """Steps as a kernel takes them. A weight or cost is a number, or, where its row is >= 0, that row of `cell_strides`.

    Shape: frames, targets, weights, costs, weight_rows, cost_rows (S,); cell_values (V,); cell_strides (R, 4)
    """

    frames: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    """Finite; 0 for a blocked step, so that infinity never meets a cost of 0."""
    costs: np.ndarray
    """Infinite for a blocked step."""
    weight_rows: np.ndarray
    cost_rows: np.ndarray
    cell_values: np.ndarray
    """Of all tensors, one after the other, each as small as it came. float64 if one of them is, else float32."""
    cell_strides: np.ndarray
    """Where a tensor begins, and how far its values of the next item, frame and target are: 0 if they are the same."""


def step_arrays(steps: Sequence[Step], shape: tuple[int, ...], frame_counts: Sequence[int], target_counts: Sequence[int]) -> StepArrays:
    """Lay out `steps` for a cost matrix of `shape` (B, N, M) with items of these sizes.

    Raises:
        ValueError: a weight or cost does not broadcast to `shape`, is on a GPU, or has values out of range.

    >>> arrays = step_arrays((Step(1, 0, math.inf), Step(1, 1, torch.tensor([1.0, 2.0, 3.0]))), (1, 4, 3), [4], [3])
    >>> arrays.costs, arrays.cell_strides
    (array([inf,  0.]), array([[0, 0, 0, 1]]))
    """
    values: list[Tensor] = []

    def number_and_row(number: int | float | Tensor, label: str, lowest: float) -> tuple[float, int]:
        if not isinstance(number, Tensor):
            return float(number), -1
        values.append(cell_tensor(number, label, lowest, shape, frame_counts, target_counts))
        return 0.0, len(values) - 1

    weights = [number_and_row(step.weight, f"steps[{index}].weight", 0.0) for index, step in enumerate(steps)]
    costs = [number_and_row(step.cost, f"steps[{index}].cost", -math.inf) for index, step in enumerate(steps)]
    blocked = np.array([step.is_blocked for step in steps])
    return StepArrays(
        np.array([min(step.frames, shape[1]) for step in steps], np.int64),  # what is longer never fits either
        np.array([min(step.targets, shape[2]) for step in steps], np.int64),
        np.where(blocked, 0.0, [weight for weight, _ in weights]),
        np.where(blocked, np.inf, [cost for cost, _ in costs]),
        np.array([row for _, row in weights], np.int64),
        np.array([-1 if is_blocked else row for (_, row), is_blocked in zip(costs, blocked, strict=True)], np.int64),
        *_flattened(values),
    )


def _flattened(tensors: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return `cell_values` and `cell_strides`."""
    dtype = np.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else np.float32
    values, strides = np.empty(sum(tensor.numel() for tensor in tensors), dtype), np.zeros((len(tensors), 4), np.int64)
    begin = 0
    for tensor, row in zip(tensors, strides, strict=True):
        end = begin + tensor.numel()
        torch.from_numpy(values[begin:end]).copy_(tensor.flatten())
        apart = [0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        row[:] = begin, *[0] * (3 - len(apart)), *apart
        begin = end
    return values, strides


def cell_tensor(
    value: Tensor, label: str, lowest: float, shape: tuple[int, ...], frame_counts: Sequence[int], target_counts: Sequence[int]
) -> Tensor:
    """Return a step's weight or cost, checked against the cost matrix's shape.

    >>> cell_tensor(torch.tensor([1.0, -2.0]), "steps[0].weight", 0.0, (1, 5, 2), [5], [2])
    Traceback (most recent call last):
    ValueError: steps[0].weight: item 0 has -2.0 at frame 0, target 1. Remedy: values of at least 0, or infinity to block.
    """
    try:
        value.expand(shape)
    except RuntimeError:
        given = tuple(value.shape)
        raise ValueError(f"{label}: shape {given} does not broadcast to the cost's {shape}. Remedy: (M,), (N, 1) or (B, N, M).") from None
    if value.device.type != "cpu":
        raise ValueError(f"{label}: on {value.device}. Remedy: {label}.cpu(); steps are read there, wherever the cost is.")
    smallest = float(value.amin()) if value.numel() else math.inf  # of NaN and anything it is NaN
    if not smallest >= lowest or smallest == -math.inf:
        outside = ~(value >= lowest) | (value == -math.inf)
        for item, (frames, targets) in enumerate(zip(frame_counts, target_counts, strict=True)):
            wrong = outside.expand(shape)[item, :frames, :targets].nonzero()
            if len(wrong):
                frame, target = wrong[0].tolist()
                found = float(value.expand(shape)[item, frame, target])
                remedy = "values of at least 0" if lowest == 0 else "finite values"
                raise ValueError(
                    f"{label}: item {item} has {found} at frame {frame}, target {target}. Remedy: {remedy}, or infinity to block."
                )
    return value
