"""Draw the figures of docs/alignment.md with the project's own code, and print the numbers that the page states beside them.

python scripts/draw_alignment_figures.py [folder]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

import alignment_experiments
from alignment_sheet import WEIGHTS, curves, draw, label, line, scene, sheet
from softscribe.alignment import align, expected_alignment, hard_path, minimum
from softscribe.alignment.ctc_graph import ctc_graph
from softscribe.plots.canvas import HEARD, INK, MUTED, TRUE, WRITTEN, save

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "alignment"


def all_paths(frames: int, targets: int, path: tuple[tuple[int, int], ...] = ((0, 0),)) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every path of the classical steps from the first cell to the last."""
    n, m = path[-1]
    if (n, m) == (frames - 1, targets - 1):
        yield path
    for i, j in ((1, 0), (0, 1), (1, 1)):
        if n + i < frames and m + j < targets:
            yield from all_paths(frames, targets, (*path, (n + i, m + j)))


def paths() -> Figure:
    figure, (left, right) = sheet(2, 2.3)
    cost = scene(frames=20, targets=6, certainty=2.0, seed=3).cost
    draw(left, cost[0], "cost C and the cheapest path", TRUE, None)
    line(left, hard_path(cost)[0].tolist())
    for (i, j), name, place in (((1, 0), "horizontal", (0.3, -0.25)), ((0, 1), "vertical", (-0.55, 0.5)), ((1, 1), "diagonal", (0.6, 0.4))):
        right.annotate("", (i, j), (0, 0), arrowprops={"arrowstyle": "-|>", "color": WRITTEN, "linewidth": 1.6, "shrinkA": 7, "shrinkB": 7})
        right.text(*place, name, fontsize=9, color=INK)
    right.plot([0, 1, 0, 1], [0, 0, 1, 1], "o", color=TRUE, markersize=8)
    right.set(xlim=(-1, 1.8), ylim=(-0.5, 1.4), xticks=[0, 1], xticklabels=["n", "n + 1"], yticks=[0, 1], yticklabels=["m", "m + 1"])
    label(right, "the three steps", "frame", "target")
    return figure


def operators() -> Figure:
    figure, panels = sheet(4, 1.6, rows=2, width=8.0)
    first = torch.linspace(-2.99, 4.99, 300, dtype=torch.float64).requires_grad_()
    at, pair = first.detach(), torch.stack([first, torch.ones_like(first)])
    for column, operator in enumerate(("hard", "soft", "sparse", "smooth")):
        top, bottom = panels[column], panels[column + 4]
        values, slopes = {}, {}
        for gamma in (4.0, 1.0, 0.25):
            value = minimum(pair, operator, gamma)
            (slope,) = torch.autograd.grad(value.sum(), first)
            slope[1:][slope.diff().abs() > 0.5] = torch.nan  # a jump is a gap
            values[rf"$\gamma$ = {gamma:g}"], slopes[rf"$\gamma$ = {gamma:g}"] = value.detach(), slope
        top.plot([-3, 1, 5], [-3, 1, 1], color=INK, linewidth=0.8, linestyle=":")
        curves(top, f"{operator}: value", "", at, values, "lower right" if operator == "soft" else None)
        curves(bottom, f"{operator}: slope in $x_0$", "$x_0$", at, slopes, None)
        top.set(ylim=(-5, 2.4), xticklabels=[])
        bottom.set(ylim=(-0.3, 1.3))
        for panel in (top, bottom):
            panel.tick_params(labelleft=column == 0)
    return figure


def global_form() -> Figure:
    cost = torch.tensor([[0.5, 1.0], [1.5, 1.2], [2.0, 0.3]], dtype=torch.float64)
    found = sorted(all_paths(3, 2), key=lambda path: sum(float(cost[cell]) for cell in path))
    sums = torch.tensor([sum(float(cost[cell]) for cell in path) for path in found], dtype=torch.float64, requires_grad=True)
    soft, sparse = (torch.autograd.grad(minimum(sums, operator), sums)[0].tolist() for operator in ("soft", "sparse"))
    figure, panels = sheet(5, 1.9)
    for panel, path, total, p, q in zip(panels, found, sums.tolist(), soft, sparse, strict=True):
        draw(panel, cost, f"cost {total:.1f}\nsoft {p:.2f}\nsparse {q:.2f}", TRUE, 4.0)
        line(panel, path)
    return figure


def temperature() -> Figure:
    cost = scene(frames=30, targets=8, seed=1).cost
    figure, panels = sheet(5, 1.8)
    draw(panels[0], expected_alignment(cost, weights=WEIGHTS["1-1-2"], operator="hard")[0], "hard")
    for panel, gamma in zip(panels[1:], (1, 5, 20, 1000), strict=True):
        draw(panel, expected_alignment(cost, weights=WEIGHTS["1-1-2"], gamma=gamma)[0], f"$\\gamma$ = {gamma}")
    return figure


def gradients() -> Figure:
    figure, panels = sheet(3, 1.8, rows=2)
    for column, (name, weights) in enumerate(WEIGHTS.items()):
        result = align(scene(frames=30, targets=8, seed=1).cost, weights=weights)
        draw(panels[column], result.expected_alignment[0], f"E, {name}")
        draw(panels[column + 3], result.gradient[0], f"H, {name}: sum {float(result.gradient.sum()):.1f}", WRITTEN, 2.0)
    return figure


def anti_diagonals() -> Figure:
    figure, panels = sheet(3)
    n, m = torch.arange(8)[:, None], torch.arange(5)[None]
    for panel, frames, targets in zip(panels, (8, 6, 4), (5, 3, 5), strict=True):
        inside = (n < frames) & (m < targets)
        draw(panel, inside * (0.15 + 0.2 * ((n + m) % 3)), f"{frames} frames, {targets} targets")
        for i, j in inside.nonzero().tolist():
            panel.text(i, j, str(i + j), ha="center", va="center", fontsize=7, color=INK)
    return figure


def ctc_states() -> Figure:
    """The graph for the labels A B B in 8 frames, and one of its paths."""
    graph = ctc_graph(torch.zeros(1, 8, 3), torch.zeros(1, 8), torch.tensor([[False, False, True]]))
    used = expected_alignment(graph.cost, **graph.options)[0] > 0
    figure, (panel,) = sheet(1, 2.4, width=5.2)
    for n, m in used.nonzero().tolist():
        panel.plot(n, m, "o", color=HEARD if m % 2 else "white", markeredgecolor=HEARD, markersize=6, zorder=3)
        for i, j in ((n + step.frames, m + step.targets) for step in graph.steps):
            if i < 8 and j < 7 and used[i, j] and (j < m + 2 or graph.steps[2].cost[0, 0, j] == 0):
                panel.plot([n, i], [m, j], color=MUTED, linewidth=0.6)
    line(panel, [(0, 0), (1, 1), (2, 3), (3, 3), (4, 4), (5, 5), (6, 5), (7, 6)])
    panel.set(yticks=range(7), yticklabels="-A-B-B-", xticks=range(8))
    label(panel, "", "frame", "state")
    return figure


FIGURES = (paths, operators, global_form, temperature, gradients, anti_diagonals, ctc_states, *alignment_experiments.FIGURES)


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES:
        path = folder / f"{figure.__name__}.png"
        save(figure(), path)
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
