"""Figures of anything below: frames run along the x axis, in seconds. No pyplot, hence no global state and no display."""

from softscribe.plots.canvas import save
from softscribe.plots.curves import plot_curves
from softscribe.plots.rolls import plot_activations, plot_transcription
from softscribe.plots.segment import plot_segment

__all__ = ["plot_activations", "plot_curves", "plot_segment", "plot_transcription", "save"]
