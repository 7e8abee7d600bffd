"""What lies in a run's folder, read for its report: what is missing or broken is said, never an error."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softscribe.errors import InputError
from softscribe.report.curve_file import curve_points

MOST_BYTES = 50_000_000
"""Of a file that is read as text."""

MOST_CONFIG_CHARACTERS = 100_000
"""YAML is slow to read: ours is a hundredth of that."""

ENVIRONMENT_NAME = "environment.json"

_PICTURE_FOLDER = re.compile(r"step-(\d{1,15})")


@dataclass(frozen=True)
class Alarm:
    """A line of alarms.jsonl."""

    step: int
    name: str
    evidence: str
    remedy: str
    action: str


@dataclass(frozen=True)
class RunFiles:
    """A run's folder. Every text in it stems from files that somebody else may have written.

    Attributes:
        folder: where it lies.
        config_text: config.yaml as it stands, empty if there is none.
        config: the same as a mapping, empty if it is none.
        curves: name -> (steps done, values).
        alarms: in their order; None without alarms.jsonl.
        measures: split -> what metrics.json says of it, `files` included.
        card: of the model.
        environment: name -> text.
        pictures: piece -> step -> file.
        gaps: what is missing or broken, a sentence each.
    """

    folder: Path
    config_text: str
    config: dict[str, Any]
    curves: dict[str, tuple[list[int], list[float]]]
    alarms: list[Alarm] | None
    measures: dict[str, dict[str, Any]]
    card: dict[str, Any]
    environment: dict[str, Any]
    pictures: dict[str, dict[int, Path]]
    gaps: list[str]

    @property
    def steps_done(self) -> int:
        """Steps that were done when something was logged last."""
        return max((steps[-1] for steps, _ in self.curves.values()), default=0)

    def setting(self, *keys: str) -> Any:
        """Return a value of the config, None if it has none there."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def read_run_files(folder: Path) -> RunFiles:
    """Read what lies in a run's folder."""
    gaps: list[str] = []
    config_text = _read_text(folder / "config.yaml", "the settings", gaps)
    run = RunFiles(
        folder=folder,
        config_text=config_text,
        config=_config(config_text, gaps),
        curves=_curves(folder / "metrics.csv", gaps),
        alarms=_alarms(folder / "alarms.jsonl", gaps),
        measures=_measures(folder, gaps),
        card=_read_json(folder / "model" / "card.json", "the model; training writes it at its end", gaps),
        environment=_read_json(folder / ENVIRONMENT_NAME, "the environment", gaps),
        pictures=_pictures(folder / "plots"),
        gaps=gaps,
    )
    if not run.pictures:
        gaps.append(
            "plots/: no pictures of alignments (trainer.pictures_every_validations=0, no validation pieces, or stopped before the first)."
        )
    return run


def read_seeds(path: Path, gaps: list[str]) -> dict[str, Any]:
    """Return what a seeds.json says, empty if there is none or it is broken; then `gaps` gets a sentence more."""
    return _read_json(path, "the seeds", gaps)


def clip(text: str, most: int = 400) -> str:
    """Return a text, cut to `most` characters: nobody's file makes a report unreadable.

    >>> clip("a long name", most=6)
    'a long…'
    """
    return text if len(text) <= most else text[:most] + "…"


def finite(value: Any) -> float | None:
    """Return a number out of somebody else's JSON, None for anything else: text, truth values, NaN, infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _read_text(path: Path, what: str, gaps: list[str]) -> str:
    try:
        if not path.exists():
            gaps.append(f"{path.name}: missing ({what}).")
        elif path.stat().st_size > MOST_BYTES:
            gaps.append(f"{path.name}: larger than {MOST_BYTES // 1_000_000} MB, not shown.")
        else:
            return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        gaps.append(f"{path.name}: cannot be read ({error.strerror}).")
    return ""


def _read_json(path: Path, what: str, gaps: list[str]) -> dict[str, Any]:
    text = _read_text(path, what, gaps)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        gaps.append(f"{path.name}: not the JSON that softscribe writes.")
        return {}
    return value


def _config(text: str, gaps: list[str]) -> dict[str, Any]:
    if len(text) > MOST_CONFIG_CHARACTERS:
        gaps.append(f"config.yaml: longer than {MOST_CONFIG_CHARACTERS:,} characters, shown in part and not read.")
        return {}
    try:
        value = yaml.safe_load(text) if text else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        gaps.append("config.yaml: not a config.")
        return {}
    return value


def _curves(path: Path, gaps: list[str]) -> dict[str, tuple[list[int], list[float]]]:
    if not _read_text(path, "the curves; nothing was logged", gaps):
        return {}
    try:
        return {clip(name): points for name, points in curve_points(path).items()}
    except InputError:
        gaps.append("metrics.csv: not the curves of a run.")
        return {}


def _alarms(path: Path, gaps: list[str]) -> list[Alarm] | None:
    if not path.exists():
        return None
    alarms: list[Alarm] = []
    unreadable = 0
    for line in _read_text(path, "the alarms", gaps).splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, *texts = (clip(str(entry.get(key, ""))) for key in ("name", "evidence", "remedy", "action"))
            alarms.append(Alarm(int(entry["step"]), name, *texts))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            unreadable += 1
    if unreadable:
        gaps.append(f"alarms.jsonl: {unreadable} lines are no alarms, and not shown.")
    return alarms


def _measures(folder: Path, gaps: list[str]) -> dict[str, dict[str, Any]]:
    """The run's own metrics.json first (the test split at the model's threshold), then those of other splits."""
    measures: dict[str, dict[str, Any]] = {}
    own = _read_json(folder / "metrics.json", "the measures on held-out pieces; softscribe evaluate writes it", gaps)
    if own:
        measures[_split(own)] = own
    for path in sorted(folder.glob("evaluation/*/metrics.json")):
        report = _read_json(path, "the measures", gaps)
        if report:
            measures[clip(f"{_split(report)}, threshold {report.get('threshold')}")] = report
    return measures


def _split(report: dict[str, Any]) -> str:
    return clip(str(report.get("split", "held-out")))


def _pictures(folder: Path) -> dict[str, dict[int, Path]]:
    pictures: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("step-*/*.png")):
        step = _PICTURE_FOLDER.fullmatch(path.parent.name)
        if step:
            pictures.setdefault(path.stem, {})[int(step[1])] = path
    return {piece: dict(sorted(by_step.items())) for piece, by_step in sorted(pictures.items())}
