"""What soft-DTW refuses, and in which words: argument, item, value, remedy."""

import math

import torch
from torch import Tensor

from softscribe.alignment.arguments import FLOATING, INTEGER, check_tensors
from softscribe.alignment.boundaries import FIXED
from softscribe.alignment.cpu import compiling, step_kernels
from softscribe.alignment.layout import ProblemArrays
from softscribe.alignment.problem import Problem


def checked_counts(cost: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Check shapes, types and devices, and return both counts as int64, their values not looked at. Shape: (B,), (B,)

    Raises:
        ValueError: see `softscribe.alignment.soft_dtw`.

    >>> checked_counts(torch.zeros(2, 5, 3), None, torch.tensor([3, 1]))
    (tensor([5, 5]), tensor([3, 1]))
    """
    check_tensors(cost=(cost, "B N M", FLOATING))
    if cost.device.type not in ("cpu", "cuda"):
        raise ValueError(f"cost: on {cost.device}, where no kernel runs. Remedy: move it to a CPU or a GPU; the gradient finds its way.")
    return (
        checked_count("frame_counts", frame_counts, "cost", cost, cost.shape[1]),
        checked_count("target_counts", target_counts, "cost", cost, cost.shape[2]),
    )


def checked_count(name: str, counts: Tensor | None, owner: str, values: Tensor, limit: int) -> Tensor:
    """Check shape, type and device of the counts of an argument's items, and return them as int64; None: `limit` each. Shape: (B,)

    >>> checked_count("frame_counts", torch.tensor([2.0]), "x", torch.zeros(1, 5, 3), 5)
    Traceback (most recent call last):
    ValueError: frame_counts: torch.float32 does not count. Remedy: frame_counts.to(torch.int64).
    """
    if counts is None:
        return torch.full((len(values),), limit, dtype=torch.int64, device=values.device)
    if not isinstance(counts, Tensor):
        raise ValueError(f"{name}: a {type(counts).__name__}. Remedy: torch.as_tensor({name}).")
    if counts.dtype not in INTEGER:
        raise ValueError(f"{name}: {counts.dtype} does not count. Remedy: {name}.to(torch.int64).")
    if counts.shape != (len(values),):
        raise ValueError(
            f"{name}: shape {tuple(counts.shape)}, but the {owner} has {len(values)} items. Remedy: one count per item, ({len(values)},)."
        )
    if counts.device != values.device:
        raise ValueError(f"{name}: on {counts.device}, but the {owner} on {values.device}. Remedy: move both to one device.")
    return counts.to(torch.int64).contiguous()


def check_count_values(cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> None:
    """Raise ValueError if a count is below 1 or beyond the cost's shape.

    >>> check_count_values(torch.zeros(2, 5, 3), torch.tensor([5, 6]), torch.tensor([3, 3]))
    Traceback (most recent call last):
    ValueError: frame_counts: item 1 has 6, outside [1, 5]. Remedy: the item's length without padding.
    """
    check_range("frame_counts", frame_counts, 1, cost.shape[1])
    check_range("target_counts", target_counts, 1, cost.shape[2])


def check_range(name: str, counts: Tensor, lowest: int, highest: int) -> None:
    """Raise ValueError if a count is outside [lowest, highest].

    >>> check_range("target_counts", torch.tensor([0, -1]), 0, 3)
    Traceback (most recent call last):
    ValueError: target_counts: item 1 has -1, outside [0, 3]. Remedy: the item's length without padding.
    """
    inside = (counts >= lowest) & (counts <= highest)
    if not inside.all():
        item = int(inside.int().argmin())
        raise ValueError(
            f"{name}: item {item} has {int(counts[item])}, outside [{lowest}, {highest}]. Remedy: the item's length without padding."
        )


def check_finite(
    values: Tensor, row_counts: Tensor, column_counts: Tensor | None, name: str = "cost", axes: tuple[str, str] = ("frame", "target")
) -> None:
    """Raise ValueError if an argument holds something that is neither padding nor finite. Shape: values (B, rows, columns)

    >>> check_finite(torch.tensor([[[1.0, float("nan")]]]), torch.tensor([1]), torch.tensor([2]))
    Traceback (most recent call last):
    ValueError: cost: item 0 holds nan at frame 0, target 1. Remedy: ...
    """
    if torch.isfinite(values).all():
        return
    columns = [values.shape[2]] * len(values) if column_counts is None else column_counts.tolist()
    for item, (rows, columns_inside) in enumerate(zip(row_counts.tolist(), columns, strict=True)):
        broken = ~torch.isfinite(values[item, :rows, :columns_inside])
        if broken.any():
            row, column = (int(position) for position in broken.nonzero()[0])
            hints = {
                "cost": "; forbid a cell by a large finite cost",
                "cost / gamma": ", or take a larger gamma",
                "log_probs": "; forbid a class by a very negative finite number, such as -1e4",
            }
            raise ValueError(
                f"{name}: item {item} holds {float(values[item, row, column])} at {axes[0]} {row}, {axes[1]} {column}. "
                f"Remedy: look for NaN or infinity in what it is made of{hints.get(name, '')}."
            )


def check_scaled(cost: Tensor, frame_counts: Tensor, target_counts: Tensor, gamma: float) -> None:
    """Raise ValueError if a cost divided by gamma is beyond the range of float64, in which that is computed.

    >>> check_scaled(torch.full((1, 1, 1), 1e300, dtype=torch.float64), torch.tensor([1]), torch.tensor([1]), 1e-9)
    Traceback (most recent call last):
    ValueError: cost / gamma: item 0 holds inf at frame 0, target 0. Remedy: ...
    """
    if torch.finfo(cost.dtype).max > torch.finfo(torch.float64).max * float(gamma):
        check_finite(cost.double() / gamma, frame_counts, target_counts, "cost / gamma")


def check_reachable(frame_counts: Tensor, target_counts: Tensor, problem: Problem, arrays: ProblemArrays) -> None:
    """Raise ValueError if an item has no path from a start to an end, whatever its cells cost, and say why. Before any recursion.

    >>> from softscribe.alignment import TWO_ONE_STEPS, soft_dtw
    >>> soft_dtw(torch.zeros(1, 9, 3), steps=TWO_ONE_STEPS)
    Traceback (most recent call last):
    ValueError: cost: item 0, 9 frames by 3 targets, has no path: its steps advance 0.5 to 2 frames per target, ... needs 4. Remedy: ...
    """
    if problem.always_has_path:
        return
    seen: set[tuple[int, int]] = set()
    for item, size in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True)):
        if size not in seen and not compiling.call(step_kernels.reachable, item, *size, *arrays):
            raise ValueError(
                f"cost: item {item}, {size[0]} frames by {size[1]} targets, has no path: {_reason(item, *size, problem, arrays)}. "
                "Remedy: leave the item out, or allow further steps or boundaries."
            )
        if not len(arrays.steps.cell_values):  # else items of one size may differ
            seen.add(size)


def _reason(item: int, frames: int, targets: int, problem: Problem, arrays: ProblemArrays) -> str:
    for name, cells in (("start", arrays.starts), ("end", arrays.ends)):
        if cells.begins[item] == cells.stops[item]:
            return f"no {name} cell of the boundaries lies inside it"
    open_steps = [(step.frames, step.targets) for step in problem.path_steps if not step.is_blocked]
    if not open_steps:
        return "every step is blocked"
    if problem.boundaries == FIXED and targets > 1:
        rates = [step_frames / step_targets if step_targets else math.inf for step_frames, step_targets in open_steps]
        needed = (frames - 1) / (targets - 1)
        if not min(rates) <= needed <= max(rates):
            return (
                f"its steps advance {min(rates):g} to {max(rates):g} frames per target, from the first cell to the last it needs {needed:g}"
            )
    blocks = " where their weights and costs do not block them," if len(arrays.steps.cell_values) else ""
    return f"no sum of its steps {open_steps}, as (frames, targets),{blocks} leads from a start cell to an end cell"


def check_losses(losses: Tensor) -> None:
    """Raise ValueError if a loss is not finite: numbers have become too large.

    >>> check_losses(torch.tensor([1.0, -float("inf")]))
    Traceback (most recent call last):
    ValueError: cost: item 1 has the loss -inf, beyond the range of torch.float32. Remedy: smaller costs, weights or gamma, ...
    """
    finite = torch.isfinite(losses)
    if not finite.all():
        item = int(finite.int().argmin())
        raise ValueError(
            f"cost: item {item} has the loss {float(losses[item])}, beyond the range of {losses.dtype}. "
            "Remedy: smaller costs, weights or gamma, a larger gamma if it is tiny, or a float64 cost."
        )


def check_gradient(gradient: Tensor, dtype: torch.dtype, problem: Problem) -> None:
    """Raise ValueError if the gradient H is beyond the range of the cost's type, in which it goes back: weights were too large.

    H counts how often paths pass a cell, times the weight they pay there. So it need not be looked at in the classical case (where that
    would take a quarter as long as the recursion) unless a weight is beyond the range itself.

    >>> check_gradient(torch.full((1, 1, 1), torch.inf), torch.float32, Problem(operator="smooth"))
    Traceback (most recent call last):
    ValueError: cost: item 0 has the gradient inf at frame 0, target 0, beyond the range of torch.float32. Remedy: ...
    """
    largest = torch.finfo(dtype).max
    weights = (problem.weights.horizontal, problem.weights.vertical, problem.weights.diagonal)
    if gradient.numel() == 0 or (problem.is_classical and not any(largest < weight < math.inf for weight in weights)):
        return
    lowest, highest = gradient.aminmax()
    if not (-largest <= lowest and highest <= largest):
        item, frame, target = (~(gradient.abs() <= largest)).nonzero()[0].tolist()
        raise ValueError(
            f"cost: item {item} has the gradient {float(gradient[item, frame, target])} at frame {frame}, target {target}, "
            f"beyond the range of {dtype}. Remedy: smaller weights (math.inf blocks a step), or a cost of a wider type."
        )
