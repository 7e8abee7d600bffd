"""What all figures share: colours with a meaning, stacked panels over one time axis, images whose columns are frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from softscribe.errors import InputError
from softscribe.files import replacing
from softscribe.scores.targets import LOWEST_PITCH
from softscribe.sound import HcqtSettings

INK = "#22283a"
MUTED = "#7b8194"
HEARD = "#1d6fa5"
WRITTEN = "#e2571e"
TRUE = "#3f4756"
"""One colour for each origin: what the network hears, what the score says, what is true."""

DOTS_PER_INCH = 120
MOST_COLUMNS = 6000
"""Longer images are reduced to fewer columns, each the maximum of its frames, so that short notes stay visible and memory small."""

_PITCH_CLASSES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")


def shades(color: str) -> Colormap:
    """Return the colour map from white to `color`."""
    return LinearSegmentedColormap.from_list(f"white to {color}", ["#ffffff", color])


def note_name(pitch: int) -> str:
    """Return the name of a MIDI pitch; 60 is C4.

    >>> note_name(61)
    'C♯4'
    """
    return f"{_PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


@dataclass(frozen=True)
class Panel:
    """A panel of a figure: its axes, and a narrow space to the right for a colour bar."""

    axes: Axes
    side: Axes


def stack(heights_inches: Sequence[float], width_inches: float, title: str) -> tuple[Figure, list[Panel]]:
    """Return a figure of panels above each other, all as wide as each other and with one x axis."""
    figure = Figure(figsize=(width_inches, sum(heights_inches) + 0.42 * len(heights_inches) + 0.6), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.05, w_pad=0.05, wspace=0.005)  # type: ignore[union-attr, call-arg]
    grid = figure.add_gridspec(len(heights_inches), 2, height_ratios=list(heights_inches), width_ratios=[width_inches, 0.11])
    panels: list[Panel] = []
    for row in range(len(heights_inches)):
        axes = figure.add_subplot(grid[row, 0], sharex=panels[0].axes if panels else None)
        side = figure.add_subplot(grid[row, 1])
        side.set_axis_off()
        style(axes)
        axes.tick_params(labelbottom=row == len(heights_inches) - 1)
        panels.append(Panel(axes, side))
    figure.align_ylabels([panel.axes for panel in panels])
    if title:
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, fontweight="bold", color=INK)
    return figure, panels


def head(axes: Axes, title: str) -> None:
    """Write a panel's title, small, above its left corner."""
    axes.set_title(title, loc="left", fontsize=9, color=INK, pad=4)


def time_axis(axes: Axes, frame_count: int, frames_per_second: float) -> None:
    """Let the x axis show all frames: frame t lies at t / frames_per_second seconds, in the middle of its column."""
    axes.set_xlim(-0.5 / frames_per_second, (frame_count - 0.5) / frames_per_second)
    axes.set_xlabel("time (seconds)", fontsize=9, color=INK)


def show_frames(
    axes: Axes,
    values: Shaped[np.ndarray, "frames rows"],
    frames_per_second: float,
    colors: Colormap | str,
    *,
    lowest_row: float = 0.0,
    row_height: float = 1.0,
    largest: float | None = None,
) -> AxesImage:
    """Draw a column for each frame, row r centred at lowest_row + r * row_height; 0 gets the first colour, `largest` the last."""
    frames, rows = values.shape
    frames_per_column = math.ceil(frames / MOST_COLUMNS)
    columns = np.maximum.reduceat(values, np.arange(0, frames, frames_per_column), axis=0)
    return axes.imshow(
        columns.T.astype(np.float32),
        cmap=colors,
        vmin=0.0,
        vmax=largest if largest is not None else max(float(columns.max()), 1e-9),
        origin="lower",
        aspect="auto",
        interpolation="nearest" if frames_per_column == 1 else None,
        extent=(
            -0.5 / frames_per_second,
            (len(columns) * frames_per_column - 0.5) / frames_per_second,
            lowest_row - 0.5 * row_height,
            lowest_row + (rows - 0.5) * row_height,
        ),
    )


def show_outputs(axes: Axes, values: Shaped[np.ndarray, "frames outputs"], frames_per_second: float, colors: Colormap | str) -> AxesImage:
    """Draw a roll of 12 pitch classes or 72 pitches, its rows named; values in [0, 1]."""
    outputs = values.shape[1]
    image = show_frames(axes, values, frames_per_second, colors, lowest_row=0.0 if outputs == 12 else float(LOWEST_PITCH), largest=1.0)
    name_rows(axes, outputs)
    return image


def name_rows(axes: Axes, outputs: int) -> None:
    """Name the rows of a roll: pitch classes from 0 (C), or MIDI pitches from 24 by their Cs, with a line below each C."""
    if outputs == 12:
        axes.set_yticks(range(12), _PITCH_CLASSES, fontsize=6.5)
        axes.set_ylabel("pitch class", fontsize=8, color=INK)
        axes.set_ylim(-0.5, 11.5)
    else:
        name_cs(axes, LOWEST_PITCH, LOWEST_PITCH + outputs)
        axes.set_ylim(LOWEST_PITCH - 0.5, LOWEST_PITCH + outputs - 0.5)
    axes.tick_params(axis="y", length=0)


def name_cs(axes: Axes, first_pitch: int, end_pitch: int) -> None:
    """Name the Cs of a MIDI pitch axis, and draw a line below each."""
    cs = [pitch for pitch in range(first_pitch, end_pitch) if pitch % 12 == 0]
    axes.set_yticks(cs, [note_name(pitch) for pitch in cs], fontsize=7)
    axes.set_ylabel("pitch", fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)
    for pitch in cs:
        axes.axhline(pitch - 0.5, color=MUTED, linewidth=0.4, alpha=0.5)


def zoom_pitches(axes: Axes, sounding: Shaped[np.ndarray, " outputs"]) -> None:
    """Let the roll of 72 pitches show what sounds, with three semitones above and below; 12 pitch classes are always shown whole."""
    used = np.flatnonzero(sounding)
    if len(sounding) != 12 and len(used):
        axes.set_ylim(LOWEST_PITCH + used[0] - 3.5, LOWEST_PITCH + used[-1] + 3.5)


def show_cqt(axes: Axes, features: Shaped[np.ndarray, "frames bins"], frames_per_second: float, settings: HcqtSettings) -> AxesImage:
    """Draw one channel of an HCQT, log-compressed, over a MIDI pitch axis."""
    step = 1 / settings.bins_per_semitone
    lowest = settings.minimum_midi - (settings.bins_per_semitone - 1) / 2 * step
    largest = max(float(np.quantile(features, 0.999)), 1e-9)
    image = show_frames(axes, features, frames_per_second, "magma", lowest_row=lowest, row_height=step, largest=largest)
    name_cs(axes, settings.minimum_midi, settings.minimum_midi + 12 * settings.octaves)
    return image


def fundamental_channel(settings: HcqtSettings) -> int:
    """Return the channel of harmonic 1: the plain constant-Q transform; the first channel if there is no such harmonic."""
    return settings.harmonics.index(1) if 1 in settings.harmonics else 0


def color_bar(panel: Panel, image: AxesImage, label: str) -> None:
    """Explain an image's colours at the panel's right side."""
    panel.side.set_axis_on()
    bar = panel.axes.figure.colorbar(image, cax=panel.side)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(2 if image.get_clim() == (0.0, 1.0) else 3)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=7, length=2, color=MUTED, labelcolor=INK)
    bar.set_label(label, fontsize=8, color=INK)


def check_image(**arrays: np.ndarray) -> None:
    """Raise an InputError for an array without columns or rows, or with values that are not finite."""
    for name, values in arrays.items():
        if not values.size:
            raise InputError(f"{name}: shape {values.shape} holds nothing to draw. Remedy: give at least one frame.")
        if not np.isfinite(values).all():
            raise InputError(f"{name}: holds NaN or infinity. Remedy: draw finite values.")


def check_frame_rate(frames_per_second: float) -> None:
    """Raise an InputError if a frame rate is not positive."""
    if not 0 < frames_per_second < math.inf:
        raise InputError(f"frames_per_second: {frames_per_second}. Remedy: a positive number.")


def save(figure: Figure, path: Path) -> None:
    """Write a figure, in the format that the file's name ends with (.png, .pdf, .svg, ...).

    Raises:
        InputError: the file cannot be written, or its format is unknown.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "empty.png"
    >>> save(Figure(figsize=(1, 1)), path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise InputError(
            f"{path}: pictures cannot be written in this format. Remedy: end the name with one of .{', .'.join(sorted(formats))}."
        )
    with replacing(path) as temporary:
        for text in figure.findobj(Text):  # names of users: a "$" in them begins no formula
            text.set_parse_math(False)
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def style(axes: Axes) -> None:
    """Draw ticks and frame thin and pale: the data come first."""
    axes.tick_params(labelsize=8, colors=MUTED, labelcolor=INK, length=3, width=0.6)
    for spine in axes.spines.values():
        spine.set_color("#c6cad4")
        spine.set_linewidth(0.6)
