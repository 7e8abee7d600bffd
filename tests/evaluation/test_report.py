"""What a report says is what was measured, in the file, in the table and in the means."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from softscribe.errors import InputError
from softscribe.evaluation import report_table, write_report

ROWS = [
    {"file": "one, with a comma", "frame_f_measure": 0.5, "frame_precision": 1.0, "alignment_onsets": 3},
    {"file": "zwei Stücke", "frame_f_measure": 0.8, "frame_precision": 0.25},
]


def test_json_holds_summary_means_and_files(tmp_path: Path) -> None:
    report = write_report(ROWS, {"threshold": 0.4, "split": "test"}, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8")) == report
    assert report["frame_f_measure"] == pytest.approx(0.65)
    assert report["frame_precision"] == 0.625
    assert report["alignment_onsets"] == 3  # the mean over files that have it
    assert report["threshold"] == 0.4
    assert report["files"] == ROWS
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == ["evaluation", "metrics.csv", "metrics.json"]


def test_csv_reads_back(tmp_path: Path) -> None:
    write_report(ROWS, {}, tmp_path)
    with (tmp_path / "evaluation" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == ["one, with a comma", "zwei Stücke", "mean"]
    assert [float(line["frame_f_measure"]) for line in lines] == pytest.approx([0.5, 0.8, 0.65])
    assert lines[1]["alignment_onsets"] == ""


def test_the_table_shows_every_file_and_the_mean(tmp_path: Path) -> None:
    report = write_report(ROWS, {}, tmp_path)
    console = Console(file=io.StringIO(), width=100)
    console.print(report_table(report, ["frame_f_measure", "alignment_onsets"]))
    text = console.file.getvalue()
    for word in ("one, with a comma", "zwei Stücke", "mean", "0.500", "0.800", "0.650", "f-measure"):
        assert word in text
    with pytest.raises(InputError, match="frame_recall"):
        report_table(report)


def test_bad_reports_are_named(tmp_path: Path) -> None:
    for rows in ([], [{"frame_f_measure": 1.0}]):
        with pytest.raises(InputError, match="report"):
            write_report(rows, {}, tmp_path)
    with pytest.raises(InputError, match="frame_precision"):
        write_report(ROWS, {"frame_precision": 1.0}, tmp_path)
    (tmp_path / "taken" / "metrics.json").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        write_report(ROWS, {}, tmp_path / "taken")
    assert not (tmp_path / "metrics.json").exists()
