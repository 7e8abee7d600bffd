"""Curves over steps as charts for a page: where lines, ticks and marks lie, in the units of the chart's SVG."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 350, 12, 164
"""The edges of the plotting area."""

MOST_POINTS = 300
"""Of a line: longer curves are shown by the lowest and the highest value of each of half as many stretches, so that peaks stay."""

MOST_POINTS_WITH_DOTS = 30
LOG_SCALE_FROM_RATIO = 1000.0
COLORS = 6
"""Lines of a chart beyond these repeat their colours."""

Curve = tuple[Sequence[int], Sequence[float]]


@dataclass(frozen=True)
class Span:
    """A curve in words: its first, last, lowest and highest value, and how many values are not finite."""

    first: str
    last: str
    lowest: str
    highest: str
    last_step: int
    lost: int

    def __str__(self) -> str:
        lost = f"; {self.lost} values are not finite" if self.lost else ""
        return f"{self.first} at first, {self.last} at last (step {self.last_step}), lowest {self.lowest}, highest {self.highest}{lost}."


@dataclass(frozen=True)
class Line:
    """A curve of a chart.

    Attributes:
        name: what the legend calls it.
        color: number of its colour.
        paths: of SVG, one for each stretch without a gap.
        dots: (x, y) of points that are drawn as such.
        span: its values in words.
    """

    name: str
    color: int
    paths: list[str]
    dots: list[tuple[str, str]]
    span: Span


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn.

    Attributes:
        title: above it.
        lines: at least one.
        x_ticks, y_ticks: (place, label).
        marks: (x, text) of alarms.
        limits: (y, text) of the ends of the healthy range.
        log_scale: whether the y axis is logarithmic.
        last_step: at the right edge.
        series: the points as JSON, for the page's script: a list of [name, steps, values].
    """

    title: str
    lines: list[Line]
    x_ticks: list[tuple[str, str]]
    y_ticks: list[tuple[str, str]]
    marks: list[tuple[str, str]]
    limits: list[tuple[str, str]]
    log_scale: bool
    last_step: int
    series: str

    @property
    def summary(self) -> str:
        """What the chart shows, in words."""
        healthy = "".join(f" {text[0].upper()}{text[1:]}." for _, text in self.limits)
        return f"{self.title}. " + " ".join(f"{line.name}: {line.span}" for line in self.lines) + healthy


def make_chart(
    title: str,
    curves: Mapping[str, Curve],
    last_step: int,
    alarms: Sequence[tuple[int, str]] = (),
    limits: Sequence[tuple[float, str]] = (),
) -> Chart:
    """Lay out curves in one chart.

    Args:
        title: above the chart.
        curves: name -> (steps, values); a value that is not finite leaves a gap.
        last_step: the right edge, at least every curve's last step.
        alarms: (step, text), marked by vertical lines.
        limits: (value, text), marked by horizontal lines; the chart is high enough to show them.

    >>> chart = make_chart("loss", {"train": ([0, 10], [2.0, 1.0])}, last_step=10)
    >>> chart.summary
    'loss. train: 2 at first, 1 at last (step 10), lowest 1 at step 10, highest 2 at step 0.'
    >>> [label for _, label in make_chart("diagonal prior", {"train": ([0, 10], [0.0, 0.0])}, last_step=10).y_ticks]
    ['-1', '-0.5', '0', '0.5', '1']
    """
    finite = [value for _, values in curves.values() for value in values if math.isfinite(value)] + [value for value, _ in limits]
    lowest, highest = (min(finite), max(finite)) if finite else (0.0, 1.0)
    log_scale = lowest > 0 and highest / lowest >= LOG_SCALE_FROM_RATIO
    scale = _LogScale(lowest, highest) if log_scale else _LinearScale(lowest, highest)
    lines, series = [], []
    for number, (name, (steps, values)) in enumerate(curves.items()):
        shown_steps, shown_values = _reduced(np.asarray(steps), np.asarray(values, dtype=np.float64))
        lines.append(_line(name, number % COLORS, (steps, values), _points(shown_steps, shown_values, last_step, scale)))
        series.append([name, shown_steps.tolist(), [value if math.isfinite(value) else None for value in shown_values.tolist()]])
    steps_shown = MaxNLocator(4, integer=True).tick_values(0, last_step) if last_step else np.zeros(1)
    return Chart(
        title=title,
        lines=lines,
        x_ticks=[(_place(_x(step, last_step)), f"{int(step):,}") for step in steps_shown if 0 <= step <= last_step],
        y_ticks=[(_place(scale.y(value)), number_text(value)) for value in scale.ticks()],
        marks=[(_place(_x(step, last_step)), text) for step, text in alarms if 0 <= step <= last_step],
        limits=[(_place(scale.y(value)), text) for value, text in limits],
        log_scale=log_scale,
        last_step=last_step,
        series=json.dumps(series, allow_nan=False),
    )


def describe(steps: Sequence[int], values: Sequence[float]) -> Span:
    """Return in words what a curve does; there is at least one step, and one value for each."""
    known = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    ends = (min(known), max(known, key=lambda point: point[0])) if known else ()
    lowest, highest = [f"{number_text(value)} at step {step}" for value, step in ends] or ["not finite"] * 2
    return Span(number_text(values[0]), number_text(values[-1]), lowest, highest, steps[-1], len(values) - len(known))


def number_text(value: float) -> str:
    """Return a number in four digits, in plain notation where that is short.

    >>> [number_text(value) for value in (0.12345, 1234567.0, float("nan"))]
    ['0.1235', '1.235e+06', 'not finite']
    """
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


class _LinearScale:
    def __init__(self, lowest: float, highest: float) -> None:
        middle, half = lowest / 2 + highest / 2, highest / 2 - lowest / 2
        # A constant curve runs through the middle; halves, since the difference of two huge numbers may overflow.
        self.half = half if half > 1e-9 * abs(middle) else abs(middle) / 10 or 1.0
        self.lowest, self.highest = middle - self.half, middle + self.half

    def y(self, value: float) -> float:
        share = (value / 2 - self.lowest / 2) / self.half
        return BOTTOM - (BOTTOM - TOP) * share

    def ticks(self) -> list[float]:
        if max(abs(self.lowest), abs(self.highest)) > 1e300:  # the locator's own arithmetic would overflow
            return [self.lowest, self.highest]
        tolerance = 1e-9 * self.half
        values = MaxNLocator(4).tick_values(self.lowest, self.highest)
        return [float(value) for value in values if self.lowest - tolerance <= value <= self.highest + tolerance]


class _LogScale:
    def __init__(self, lowest: float, highest: float) -> None:
        self.low, self.high = math.log10(lowest), math.log10(highest)

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        exponents = range(math.ceil(self.low), math.floor(self.high) + 1)
        return [10.0**exponent for exponent in exponents[:: math.ceil(len(exponents) / 5)]]


def _x(step: float, last_step: int) -> float:
    return LEFT + (RIGHT - LEFT) * step / max(last_step, 1)


def _place(value: float) -> str:
    return f"{value:.1f}"


def _reduced(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the ends, and of each stretch the lowest and the highest value; a stretch without finite values stays a gap."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    kept = {0, len(steps) - 1}
    for stretch in np.array_split(np.arange(len(steps)), MOST_POINTS // 2 - 1):
        known = stretch[np.isfinite(values[stretch])]
        kept |= {int(known[values[known].argmin()]), int(known[values[known].argmax()])} if len(known) else {int(stretch[0])}
    chosen = np.array(sorted(kept))
    return steps[chosen], values[chosen]


def _points(steps: np.ndarray, values: np.ndarray, last_step: int, scale: _LinearScale | _LogScale) -> list[list[tuple[str, str]]]:
    """Return the places of the points, in stretches without gaps."""
    stretches: list[list[tuple[str, str]]] = [[]]
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if math.isfinite(value):
            stretches[-1].append((_place(_x(step, last_step)), _place(scale.y(value))))
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _line(name: str, color: int, curve: Curve, stretches: list[list[tuple[str, str]]]) -> Line:
    dotted = sum(map(len, stretches)) <= MOST_POINTS_WITH_DOTS
    return Line(
        name=name,
        color=color,
        paths=["M" + " L".join(f"{x},{y}" for x, y in stretch) for stretch in stretches if len(stretch) > 1],
        # A single point between gaps has no line.
        dots=[point for stretch in stretches if dotted or len(stretch) == 1 for point in stretch],
        span=describe(*curve),
    )
