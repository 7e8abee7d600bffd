"""docs/health.md: its loop runs, and its tables name what there is."""

import re
from pathlib import Path

import pytest

from softscribe.health import LIMITS, ActivationHealth, AlignmentHealth, Diagonalization

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
def test_the_examples_run(example: str) -> None:
    exec(compile(example, "health.md", "exec"), {})


def test_every_number_is_described_and_every_limit_stated() -> None:
    described = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert set(AlignmentHealth._fields + Diagonalization._fields + ActivationHealth._fields) <= set(described)
    alarms = PAGE.partition("## Alarms")[2]
    for limit in LIMITS:
        bound = f"{limit.highest if limit.highest < float('inf') else limit.lowest:g}".removeprefix("0")
        rows = [row for row in alarms.splitlines() if row.startswith(f"| {limit.alarm} |") and f"`{limit.number}`" in row]
        begin = f"{limit.from_progress:g}".removeprefix("0") or "0"
        assert any(bound in row and row.endswith(f"| {begin} |") for row in rows), limit


def test_the_experiments_exist() -> None:
    for name in re.findall(r"experiment=(\w+)", PAGE):
        assert (ROOT / "configs" / "experiment" / f"{name}.yaml").is_file()
