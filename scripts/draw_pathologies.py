"""Draw the figure of docs/health.md: one held-out segment as a healthy network and the four failed ones of the study hear and align it.

    python scripts/draw_pathologies.py STUDY_FOLDER [--segment 0] [--seed 0]

STUDY_FOLDER is that of `study_pathologies.py`, whose recipes all/default and PATHOLOGY/provoked have to be there for that seed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignment_sheet import label
from softscribe.alignment import bce_cost
from softscribe.cli.settings import compose_config, read_settings
from softscribe.corpora import FeatureStore
from softscribe.evaluation import true_target_onsets
from softscribe.models import load_model
from softscribe.plots.canvas import HEARD, TRUE, WRITTEN, head, save, shades, show_frames, show_outputs, style, time_axis
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings
from softscribe.training.losses import aligning, create_loss
from softscribe.training.segments import AnnotatedSegment, annotated_segments
from softscribe.transcription import predict
from study_pathologies import NETWORK, words_of

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "pathologies.png"
RUNS = {
    "healthy": ("all", "default"),
    "collapse": ("collapse", "provoked"),
    "diagonalization": ("diagonalization", "provoked"),
    "blur": ("blur", "provoked"),
    "shift": ("shift", "provoked"),
}


def draw_run(
    top: Axes, bottom: Axes, title: str, folder: Path, settings: TrainSettings, segment: AnnotatedSegment, onsets: np.ndarray
) -> None:
    """Draw E, as the run's training had it in the end, and the activations, neither moved in time."""
    fps, targets = segment.prepared.frames_per_second, settings.targets
    model, _ = load_model(folder / "model")
    activations = predict(model, segment.prepared.features)[segment.first_frame :][: segment.frame_count]
    rows = segment.target_of_row(targets)
    cost = bce_cost(
        torch.logit(torch.from_numpy(activations)[None], eps=1e-6), torch.from_numpy(segment.unique(targets).values[rows])[None]
    )
    counts = torch.tensor([cost.shape[1]]), torch.tensor([cost.shape[2]])
    aligned = aligning(create_loss(settings.loss)).final_alignment(cost, *counts)[0].numpy()
    of_unique = np.zeros((len(aligned), rows[-1] + 1))
    np.add.at(of_unique.T, rows, aligned.T)
    show_frames(top, of_unique / of_unique.sum(axis=1, keepdims=True), fps, shades(WRITTEN), largest=1.0)
    known = np.flatnonzero(~np.isnan(onsets))
    top.plot(onsets[known], known - 0.5, "o", color=TRUE, markersize=2.5)
    head(top, title)
    show_outputs(bottom, activations, fps, shades(HEARD))
    truth = segment.truth(targets.outputs)
    assert truth is not None
    around = np.pad(truth.T, ((1, 1), (0, 0)))  # or the lowest and the highest row had no outline
    bottom.contour(np.arange(len(truth)) / fps, np.arange(-1, len(around) - 1), around, levels=[0.5], colors=TRUE, linewidths=0.6)
    time_axis(bottom, len(activations), fps)
    top.set_xlim(bottom.get_xlim())
    top.tick_params(labelbottom=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--segment", type=int, default=0, help="which of the test segments")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figure = Figure(figsize=(11.0, 4.2), layout="constrained", facecolor="white")
    panels = figure.subplots(2, len(RUNS), sharey="row")
    for column, (title, (pathology, recipe)) in enumerate(RUNS.items()):
        settings = read_settings(TrainSettings, compose_config("train", words_of(pathology, recipe, options.seed, NETWORK)))
        recordings = FeatureStore(Path(settings.store), HcqtSettings.from_dict(settings.features)).recordings()
        segment = annotated_segments(recordings, "test")[options.segment]
        performed = segment.prepared.recording.truth
        assert performed is not None
        onsets = true_target_onsets(segment.unique(settings.targets).onsets_quarters, segment.segment.score_start_quarters, performed)
        top, bottom = panels[:, column]
        style(top)
        style(bottom)
        folder = options.folder / pathology / recipe.replace(" ", "_") / str(options.seed) / "run"
        draw_run(top, bottom, title, folder, settings, segment, onsets - segment.first_frame / segment.prepared.frames_per_second)
        if column:
            bottom.set_ylabel("")
        else:
            label(top, title, "", "target")
    save(figure, PICTURE)


if __name__ == "__main__":
    main()
