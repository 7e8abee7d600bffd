"""What a model hears, as a piano roll: activations, and a whole transcription."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softscribe.errors import InputError
from softscribe.plots.canvas import (
    HEARD,
    check_frame_rate,
    check_image,
    color_bar,
    fundamental_channel,
    head,
    name_rows,
    shades,
    show_cqt,
    show_outputs,
    stack,
    time_axis,
    zoom_pitches,
)
from softscribe.sound import HcqtSettings, compress
from softscribe.transcription import TranscribedNotes, Transcription, output_pitches

NARROWEST_INCHES, WIDEST_INCHES, INCHES_PER_SECOND = 12.0, 48.0, 0.4


def plot_activations(activations: Float[np.ndarray, "frames outputs"], frames_per_second: float, title: str = "") -> Figure:
    """Draw activations over time.

    Args:
        activations: in [0, 1]. Shape: (N, K), K = 12 or 72
        frames_per_second: > 0.
        title: of the figure.

    Raises:
        InputError: nothing to draw, values that are not finite, or neither 12 nor 72 outputs.

    >>> plot_activations(np.random.default_rng(0).random((100, 12)), frames_per_second=43.07).axes[0].get_xlabel()
    'time (seconds)'
    """
    check_image(activations=activations)
    check_frame_rate(frames_per_second)
    output_pitches(activations.shape[1])
    figure, (panel,) = stack([1.6 if activations.shape[1] == 12 else 3.4], _width_inches(len(activations) / frames_per_second), title)
    head(panel.axes, "Activations")
    color_bar(panel, show_outputs(panel.axes, activations, frames_per_second, shades(HEARD)), "activation")
    time_axis(panel.axes, len(activations), frames_per_second)
    return figure


def plot_transcription(
    transcription: Transcription,
    notes: TranscribedNotes,
    magnitudes: Float[np.ndarray, "frames channels bins"],
    settings: HcqtSettings,
    title: str = "",
) -> Figure:
    """Draw what a model was given, what it heard, and the notes decoded from that, above each other.

    The figure grows with the recording, from 12 to 48 inches. Of 72 pitches, those from 3 below the lowest to 3 above the highest note
    are shown.

    Args:
        transcription: the activations. Shape: (N, K)
        notes: decoded from them.
        magnitudes: linear magnitudes of the HCQT that the model was given. Shape: (N, C, F)
        settings: of the HCQT.
        title: of the figure, such as the recording's name.

    Raises:
        InputError: magnitudes and activations differ in length, or hold values that are not finite.
    """
    activations, frames_per_second = transcription.activations, transcription.frames_per_second
    check_image(activations=activations, magnitudes=magnitudes)
    check_frame_rate(frames_per_second)
    if len(magnitudes) != len(activations):
        raise InputError(f"magnitudes: {len(magnitudes)} frames, activations: {len(activations)}. Remedy: give both of the same recording.")
    outputs = transcription.outputs
    roll_height = 1.6 if outputs == 12 else 2.6
    figure, (cqt, heard, decoded) = stack([2.4, roll_height, roll_height], _width_inches(len(activations) / frames_per_second), title)
    head(cqt.axes, "Constant-Q transform")
    show_cqt(cqt.axes, compress(magnitudes[:, fundamental_channel(settings)]), frames_per_second, settings)
    head(heard.axes, "Activations")
    color_bar(heard, show_outputs(heard.axes, activations, frames_per_second, shades(HEARD)), "activation")
    head(decoded.axes, f"Notes: {len(notes)}, from activations of at least {transcription.threshold:.2f}")
    _draw_notes(decoded.axes, notes, outputs)
    name_rows(decoded.axes, outputs)
    for panel in (heard, decoded):
        zoom_pitches(panel.axes, np.isin(transcription.pitches, notes.pitches))
    time_axis(decoded.axes, len(activations), frames_per_second)
    return figure


def _draw_notes(axes: Axes, notes: TranscribedNotes, outputs: int) -> None:
    """Draw a bar for each note, the paler the less sure the model is of it."""
    rows = notes.pitches % 12 if outputs == 12 else notes.pitches
    durations = notes.offsets_seconds - notes.onsets_seconds
    colors = shades(HEARD)(0.25 + 0.75 * notes.velocities / 127)
    for row in np.unique(rows):
        chosen = rows == row
        bars = list(zip(notes.onsets_seconds[chosen], durations[chosen], strict=True))
        axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=colors[chosen], edgecolors="white", linewidth=0.3)


def _width_inches(duration_seconds: float) -> float:
    return min(max(NARROWEST_INCHES, INCHES_PER_SECOND * duration_seconds), WIDEST_INCHES)
