"""Run folders as training and evaluation leave them, made without either."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from softscribe.report import write_environment

STEPS = 60
PIECES = ("bwv253", "bwv254")
CURVES = ("train/loss", "train/gradient_norm", "validation/cost", "validation/monitored_cost", "health/path_entropy", "health/blur_frames")
ALARMS = [
    {"step": 29, "name": "blur", "evidence": "entry_spread_frames 31.00", "remedy": "let gamma end lower", "action": "warned"},
    {"step": 49, "name": "collapse", "evidence": "largest share 0.93", "remedy": "stretched targets", "action": "went back to step 40"},
]
MEASURES = {
    "split": "test",
    "outputs": 12,
    "threshold": 0.4,
    "alignment_median_error_ms": 26.4,
    "alignment_within_100_ms": 0.94,
    "alignment_mean_signed_error_ms": 11.8,
    "alignment_onsets": 512,
    "frame_f_measure": 0.712,
    "baseline_frame_f_measure": 0.677,
    "files": [{"file": "bwv255", "frame_f_measure": 0.7}, {"file": "bwv256", "frame_f_measure": 0.724}],
}


def write_curves(path: Path, names: tuple[str, ...] = CURVES, steps: int = STEPS) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *names])
        for step in range(9, steps, 10):
            writer.writerow([step, *(float(10 * np.exp(-step / 30) + rng.random()) for _ in names)])


def write_run(folder: Path, seed: int = 0) -> Path:
    """Write all that a report is made of."""
    for name in ("model", "evaluation/validation"):
        (folder / name).mkdir(parents=True)
    config = {
        "name": "demo",
        "seed": seed,
        "trainer": {"steps": STEPS},
        "loss": {"name": "sdtw", "gamma": {"start": 5.0}},
        "corpus": {"name": "demo-small"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_curves(folder / "metrics.csv")
    (folder / "alarms.jsonl").write_text("".join(json.dumps(alarm) + "\n" for alarm in ALARMS))
    (folder / "metrics.json").write_text(json.dumps(MEASURES))
    (folder / "evaluation" / "validation" / "metrics.json").write_text(
        json.dumps(MEASURES | {"split": "validation", "frame_f_measure": 0.8})
    )
    (folder / "model" / "card.json").write_text(json.dumps({"model": {"name": "mcnn"}, "threshold": 0.4, "data": {"minutes": 12.5}}))
    for step in range(10, STEPS + 1, 10):
        for number, piece in enumerate(PIECES):
            path = folder / "plots" / f"step-{step:06d}" / f"{piece}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (720, 640), (4 * step, 160, 90 * number)).save(path)
    write_environment(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "2026-11-24_12-00-00")


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A folder of three seeds."""
    folder = tmp_path / "2026-11-24_13-00-00"
    for seed in range(3):
        write_run(folder / f"seed-{seed}", seed)
    summary = {"frame_f_measure": {"mean": 0.712, "deviation": 0.005}, "alignment_median_error_ms": {"mean": 26.4, "deviation": 1.5}}
    (folder / "seeds.json").write_text(json.dumps({"seeds": [0, 1, 2], **summary}))
    return folder
