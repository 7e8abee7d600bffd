"""Pictures show the right thing at the right place."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from softscribe.errors import InputError
from softscribe.plots import plot_activations, plot_curves, plot_segment, plot_transcription, save
from softscribe.plots.canvas import HEARD, MOST_COLUMNS, TRUE, WRITTEN
from softscribe.sound import HcqtSettings
from softscribe.transcription import Transcription

FRAMES_PER_SECOND = HcqtSettings().frames_per_second
FRAMES, TARGETS = 200, 4


def drawn(figure: Figure) -> np.ndarray:
    """The figure's pixels, (height, width, 3) in [0, 1], the first row at the bottom."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255


def color_at(pixels: np.ndarray, axes: Axes, x: float, y: float) -> np.ndarray:
    column, row = axes.transData.transform((x, y))
    return pixels[int(row), int(column)]


def panel(figure: Figure, title: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(title)]
    return found


def segment(outputs: int = 12) -> dict:
    """Four chords in uneven times: frames 0-19, 20-119, 120-139, 140-199 (the second target lasts longest), aligned rightly."""
    starts = np.array([0, 20, 120, 140])
    target_of_frame = np.searchsorted(starts, np.arange(FRAMES), side="right") - 1
    weak_targets = np.zeros((TARGETS, outputs), np.uint8)
    weak_targets[np.arange(TARGETS), [0, 4, 7, 11]] = 1
    expected_alignment = np.eye(TARGETS, dtype=np.float32)[target_of_frame]
    truth = weak_targets[target_of_frame]
    return {
        "features": np.random.default_rng(0).random((FRAMES + 74, 6, 216), np.float32),
        "activations": 0.9 * truth.astype(np.float32),
        "truth": truth,
        "weak_targets": weak_targets,
        "cost": 10 - 9 * expected_alignment,
        "expected_alignment": expected_alignment,
        "frames_per_second": FRAMES_PER_SECOND,
    }


def test_every_panel_spans_the_same_seconds() -> None:
    figure = plot_segment(**segment())
    images = [axes for axes in figure.axes if axes.images and axes.get_title(loc="left")]
    assert len(images) == 6
    ends = (-0.5 / FRAMES_PER_SECOND, (FRAMES - 0.5) / FRAMES_PER_SECOND)
    for axes in images:
        assert axes.get_xlim() == pytest.approx(ends)
        for image in axes.images:
            assert image.get_extent()[:2] == pytest.approx(ends)
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] == ["time (seconds)"]


@pytest.mark.parametrize("outputs", [12, 72])
def test_what_sounds_is_coloured_at_its_time_and_pitch(outputs: int) -> None:
    figure = plot_segment(**segment(outputs))
    pixels = drawn(figure)
    lowest = 0 if outputs == 12 else 24
    for title, color in (("Truth", TRUE), ("Weak targets, aligned", WRITTEN)):
        for frame, row in ((10, 0), (70, 4), (130, 7), (170, 11)):
            np.testing.assert_allclose(
                color_at(pixels, panel(figure, title), frame / FRAMES_PER_SECOND, lowest + row), to_rgb(color), atol=0.01
            )
            silent = color_at(pixels, panel(figure, title), frame / FRAMES_PER_SECOND, lowest + (row + 2) % 12 + 0.2)
            assert (silent > 0.8).all()


def test_edges_of_a_note_lie_between_frames() -> None:
    """The chord of frames 20-119 is drawn from 19.5 to 119.5 frames, each frame in the middle of its column."""
    figure = plot_segment(**segment())
    pixels, axes = drawn(figure), panel(figure, "Truth")
    for frame, sounds in ((19.2, False), (19.8, True), (119.2, True), (119.8, False)):
        assert (color_at(pixels, axes, frame / FRAMES_PER_SECOND, 4) < 0.5).all() == sounds


def test_weak_targets_as_given_know_no_time() -> None:
    figure = plot_segment(**segment())
    pixels, axes = drawn(figure), panel(figure, "Weak targets as given")
    for target, row in enumerate([0, 4, 7, 11]):
        middle = (target + 0.5) * FRAMES / TARGETS / FRAMES_PER_SECOND
        np.testing.assert_allclose(color_at(pixels, axes, middle, row), to_rgb(WRITTEN), atol=0.01)


def test_the_alignment_lies_over_the_cost_frames_right_targets_up() -> None:
    figure = plot_segment(**segment())
    pixels, axes = drawn(figure), panel(figure, "Cost matrix")
    for frame, target in ((10, 0), (70, 1), (130, 2), (170, 3)):
        np.testing.assert_allclose(color_at(pixels, axes, frame / FRAMES_PER_SECOND, target), to_rgb(WRITTEN), atol=0.01)
    beside = color_at(pixels, axes, 70 / FRAMES_PER_SECOND, 3)
    assert beside.max() - beside.min() < 0.01  # grey


def test_context_is_cut_off_the_features() -> None:
    arrays = segment()
    arrays["features"][:] = 0
    arrays["features"][37 + 50, 1, 100] = 1
    image = panel(plot_segment(**arrays), "Constant-Q").images[0]
    assert np.argwhere(image.get_array() > 0).tolist() == [[100, 50]]


def test_the_curves_tell_a_sharp_alignment_from_a_blurred_one() -> None:
    arrays = segment()
    lasting, together = panel(plot_segment(**arrays), "Health").lines
    np.testing.assert_allclose(lasting.get_ydata(), np.repeat([20, 100, 20, 60], [20, 100, 20, 60]), rtol=1e-5)
    np.testing.assert_allclose(together.get_ydata(), 1, rtol=1e-5)
    arrays["expected_alignment"] = np.full((FRAMES, TARGETS), 0.3, np.float32)
    together = panel(plot_segment(**arrays), "Health").lines[1]
    np.testing.assert_allclose(together.get_ydata(), TARGETS, rtol=1e-5)


def test_stretched_targets_have_the_health_of_their_note_sets() -> None:
    """Each target doubled, its probability shared between the two: the same note sets, the same curves."""
    arrays = segment()
    plain = panel(plot_segment(**arrays), "Health").lines
    for name, axis, factor in (("weak_targets", 0, 1), ("cost", 1, 1), ("expected_alignment", 1, 0.5)):
        arrays[name] = np.repeat(arrays[name], 2, axis=axis) * (factor if factor != 1 else arrays[name].dtype.type(1))
    arrays["expected_alignment"] = arrays["expected_alignment"].astype(np.float32)
    doubled = panel(plot_segment(**arrays), "Health").lines
    for one, other in zip(plain, doubled, strict=True):
        np.testing.assert_allclose(one.get_ydata(), other.get_ydata(), rtol=1e-5)


def test_without_truth_there_is_no_panel_for_it() -> None:
    figure = plot_segment(**segment() | {"truth": None})
    assert not [axes for axes in figure.axes if axes.get_title(loc="left").startswith("Truth")]


@pytest.mark.parametrize("name", ["features", "activations", "weak_targets", "cost", "expected_alignment"])
def test_values_that_are_not_finite_are_refused(name: str) -> None:
    arrays = segment()
    arrays[name] = arrays[name].astype(np.float32)
    arrays[name][0] = np.nan
    with pytest.raises(InputError, match=f"{name}: holds NaN"):
        plot_segment(**arrays)


def test_features_that_do_not_belong_are_refused() -> None:
    arrays = segment()
    with pytest.raises(InputError, match="features: 199 frames"):
        plot_segment(**arrays | {"features": arrays["features"][:199]})
    with pytest.raises(InputError, match="features: 5 channels"):
        plot_segment(**arrays | {"features": arrays["features"][:, :5]})
    five = HcqtSettings(harmonics=(1, 2, 3, 4, 5))
    plot_segment(**arrays | {"features": arrays["features"][:, :5], "settings": five})


def test_short_notes_stay_visible_in_long_recordings() -> None:
    """More frames than columns: a single frame in ten minutes still reaches the picture in full colour."""
    activations = np.zeros((4 * MOST_COLUMNS + 3, 12), np.float32)
    activations[[17_000, len(activations) - 1], [5, 7]] = 1
    figure = plot_activations(activations, FRAMES_PER_SECOND)
    axes = panel(figure, "Activations")
    image = axes.images[0]
    assert image.get_array().max(axis=1).tolist() == [0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    column = int(image.get_array()[5].argmax())
    left, right, *_ = image.get_extent()
    seconds = left + (column + 0.5) / image.get_array().shape[1] * (right - left)
    assert seconds == pytest.approx(17_000 / FRAMES_PER_SECOND, abs=2.5 / FRAMES_PER_SECOND)
    assert axes.get_xlim()[1] == pytest.approx((len(activations) - 0.5) / FRAMES_PER_SECOND)


@pytest.mark.parametrize("outputs", [12, 72])
def test_a_transcription_shows_its_notes_where_they_sound(outputs: int) -> None:
    activations = np.zeros((400, outputs), np.float32)
    activations[50:150, 11] = 1.0
    activations[200:350, 2] = 0.6
    transcription = Transcription(activations, FRAMES_PER_SECOND, 0.5)
    magnitudes = np.random.default_rng(0).random((400, 6, 216), np.float32)
    figure = plot_transcription(transcription, transcription.notes(), magnitudes, HcqtSettings(), "song.wav")
    pixels = drawn(figure)
    lowest = 0 if outputs == 12 else 24
    notes = panel(figure, "Notes: 2")
    np.testing.assert_allclose(color_at(pixels, notes, 100 / FRAMES_PER_SECOND, lowest + 11), to_rgb(HEARD), atol=0.01)
    unsure = color_at(pixels, notes, 275 / FRAMES_PER_SECOND, lowest + 2)
    assert (unsure[:2] > np.array(to_rgb(HEARD))[:2] + 0.05).all()
    assert (color_at(pixels, notes, 175 / FRAMES_PER_SECOND, lowest + 2) == 1).all()
    assert figure.axes[0].get_shared_x_axes().joined(figure.axes[0], notes)


def test_a_transcription_and_other_magnitudes_are_refused() -> None:
    transcription = Transcription(np.zeros((400, 12), np.float32), FRAMES_PER_SECOND, 0.5)
    with pytest.raises(InputError, match="magnitudes: 300 frames, activations: 400"):
        plot_transcription(transcription, transcription.notes(), np.zeros((300, 6, 216), np.float32), HcqtSettings())


def test_curves_of_one_metric_share_a_panel() -> None:
    figure = plot_curves(
        {
            "train/cost": ([0, 10, 20], [3.0, 2.0, float("inf")]),
            "validation/cost": ([10], [2.5]),
            "train/gamma": ([0, 10, 20], [5.0, 2.0, 1.0]),
        }
    )
    drawn(figure)
    cost, gamma = figure.axes
    assert [line.get_label() for line in cost.lines] == ["train", "validation"]
    assert cost.lines[0].get_xdata().tolist() == [0, 10, 20]
    assert np.isnan(cost.lines[0].get_ydata()[2])
    assert gamma.get_title(loc="left") == "train: gamma"
    assert gamma.lines[0].get_color() == cost.lines[0].get_color() != cost.lines[1].get_color()


def test_bad_curves_are_named() -> None:
    with pytest.raises(InputError, match="curves: none"):
        plot_curves({})
    with pytest.raises(InputError, match="'train/loss' has 2 steps and 1 values"):
        plot_curves({"train/loss": ([0, 1], [1.0])})


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_pictures_are_written_whole(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plots" / f"picture{suffix}"
    figure = plot_curves({"loss": ([0, 1], [1.0, 0.5])})
    save(figure, path)
    complete = path.read_bytes()
    assert len(complete) > 1000

    def fail(self: Figure, file: Path, **_options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(InputError, match="No space left"):
        save(figure, path)
    assert path.read_bytes() == complete
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"picture\.txt.*\.png"):
        save(Figure(), tmp_path / "picture.txt")


def test_plots_need_neither_pyplot_nor_a_display() -> None:
    program = "import sys, softscribe.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("title", ["$oops", "two $ and $ more", r"$\frac{1}$"])
def test_a_name_with_a_dollar_is_no_formula(tmp_path: Path, title: str) -> None:
    """A run may be called so; it would end without a model."""
    save(plot_curves({f"train/{title}": ([0, 1], [2.0, 1.0])}, title=title), tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 0
