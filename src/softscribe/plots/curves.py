"""Curves of training: how each metric moved over the steps."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from softscribe.errors import InputError
from softscribe.plots.canvas import HEARD, INK, MUTED, TRUE, WRITTEN, head, style

PANELS_PER_ROW = 3
_COLORS = (HEARD, WRITTEN, TRUE, MUTED)


def plot_curves(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], title: str = "") -> Figure:
    """Draw metrics over the steps of a training, each in a panel of its own.

    Names such as "train/cost" and "validation/cost" share the panel "cost", in a colour for each.

    Args:
        curves: name -> (steps, values), one value for each step; a value that is not finite leaves a gap.
        title: of the figure.

    Raises:
        InputError: there is no curve, one has no steps, or not one value for each.

    >>> figure = plot_curves({"train/loss": ([0, 1], [2.0, 1.0]), "validation/loss": ([1], [1.5])})
    >>> len(figure.axes)
    1
    """
    if not curves:
        raise InputError("curves: none. Remedy: give at least one.")
    panels: dict[str, list[str]] = {}
    for name, (steps, values) in curves.items():
        if not len(steps) or len(steps) != len(values):
            raise InputError(f"curves: {name!r} has {len(steps)} steps and {len(values)} values. Remedy: one value for each step.")
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    columns = min(PANELS_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.0 * columns + 0.4, 2.3 * rows + 0.5), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, fontweight="bold", color=INK)
    origins = list(dict.fromkeys(name.rpartition("/")[0] for name in curves))
    first: Axes | None = None
    for number, (metric, names) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1, sharex=first)
        first = first or axes
        style(axes)
        head(axes, (metric if len(names) > 1 else names[0].replace("/", ": ")).replace("_", " "))
        for name in names:
            origin = name.rpartition("/")[0]
            _draw_curve(axes, *curves[name], _COLORS[origins.index(origin) % len(_COLORS)], origin)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(color="#e6e8ee", linewidth=0.6)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        if number + columns >= len(panels):
            axes.set_xlabel("step", fontsize=9, color=INK)
    return figure


def _draw_curve(axes: Axes, steps: Sequence[int], values: Sequence[float], color: str, label: str) -> None:
    """Draw a line; with few points, show them, since a curve of one point would be invisible."""
    marker = "o" if len(steps) <= 30 else None
    finite = np.where(np.isfinite(values), values, np.nan)
    axes.plot(steps, finite, color=color, linewidth=1.3, marker=marker, markersize=2.5, label=label)
