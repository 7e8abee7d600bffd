"""docs/alignment.md: its examples run and print what it says, its figures exist, and the script draws them."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "alignment.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
FIGURES = sorted(re.findall(r"\]\(images/alignment/(\w+\.png)\)", PAGE))


def test_examples_run_and_print_what_stands_behind_them() -> None:
    names: dict = {}
    for example in EXAMPLES:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example, "alignment.md", "exec"), names)
        stated = re.findall(r"^(?:.*\)  )?# (.*)$", example, flags=re.MULTILINE)
        assert printed.getvalue().splitlines() == stated, example


def test_every_figure_is_shown_and_every_shown_one_exists() -> None:
    assert FIGURES
    assert sorted(path.name for path in (ROOT / "docs" / "images" / "alignment").iterdir()) == FIGURES


@pytest.mark.slow
def test_the_script_draws_every_figure(tmp_path: Path) -> None:
    """With trainings too short to learn, which is what takes most of its time."""
    script = "import alignment_experiments as e, draw_alignment_figures as d, pathlib, sys; e.STEPS = 5; d.main(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "scripts", check=True, capture_output=True, timeout=900)
    assert sorted(path.name for path in tmp_path.iterdir()) == FIGURES
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 60_000, path.name
