"""The report of several seeds: report.html in their common folder, which leads to the seeds' own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softscribe.report.chart import Curve, make_chart, number_text
from softscribe.report.page import REPORT_NAME, write_page
from softscribe.report.run_files import RunFiles, clip, finite, read_run_files, read_seeds
from softscribe.report.run_report import LAYOUT, MOST_CURVES, MOST_MEASURES, Headline, Table

MOST_SEEDS = 30

_COLUMNS = {
    "frame F-measure": ("frame_f_measure", 3),
    "alignment error (ms)": ("alignment_median_error_ms", 0),
    "within 100 ms": ("alignment_within_100_ms", 2),
}


def write_seeds_report(folder: Path) -> Path:
    """Write `folder`/report.html: what several seeds have in common, with their curves over each other and links to their own reports.

    Args:
        folder: that of the seeds: seeds.json, and a run's folder seed-0, seed-1, ... for each.

    Returns:
        The file.

    Raises:
        InputError: the file cannot be written.
    """
    gaps: list[str] = []
    summary = read_seeds(folder / "seeds.json", gaps)
    numbers = summary.get("seeds")
    seeds = [number for number in numbers if type(number) is int] if isinstance(numbers, list) else []
    runs = {number: read_run_files(folder / f"seed-{number}") for number in seeds[:MOST_SEEDS]}
    if len(seeds) > len(runs):
        gaps.append(f"seeds.json: {len(seeds)} seeds, of which {len(runs)} are shown.")
    gaps += [f"seed-{number}: {gap}" for number, run in runs.items() for gap in run.gaps if not gap.startswith("plots/")]
    alarms = sum(len(run.alarms or []) for run in runs.values())
    name = next((run.setting("name") for run in runs.values()), None)
    return write_page(
        folder / REPORT_NAME,
        "seeds.html",
        title=f"{clip(str(name or 'a run'))}, {len(seeds)} seeds",
        subtitle=folder.resolve().name,
        headlines=[
            _headline("Frame F-measure", summary.get("frame_f_measure"), "{:.3f}"),
            _headline("Alignment error, median", summary.get("alignment_median_error_ms"), "{:.0f} ms"),
            Headline("Alarms", f"{alarms:,}" if alarms else "none", "over all seeds", "bad" if alarms else "plain"),
        ],
        gaps=gaps,
        seed_columns=[*_COLUMNS, "steps", "alarms"],
        seeds=[{"number": number, "cells": _cells(run)} for number, run in runs.items()],
        report_name=REPORT_NAME,
        charts=_charts(runs),
        layout=LAYOUT,
        measures=Table(["measure", "mean", "deviation"], _rows(summary)),
    )


def _headline(label: str, entry: Any, pattern: str) -> Headline:
    mean, deviation = _mean_and_deviation(entry)
    if mean is None:
        return Headline(label, "not measured", tone="unknown")
    return Headline(label, pattern.format(mean), "" if deviation is None else f"± {pattern.format(deviation)} over the seeds")


def _mean_and_deviation(entry: Any) -> tuple[float | None, float | None]:
    return (finite(entry.get("mean")), finite(entry.get("deviation"))) if isinstance(entry, dict) else (None, None)


def _rows(summary: Mapping[str, Any]) -> list[list[str]]:
    measured = {name: _mean_and_deviation(entry) for name, entry in summary.items()}
    rows = [
        [clip(name.replace("_", " ")), number_text(mean), "" if deviation is None else number_text(deviation)]
        for name, (mean, deviation) in measured.items()
        if mean is not None
    ]
    return rows[:MOST_MEASURES]


def _cells(run: RunFiles) -> list[str]:
    report = next(iter(run.measures.values()), {})
    measured = [(finite(report.get(name)), digits) for name, digits in _COLUMNS.values()]
    texts = ["" if value is None else f"{value:.{digits}f}" for value, digits in measured]
    return [*texts, f"{run.steps_done:,}", "not known" if run.alarms is None else str(len(run.alarms))]


def _charts(runs: Mapping[int, RunFiles]) -> list[Any]:
    by_name: dict[str, dict[str, Curve]] = {}
    for number, run in runs.items():
        for name, curve in run.curves.items():
            by_name.setdefault(name, {})[f"seed {number}"] = curve
    last_step = max((run.steps_done for run in runs.values()), default=0)
    shown = list(by_name.items())[:MOST_CURVES]
    return [make_chart(name.replace("/", ": ").replace("_", " "), curves, last_step) for name, curves in shown]
