"""Reading a run's metrics.csv: one row for each step at which something was logged."""

import csv
import io
from pathlib import Path

from softscribe.errors import InputError
from softscribe.files import read_bounded

MAXIMUM_BYTES = 200_000_000
MOST_DIGITS = 15
"""Of a step: what float64 holds exactly."""


def curve_points(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return each curve of a metrics.csv as numbers of steps done and values; none if there is no such file.

    A row holds what step `step` came to, counted from 0: one more are done by then.

    Raises:
        InputError: the file is not the curves of a run.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
    >>> _ = path.write_text("step,train/loss,validation/cost\\n0,2.5,\\n1,,1.5\\n")
    >>> curve_points(path)
    {'train/loss': ([1], [2.5]), 'validation/cost': ([2], [1.5])}
    """
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in read_curves(path):
        for name, value in row.items():
            if name != "step" and value:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(int(row["step"]) + 1)
                values.append(_number(value, path))
    return curves


def read_curves(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv, none if there is no such file.

    Raises:
        InputError: the file is not the curves of a run.
    """
    if not path.exists():
        return []
    try:
        text = read_bounded(path, MAXIMUM_BYTES).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_curves(path, str(error)) from error
    for row in rows:
        step = row.get("step") or ""
        # A row with more cells than names has them under None.
        if not step.isdecimal() or len(step) > MOST_DIGITS or None in row:
            raise _not_curves(path, f"step {step[:40]!r}")
    return rows


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise _not_curves(path, f"value {text[:40]!r}") from error


def _not_curves(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not the curves of a run ({reason}). Remedy: move the file away; the run goes on with a new one.")
