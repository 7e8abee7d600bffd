"""What every function asks of its arguments before it looks at values: tensors of a type, of shapes that fit, on one device; numbers."""

import math
from numbers import Integral, Real

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
BOOLEAN = (torch.bool,)
REAL = (*FLOATING, *INTEGER, *BOOLEAN)


def check_tensors(**tensors: tuple[object, str, tuple[torch.dtype, ...]]) -> None:
    """Raise ValueError unless all arguments are dense tensors of their types and shapes, on one device.

    Args:
        tensors: by the argument's name its value, its axes, and the types it may have. Axes of one name are of one size in all tensors, and
            at least 1, except B, the batch, and those with a question mark. "..." stands for any axes.

    >>> check_tensors(logits=(torch.zeros(2, 5, 3), "B N K", FLOATING), targets=(torch.zeros(2, 4, 7), "B M K", REAL))
    Traceback (most recent call last):
    ValueError: logits, targets: shapes (2, 5, 3) and (2, 4, 7) do not fit. Remedy: (B, N, K) and (B, M, K); only B may be 0.
    """
    first: tuple[str, Tensor] | None = None
    for name, (value, _, types) in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: a {type(value).__name__}. Remedy: a tensor, such as torch.as_tensor makes.")
        if value.dtype not in types:
            usual = next(dtype for dtype in (torch.float32, torch.int64, torch.bool) if dtype in types)
            raise ValueError(f"{name}: {value.dtype} is not computed with. Remedy: {name}.to({usual}).")
        if value.layout != torch.strided:
            raise ValueError(f"{name}: {value.layout} is not computed with. Remedy: {name}.to_dense().")
        if first is None:
            first = name, value
        elif value.device != first[1].device:
            raise ValueError(f"{name}: on {value.device}, but {first[0]} on {first[1].device}. Remedy: move both to one device.")
    shapes = {name: (tuple(value.shape), axes.split()) for name, (value, axes, _) in tensors.items() if isinstance(value, Tensor)}
    sizes: dict[str, int] = {}
    for shape, axes in shapes.values():
        fits = len(shape) == len(axes) and all(
            size == sizes.setdefault(axis.strip("?"), size) and (size > 0 or axis == "B" or axis.endswith("?"))
            for size, axis in zip(shape, axes, strict=True)
        )
        if not fits and axes != ["..."]:
            given = " and ".join(str(shape) for shape, _ in shapes.values())
            wanted = " and ".join(f"({', '.join(axes)})".replace("?", "") for _, axes in shapes.values())
            empty = " and ".join(dict.fromkeys(axis.strip("?") for _, axes in shapes.values() for axis in axes if axis[-1] in "B?"))
            fail = "do not fit" if len(shapes) > 1 else "does not fit"
            raise ValueError(
                f"{', '.join(shapes)}: shape{'s' * (len(shapes) > 1)} {given} {fail}. Remedy: {wanted}; only {empty} may be 0."
            )


def whole_number(value: object) -> int | None:
    """Return an integer, NumPy's too, as Python's; None for what is none.

    >>> import numpy as np
    >>> whole_number(np.int64(2)), whole_number(True), whole_number(2.0)
    (2, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value)


def number_or_nan(value: object) -> float:
    """Return a number as a float, NaN for what is none or too large for one.

    >>> number_or_nan(2), number_or_nan(True), number_or_nan("2"), number_or_nan(10**400)
    (2.0, nan, nan, nan)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
