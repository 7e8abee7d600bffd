"""The audit's verdicts as a table on screen, and as audit.json and audit.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from softscribe.files import replacing
from softscribe.health.audit import THRESHOLDS, Verdict

_LONGEST_TABLE_ROWS = 30


def audit_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the doubtful pairs as a table for `rich.print`, the most doubtful first; at most 30 of them.

    >>> audit_table([]).row_count
    0
    """
    doubtful = [verdict for verdict in verdicts if verdict.is_doubtful]
    shown = doubtful[:_LONGEST_TABLE_ROWS]
    more = f"; the first {len(shown)}, all in audit.csv" if len(shown) < len(doubtful) else ""
    table = Table(title=f"{len(doubtful)} of {len(verdicts)} pairs are doubtful{more}", title_justify="left")
    for name in ("recording", "segment", "likely fault", "doubt", "evidence", "remedy"):
        table.add_column(name, justify="right" if name == "doubt" else "left", overflow="fold")
    for verdict in shown:
        table.add_row(verdict.recording, verdict.segment, verdict.fault, f"{verdict.doubt:.1f}", evidence_in_words(verdict), verdict.remedy)
    return table


def evidence_in_words(verdict: Verdict) -> str:
    """Return what was found, and the costs that say so, as percentages of the cost with scores that the recording does not play."""
    read = f", read so {verdict.best_costs[verdict.fault]:.0%}" if verdict.fault in verdict.best_costs else ""
    return f"{verdict.finding} (cost {verdict.cost:.0%} of a stranger's{read})"


def write_audit(verdicts: Sequence[Verdict], folder: Path, *, judged_by: str) -> tuple[Path, Path]:
    """Write all verdicts into `folder` as audit.json, with the thresholds and what judged them, and as audit.csv.

    Args:
        verdicts: of `audit`.
        folder: where to write; created if it is missing.
        judged_by: "features", or the model's folder.

    Returns:
        The paths of the two files.

    Raises:
        InputError: a file cannot be written.
    """
    rows = [asdict(verdict) for verdict in verdicts]
    json_path, csv_path = folder / "audit.json", folder / "audit.csv"
    with replacing(json_path) as temporary:
        content = {"judged_by": judged_by, "thresholds": THRESHOLDS, "pairs": rows}
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(csv_path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        bests = [fault for fault in THRESHOLDS if not rows or fault in rows[0]["best_costs"]]
        plain = [name for name in Verdict.__dataclass_fields__ if name != "best_costs"]
        writer.writerow([*plain, *(f"cost_if_{fault.replace(' ', '_')}" for fault in bests)])
        writer.writerows([*(row[name] for name in plain), *(row["best_costs"][fault] for fault in bests)] for row in rows)
    return json_path, csv_path
