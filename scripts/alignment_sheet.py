"""What the figures of docs/alignment.md share: a small scene to align, and sheets of panels in the house's colours."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from softscribe.alignment import StepWeights, bce_cost
from softscribe.plots.canvas import HEARD, INK, MUTED, WRITTEN, head, shades, show_frames, style

WEIGHTS = {"1-1-1": StepWeights(), "1-1-2": StepWeights(diagonal=2), ".1-1-1": StepWeights(horizontal=0.1)}
COLORS = (WRITTEN, HEARD, "#4f8a3c", MUTED)


class Scene(NamedTuple):
    """Somebody plays chords of three of twelve pitch classes, and a network half hears them."""

    logits: Tensor
    """Noise of deviation 1 around +certainty and -certainty. Shape: (N, 12)"""
    chords: Tensor
    """Shape: (M, 12)"""
    truth: Tensor
    """The target of every frame. Shape: (N,)"""
    generator: torch.Generator

    @property
    def cost(self) -> Tensor:
        return bce_cost(self.logits[None], self.chords[None])


def scene(frames: int = 60, targets: int = 12, certainty: float = 1.0, seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    chords = torch.zeros(targets, 12).scatter(1, torch.rand(targets, 12, generator=generator).argsort(dim=1)[:, :3], 1.0)
    changes = torch.zeros(frames, dtype=torch.int64)
    changes[1 + torch.randperm(frames - 1, generator=generator)[: targets - 1]] = 1
    truth = changes.cumsum(0)
    return Scene(certainty * (2 * chords[truth] - 1) + torch.randn(frames, 12, generator=generator), chords, truth, generator)


def sheet(columns: int, height: float = 2.0, rows: int = 1, width: float = 8.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, rows * height), layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        style(panel)
    return figure, panels


def label(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    head(axes, title)
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)


def draw(axes: Axes, matrix: Tensor, title: str, color: str = HEARD, largest: float | None = 1.0, rows: str = "target") -> None:
    """A matrix of frames x targets, frames on the x axis."""
    show_frames(axes, matrix.detach().numpy(), 1.0, shades(color), largest=largest)
    label(axes, title, "frame", rows)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


def line(axes: Axes, cells: Sequence[Sequence[int]]) -> None:
    axes.plot(*zip(*cells, strict=True), "o-", color=WRITTEN, linewidth=1.6, markersize=3)


def curves(axes: Axes, title: str, x: str, at: Sequence[float], named: dict[str, Sequence[float]], legend: str | None = "best") -> None:
    for (name, values), color in zip(named.items(), COLORS, strict=False):
        axes.plot(at[: len(values)], values, color=color, linewidth=1.3, label=name)
    if legend:
        axes.legend(frameon=False, fontsize=7, labelcolor=INK, loc=legend)
    label(axes, title, x)


def mark(axes: Axes, frames: Tensor) -> None:
    """Point at frames from below."""
    ground = axes.get_xaxis_transform()
    for frame in frames.tolist():
        axes.plot(frame, -0.02, "^", color=WRITTEN, markersize=4, clip_on=False, transform=ground)
