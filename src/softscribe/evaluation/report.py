"""Measures of several recordings, their mean, and both as JSON, CSV and a table on the screen."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from softscribe.errors import InputError
from softscribe.files import replacing


def write_report(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], folder: Path | str) -> dict[str, Any]:
    """Write `folder/metrics.json` and `folder/evaluation/metrics.csv`, and return what the JSON file holds.

    That is: the summary's entries, the unweighted mean over the rows of every measure, and under `files` the rows themselves. The CSV
    file has one line for each row and a last one with the means, whose file is called `mean`. (`folder/metrics.csv` is where a run
    keeps its curves.)

    Args:
        rows: one for each recording: `file`, its name, and the measures. A measure that a row lacks is left out of its mean.
        summary: what holds for all of them (`threshold`, `split`) or was measured over all of them together; goes before the means.
        folder: made if it is not there.

    Raises:
        InputError: there are no rows, one has no `file`, a name stands for two things, or the folder cannot be written.

    >>> import tempfile
    >>> rows = [{"file": "a", "frame_f_measure": 0.5}, {"file": "b", "frame_f_measure": 1.0}]
    >>> write_report(rows, {"threshold": 0.4}, tempfile.mkdtemp())["frame_f_measure"]
    0.75
    """
    if not rows or any(not row.get("file") for row in rows):
        raise InputError("report: no rows, or one without `file`. Remedy: give one row for each recording, with its name.")
    means = _means(rows)
    clashes = sorted(({"files"} | set(means)) & set(summary))
    if clashes:
        raise InputError(f"report: {clashes} are measured for each file and given for all of them too. Remedy: rename them.")
    report = {**summary, **means, "files": [dict(row) for row in rows]}
    folder = Path(folder)
    with replacing(folder / "metrics.json") as path:
        path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(folder / "evaluation" / "metrics.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["file", *means], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, {"file": "mean", **means}])
    return report


def report_table(report: Mapping[str, Any], measures: Sequence[str] = ()) -> Table:
    """Return a table for the screen: one line for each file, and their mean below.

    Args:
        report: as `write_report` returned it, or as read from `metrics.json`.
        measures: the columns; precision, recall, F-measure, average precision and cosine similarity of frames if none is named.

    Raises:
        InputError: a measure is not in the report.

    >>> report = {"frame_f_measure": 0.75, "files": [{"file": "a", "frame_f_measure": 0.75}]}
    >>> table = report_table(report, ["frame_f_measure"])
    >>> [column.header for column in table.columns], table.row_count
    (['file', 'frame f-measure'], 2)
    """
    named = list(measures) or [f"frame_{name}" for name in ("precision", "recall", "f_measure", "average_precision", "cosine_similarity")]
    unknown = [name for name in named if name not in report]
    if unknown:
        raise InputError(f"measures: {unknown} are not in the report. Remedy: choose among {sorted(_means(report['files']))}.")
    table = Table(Column("file", overflow="fold"), *(_heading(name) for name in named))
    for row in report["files"]:
        table.add_row(str(row["file"]), *(_cell(row.get(name)) for name in named))
    table.add_section()
    table.add_row("mean", *(_cell(report[name]) for name in named), style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | int]:
    names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float))
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}


def _heading(name: str) -> str:
    return name.replace("_", " ").replace("f measure", "f-measure")


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.3f}"
