"""Minimum operators: the minimum itself, and three smooth ones by which alignment becomes differentiable.

Each is, in the words of convex regularisation, min over probabilities q of <q, x> + gamma Omega(q): the minimum of x, with a price on
decided choices. Its gradient is that q: how much each argument counts.

| operator | Omega(q) | value | gradient q |
|---|---|---|---|
| "hard" | 0 | min x | 1 at the smallest (the first of equals) |
| "soft" | sum q log q | -gamma log sum exp(-x / gamma) | softmax(-x / gamma) |
| "sparse" | (sum q^2 - 1) / 2 | <q, x> + gamma (sum q^2 - 1) / 2 | projection of -x / gamma onto the simplex: exact zeros |
| "smooth" | - | <softmax(-x / gamma), x> | not a distribution: may be negative |

`soft` and `sparse` lie below the minimum, `smooth`, a weighted mean, above. All but `smooth` rise with each argument. `hard` and, of the
smooth ones, only `soft` are associative: only their recursion over cells equals the operator over all paths (A. Mensch, M. Blondel,
"Differentiable dynamic programming for structured prediction and attention", ICML 2018). With gamma to 0 all become the minimum.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from softscribe.alignment.arguments import FLOATING, check_tensors, number_or_nan, whole_number

Operator = Literal["soft", "hard", "sparse", "smooth"]
OPERATORS: tuple[str, ...] = get_args(Operator)


def minimum(values: Float[Tensor, "*axes"], operator: Operator = "soft", gamma: int | float = 1.0, dim: int = 0) -> Tensor:
    """Return an operator's minimum over one axis, differentiable.

    Infinity says that there is no such choice: it takes no part, and its gradient is 0. Where all are infinite, so is the result.

    Args:
        values: of a floating type, above -infinity, at least one along `dim`. NaN makes NaN.
        operator: "hard", "soft", "sparse" or "smooth".
        gamma: temperature, > 0, in the unit of the values; `hard` has none.
        dim: axis that goes.

    Raises:
        ValueError: there are no values or no such axis, the operator is not known, or gamma is not positive and finite.

    Sources: A. Mensch, M. Blondel, "Differentiable dynamic programming for structured prediction and attention", ICML 2018 (soft, sparse);
    M. Blondel, A. Mensch, J.-P. Vert, "Differentiable divergences between time series", AISTATS 2021 (smooth: the mean cost of paths).

    >>> values = torch.tensor([1.0, 1.5, 4.0])
    >>> for operator in OPERATORS:
    ...     print(operator, minimum(values, operator).item())
    soft 0.495...
    hard 1.0
    sparse 0.937...
    smooth 1.273...
    """
    check_operator(operator, gamma)
    check_tensors(values=(values, "...", FLOATING))
    axis = whole_number(dim)
    if axis is None or not -values.ndim <= axis < values.ndim:
        raise ValueError(f"dim: {dim!r}, but values has {values.ndim} axes. Remedy: one of them, counted from 0, or from the last, -1.")
    if values.shape[axis] == 0:
        raise ValueError(f"values: shape {tuple(values.shape)}. Remedy: at least one element along axis {axis}.")
    values = values.movedim(axis, 0)
    reached = values != torch.inf
    anywhere = reached.any(dim=0)
    # Zeros stand in for infinities, which would turn gradients into NaN; where all are infinite, the zeros even take part.
    result = _MINIMA[operator](values.where(reached, 0.0), reached | ~anywhere, gamma)
    return torch.where(anywhere, result, torch.inf)


def check_operator(operator: str, gamma: int | float) -> None:
    """Raise ValueError unless the operator is known and gamma positive and finite.

    >>> check_operator("soft", 0.0)
    Traceback (most recent call last):
    ValueError: gamma: 0.0 is no positive finite number. Remedy: ...
    """
    if operator not in OPERATORS:
        raise ValueError(f"operator: {operator!r} is not known. Remedy: one of {', '.join(OPERATORS)}.")
    if not 0 < number_or_nan(gamma) < float("inf"):
        raise ValueError(
            f"gamma: {gamma!r} is no positive finite number. Remedy: one such as 1.0, gamma.item() for a tensor's; "
            'for the minimum itself operator="hard".'
        )


def _hard(values: Tensor, taking_part: Tensor, gamma: float) -> Tensor:
    return values.gather(0, values.detach().where(taking_part, torch.inf).argmin(dim=0, keepdim=True))[0]


def _soft(values: Tensor, taking_part: Tensor, gamma: float) -> Tensor:
    return -gamma * torch.logsumexp(_scores(values, taking_part, gamma), dim=0)


def _smooth(values: Tensor, taking_part: Tensor, gamma: float) -> Tensor:
    return (_scores(values, taking_part, gamma).softmax(dim=0) * values).sum(dim=0)


def _sparse(values: Tensor, taking_part: Tensor, gamma: float) -> Tensor:
    """Projection onto the simplex by sorting: q = max(0, score - level), with the level at which the sum is 1.

    What lies 1 or more below the highest score is never part of it.
    """
    scores = _scores(values, taking_part, gamma)
    scores = (scores - scores.amax(dim=0).detach()).clamp(min=-2)
    ranked = scores.sort(dim=0, descending=True).values
    counts = torch.arange(1, len(ranked) + 1, dtype=values.dtype, device=values.device).reshape(-1, *[1] * (ranked.ndim - 1))
    summed = ranked.cumsum(dim=0)
    support = (1 + counts * ranked > summed).sum(dim=0, keepdim=True).clamp(min=1)  # NaN has no support
    level = (summed.gather(0, support - 1) - 1) / support
    probabilities = torch.relu(scores - level)  # clamp would let a gradient through at ties
    return (probabilities * values).sum(dim=0) + gamma / 2 * ((probabilities**2).sum(dim=0) - 1)


def _scores(values: Tensor, taking_part: Tensor, gamma: float) -> Tensor:
    return (-values / gamma).where(taking_part, -torch.inf)


_MINIMA = {"soft": _soft, "hard": _hard, "sparse": _sparse, "smooth": _smooth}
