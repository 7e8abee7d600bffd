"""One segment of training in a picture: what goes in, what comes out, and how the two are aligned."""

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from softscribe.errors import InputError
from softscribe.plots.canvas import (
    HEARD,
    INK,
    TRUE,
    WRITTEN,
    check_frame_rate,
    check_image,
    color_bar,
    fundamental_channel,
    head,
    shades,
    show_cqt,
    show_frames,
    show_outputs,
    stack,
    time_axis,
    zoom_pitches,
)
from softscribe.sound import HcqtSettings
from softscribe.transcription import output_pitches

WIDTH_INCHES = 12.0


def plot_segment(
    features: Float[np.ndarray, "T C F"],
    activations: Float[np.ndarray, "N K"],
    truth: Shaped[np.ndarray, "N K"] | None,
    weak_targets: Shaped[np.ndarray, "M K"],
    cost: Float[np.ndarray, "N M"],
    expected_alignment: Float[np.ndarray, "N M"],
    frames_per_second: float,
    *,
    settings: HcqtSettings | None = None,
    title: str = "",
) -> Figure:
    """Draw a segment from its sound to its alignment, in panels above each other over one time axis.

    From top to bottom: the constant-Q transform; the activations; the truth, if it is known; the targets as they are given, spread evenly
    over the segment; the targets where the alignment puts them (each frame the mean of its targets, weighted by the expected
    alignment); the cost matrix, targets upwards, with the expected alignment over it; and two curves that tell whether the alignment is
    healthy, in note sets, since equal neighbours among the targets are one: how many of them share a frame (the exponential of the
    entropy in nats; above 3, the alignment is blurred, or has collapsed onto this frame), and how many frames the frame's own lasts.
    Of 72 pitches, those that sound anywhere in the segment are shown, with three semitones above and below.

    Args:
        features: log-compressed HCQT; what exceeds the N frames, equally before and after, is context and is not drawn.
        activations: in [0, 1], K = 12 or 72.
        truth: the frame-wise truth.
        weak_targets: in their order, at any pace.
        cost: of each frame with each target.
        expected_alignment: the probability that the path passes each cell.
        frames_per_second: > 0.
        settings: of the HCQT; the default ones if None.
        title: of the figure.

    Raises:
        InputError: the arrays do not belong together, are empty, or hold values that are not finite.
    """
    settings = HcqtSettings() if settings is None else settings
    frames = _check(features, activations, truth, weak_targets, cost, expected_alignment, settings)
    check_frame_rate(frames_per_second)
    roll_height = 1.15 if activations.shape[1] == 12 else 1.7
    names = ["cqt", "heard", *(["truth"] if truth is not None else []), "written", "aligned", "cost", "curves"]
    heights = {"cqt": 1.5, "cost": 2.6, "curves": 1.1}
    figure, panels = stack([heights.get(name, roll_height) for name in names], WIDTH_INCHES, title)
    panel = dict(zip(names, panels, strict=True))

    context = (len(features) - frames) // 2
    head(panel["cqt"].axes, "Constant-Q transform")
    show_cqt(panel["cqt"].axes, features[context : context + frames, fundamental_channel(settings)], frames_per_second, settings)
    head(panel["heard"].axes, "Activations: what the network hears")
    color_bar(panel["heard"], show_outputs(panel["heard"].axes, activations, frames_per_second, shades(HEARD)), "activation")
    if truth is not None:
        head(panel["truth"].axes, "Truth")
        show_outputs(panel["truth"].axes, truth, frames_per_second, shades(TRUE))
    targets = len(weak_targets)
    head(panel["written"].axes, f"Weak targets as given: {targets}")
    evenly = weak_targets[np.arange(frames) * targets // frames]
    show_outputs(panel["written"].axes, evenly, frames_per_second, shades(WRITTEN))
    head(panel["aligned"].axes, "Weak targets, aligned: what the loss asks for")
    show_outputs(panel["aligned"].axes, _share(expected_alignment) @ weak_targets, frames_per_second, shades(WRITTEN))
    seen = [activations >= 0.5, weak_targets > 0, *([truth > 0] if truth is not None else [])]
    sounding = np.asarray(np.concatenate(seen).any(axis=0))
    for name in set(panel) & {"heard", "truth", "written", "aligned"}:
        zoom_pitches(panel[name].axes, sounding)
    head(panel["cost"].axes, "Cost matrix, with the expected alignment")
    color_bar(panel["cost"], _draw_alignment(panel["cost"].axes, cost, expected_alignment, frames_per_second), "cost")
    head(panel["curves"].axes, "Health of the alignment")
    _draw_curves(panel["curves"].axes, weak_targets, expected_alignment, frames_per_second)
    time_axis(panel["curves"].axes, frames, frames_per_second)
    return figure


def _share(expected_alignment: Float[np.ndarray, "N M"]) -> Float[np.ndarray, "N M"]:
    """The probability of each target given the frame: rows sum to 1."""
    total = expected_alignment.sum(axis=1, keepdims=True)
    return expected_alignment / np.maximum(total, np.finfo(np.float32).tiny)


def _draw_alignment(
    axes: Axes, cost: Float[np.ndarray, "N M"], expected_alignment: Float[np.ndarray, "N M"], frames_per_second: float
) -> AxesImage:
    """Draw the cost in grey, high costs dark, and the expected alignment over it, the more opaque the more probable."""
    image = show_frames(axes, cost, frames_per_second, "Greys", largest=float(np.quantile(cost, 0.98)) * 1.5)
    # The square root lets a wide ridge of small probabilities show as well.
    opacity = np.sqrt(np.clip(expected_alignment, 0, 1)).T
    color = np.broadcast_to(to_rgb(WRITTEN), (*opacity.shape, 3))
    axes.imshow(
        np.concatenate([color, opacity[..., None]], axis=-1),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=image.get_extent(),
    )
    axes.set_ylabel("target", fontsize=8, color=INK)
    return image


def _draw_curves(
    axes: Axes, weak_targets: Shaped[np.ndarray, "M K"], expected_alignment: Float[np.ndarray, "N M"], frames_per_second: float
) -> None:
    begins_set = np.concatenate([[True], (weak_targets[1:] != weak_targets[:-1]).any(axis=1)])
    share = np.add.reduceat(_share(expected_alignment), np.flatnonzero(begins_set), axis=1)
    seconds = np.arange(len(share)) / frames_per_second
    lasting = share @ share.sum(axis=0)
    together = np.exp(-(share * np.log(np.maximum(share, 1e-30))).sum(axis=1))
    axes.plot(seconds, lasting, color=HEARD, linewidth=1.2, label="frames that its note set lasts")
    axes.plot(seconds, together, color=WRITTEN, linewidth=1.2, label="note sets that share the frame")
    axes.set_yscale("log")
    axes.set_ylim(0.8, max(12.0, 1.4 * float(lasting.max()), 1.4 * float(together.max())))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e6e8ee", linewidth=0.6)
    axes.set_ylabel("count", fontsize=8, color=INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2, frameon=False, fontsize=8, labelcolor=INK, borderaxespad=0)


def _check(
    features: Float[np.ndarray, "T C F"],
    activations: Float[np.ndarray, "N K"],
    truth: Shaped[np.ndarray, "N K"] | None,
    weak_targets: Shaped[np.ndarray, "M K"],
    cost: Float[np.ndarray, "N M"],
    expected_alignment: Float[np.ndarray, "N M"],
    settings: HcqtSettings,
) -> int:
    """Return the number of frames."""
    check_image(features=features, activations=activations, weak_targets=weak_targets, cost=cost, expected_alignment=expected_alignment)
    frames, outputs = activations.shape
    output_pitches(outputs)
    matrix = (frames, len(weak_targets))
    wanted = {
        "weak_targets": (weak_targets, (matrix[1], outputs)),
        "cost": (cost, matrix),
        "expected_alignment": (expected_alignment, matrix),
    }
    if truth is not None:
        wanted["truth"] = (truth, (frames, outputs))
    for name, (values, shape) in wanted.items():
        if values.shape != shape:
            raise InputError(f"{name}: shape {values.shape}, the other arrays ask for {shape}. Remedy: give all of the same segment.")
    if features.shape[1:] != (settings.channels, settings.bins):
        raise InputError(
            f"features: {features.shape[1]} channels of {features.shape[2]} bins, settings: {settings.channels} of {settings.bins}. "
            "Remedy: give the settings of these features."
        )
    if len(features) < frames or (len(features) - frames) % 2:
        raise InputError(f"features: {len(features)} frames, activations: {frames}. Remedy: as many, or equal context before and after.")
    return frames
