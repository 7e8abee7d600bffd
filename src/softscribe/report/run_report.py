"""The report of a run: report.html in its folder, made of nothing but what lies in that folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softscribe.health import LIMITS, HealthMonitor
from softscribe.report import chart
from softscribe.report.chart import Curve, describe, make_chart, number_text
from softscribe.report.page import REPORT_NAME, write_page
from softscribe.report.pictures import embed_pictures
from softscribe.report.run_files import MOST_CONFIG_CHARACTERS, RunFiles, clip, finite, read_run_files

HEALTH = "health/"
"""Columns of metrics.csv whose name begins so are health numbers."""

VALIDATION_COST = "validation/cost"

MOST_CURVES, MOST_ALARMS, MOST_FILES, MOST_MEASURES = 100, 200, 200, 80
"""How much of its kind a report shows; it says how much it leaves out."""

FEWEST_OBSERVATIONS = 2
"""An alarm sounds at the second observation that breaks a limit."""

MOST_MARKS = 30
"""Alarms that are marked in the charts, every one of them in every chart; more would hide the curves."""

LAYOUT = {name.lower(): getattr(chart, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")}


@dataclass(frozen=True)
class Headline:
    """A box of the verdict; `tone` is plain, good, bad or unknown."""

    label: str
    value: str
    detail: str = ""
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


def write_run_report(folder: Path) -> Path:
    """Write `folder`/report.html: verdict, alarms, curves, health numbers, alignments over time, measures, config and environment of a run.

    It is one file that needs neither a server nor a network. What the folder lacks is said in the report. All texts in the
    folder are taken for text: they are escaped, and the page forbids the browser any script but its own and any connection.

    Args:
        folder: the run's: config.yaml, metrics.csv, alarms.jsonl, plots/, model/card.json, metrics.json, evaluation/, environment.json.

    Returns:
        The file.

    Raises:
        InputError: the file cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "metrics.csv").write_text("step,train/loss\\n0,2.5\\n")
    >>> "train/loss" in write_run_report(folder).read_text()
    True
    """
    run = read_run_files(folder)
    curves = dict(list(run.curves.items())[:MOST_CURVES])
    last_step = max((steps[-1] for steps, _ in curves.values()), default=0)
    marks = [(alarm.step, f"{clip(alarm.name, 60)}, step {alarm.step}") for alarm in (run.alarms or [])[:MOST_MARKS]]
    health = {name: curve for name, curve in curves.items() if name.startswith(HEALTH)}
    training = {name: curve for name, curve in curves.items() if name not in health}
    training_charts = [make_chart(title, lines, last_step, marks) for title, lines in _panels(training).items()]
    health_charts = [
        make_chart(_spoken(name.removeprefix(HEALTH)), {"last": curve}, last_step, marks, _limits(name.removeprefix(HEALTH)))
        for name, curve in health.items()
    ]
    pictures = embed_pictures(run.pictures)
    return write_page(
        folder / REPORT_NAME,
        "run.html",
        title=f"{_text(run.setting('name'), 'a run')}, seed {_text(run.setting('seed'), 'unknown')}",
        subtitle=_subtitle(run),
        headlines=[_f_measure(run), _alignment_error(run), _cost(run), _alarm_count(run)],
        alarms=(run.alarms or [])[:MOST_ALARMS],
        alarms_left_out=max(len(run.alarms or []) - MOST_ALARMS, 0),
        gaps=run.gaps,
        training_charts=training_charts,
        health_charts=health_charts,
        curves_left_out=len(run.curves) - len(curves),
        layout=LAYOUT,
        pictures=pictures,
        pieces_shown=len(pictures),
        pieces_known=len(run.pictures),
        measures=_measures(run.measures),
        files=_files(next(iter(run.measures.values()), {})),
        curve_rows=_curve_rows(curves),
        card_rows=[[name, text] for name, text in _flat(run.card)],
        config_text=clip(run.config_text, MOST_CONFIG_CHARACTERS),
        environment_rows=[[name, text] for name, text in _flat(run.environment)],
    )


def _subtitle(run: RunFiles) -> str:
    total = run.setting("trainer", "steps")
    steps = f"logged up to {run.steps_done:,} of {_text(total, 'unknown')} steps"
    known = isinstance(total, int) and run.steps_done >= total
    state = "finished" if run.card and known else "ended before its last step" if run.card else "not finished"
    loss, corpus = (_text(run.setting(*keys), "unknown") for keys in (("loss", "name"), ("corpus", "name")))
    return f"{run.folder.resolve().name} · {state}, {steps} · loss {loss} · corpus {corpus}"


def _f_measure(run: RunFiles) -> Headline:
    report = next(iter(run.measures.values()), {})
    value = finite(report.get("frame_f_measure"))
    if value is None:
        return Headline("Frame F-measure", "not measured", "softscribe evaluate measures it on held-out pieces.", "unknown")
    split = _text(report.get("split"), "held-out")
    kind = {12: "pitch classes", 72: "pitches"}.get(report.get("outputs"), "outputs")  # type: ignore[arg-type]  # None is a key of none
    files = report.get("files")
    count = f", {len(files)} recordings" if isinstance(files, list) else ""
    baseline = finite(report.get("baseline_frame_f_measure"))
    comparison = "" if baseline is None else f"; baseline without learning {baseline:.3f}"
    tone = "bad" if baseline is not None and value < baseline else "plain"
    return Headline("Frame F-measure", f"{value:.3f}", f"{kind}, {split} split{count}{comparison}", tone)


def _alignment_error(run: RunFiles) -> Headline:
    report = next(iter(run.measures.values()), {})
    median, within, signed, onsets = (
        finite(report.get(f"alignment_{name}")) for name in ("median_error_ms", "within_100_ms", "mean_signed_error_ms", "onsets")
    )
    if median is None:
        return Headline("Alignment error, median", "not measured", "It needs recordings whose true onsets are known.", "unknown")
    details = [
        None if within is None else f"{within:.0%} within 100 ms",
        None if onsets is None else f"of {onsets:.0f} onsets",
        None if signed is None else f"{abs(signed):.0f} ms {'late' if signed > 0 else 'early'} on average",
    ]
    return Headline("Alignment error, median", f"{median:.0f} ms", ", ".join(detail for detail in details if detail))


def _cost(run: RunFiles) -> Headline:
    label = "Validation cost per frame"
    if VALIDATION_COST not in run.curves:
        return Headline(label, "not logged", "No validation has ended yet.", "unknown")
    span = describe(*run.curves[VALIDATION_COST])
    return Headline(label, span.last, f"lowest {span.lowest}")


def _alarm_count(run: RunFiles) -> Headline:
    if run.alarms:
        names = ", ".join(sorted({alarm.name for alarm in run.alarms}))
        return Headline("Alarms", f"{len(run.alarms):,}", f"{clip(names)}; the first at step {run.alarms[0].step}", "bad")
    observations = max((len(steps) for name, (steps, _) in run.curves.items() if name.startswith(HEALTH)), default=0)
    if run.alarms is None and not observations:
        return Headline("Alarms", "not watched", "This run logged no health numbers.", "unknown")
    if observations < FEWEST_OBSERVATIONS:
        return Headline(
            "Alarms", "none", f"Too few observations for one: {observations}. Remedy: a lower health.interval_steps.", "unknown"
        )
    if never := _never_judged(run):
        return Headline("Alarms", "none", f"in {observations:,} observations, in which {', '.join(never)} could not sound", "unknown")
    return Headline("Alarms", "none", f"in {observations:,} observations, {run.steps_done:,} steps", "good")


def _never_judged(run: RunFiles) -> list[str]:
    """What the run's own monitor said at its end."""
    total, monitor = run.setting("trainer", "steps"), HealthMonitor()
    total = max(run.steps_done, total) if isinstance(total, int) else run.steps_done
    rows: dict[int, dict[str, float]] = {}
    for name, (steps, values) in run.curves.items():
        for step, value in zip(steps, values, strict=True) if name.startswith(HEALTH) else []:
            rows.setdefault(step, {})[name.removeprefix(HEALTH)] = value
    for step in sorted(rows):
        monitor.observe(rows[step], progress=min(step / total, 1.0))  # rows in no order: the last is not the latest
    return monitor.never_judged()


def _panels(curves: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Put curves such as train/cost and validation/cost, which say the same of different data, into one panel."""
    panels: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        origin, _, metric = name.rpartition("/")
        panels.setdefault(_spoken(metric), {})[origin or metric] = curve
    return panels


def _limits(number: str) -> list[tuple[float, str]]:
    """Return where the healthy range of a health number ends, and in words."""
    limits = [limit for limit in LIMITS if limit.number == number]
    return [
        (end, words + (f" after {limit.from_progress:.0%} of the training" if limit.from_progress else ""))
        for limit in limits
        for end, words in limit.ends().items()
    ]


def _measures(by_split: Mapping[str, Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for report in by_split.values() for name, value in report.items() if _is_plain(value)))
    rows = [[_spoken(name), *(_text(report.get(name)) for report in by_split.values())] for name in names[:MOST_MEASURES]]
    return Table(["measure", *by_split], rows)


def _files(report: Mapping[str, Any]) -> Table:
    entries = report.get("files")
    files = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    shown = files[:MOST_FILES]
    names = list(dict.fromkeys(name for entry in shown for name, value in entry.items() if name != "file" and _is_plain(value)))
    names = names[:MOST_MEASURES]
    rows = [[_text(entry.get("file")), *(_text(entry.get(name)) for name in names)] for entry in shown]
    caption = f"{len(shown)} of {len(files)} recordings; all stand in evaluation/metrics.csv"
    return Table(["file", *map(_spoken, names)], rows, caption)


def _curve_rows(curves: Mapping[str, Curve]) -> list[list[str]]:
    spans = {name: describe(*curve) for name, curve in curves.items()}
    return [[name, span.first, span.last, span.lowest, span.highest] for name, span in spans.items()]


def _flat(value: Mapping[str, Any], prefix: str = "", depth: int = 3) -> list[tuple[str, str]]:
    """Return the entries of nested mappings with their paths, such as model.name."""
    flat: list[tuple[str, str]] = []
    for name, entry in value.items():
        if isinstance(entry, dict) and depth:
            flat += _flat(entry, f"{prefix}{name}.", depth - 1)
        else:
            flat.append((clip(f"{prefix}{name}"), _text(entry)))
    return flat[:MOST_MEASURES]


def _spoken(name: str) -> str:
    return clip(name.replace("_", " "))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _text(value: Any, unknown: str = "") -> str:
    """Return any value out of a file as a short text."""
    if value is None:
        return unknown
    return number_text(value) if isinstance(value, float) else clip(str(value))
