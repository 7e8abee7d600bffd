"""`softscribe.files`: what is left half-written is cleared away, what is being written is not."""

import os
import subprocess
import sys
from pathlib import Path

from softscribe.files import kept_to_itself


def test_halves_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    """An evaluation or an audit may write to a run's folder, without asking for it, while the run begins to go on."""
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "evaluation").mkdir()
    names = {
        name: f"evaluation/.{name}.{pid}.partial.csv" for name, pid in (("living", living.pid), ("dead", dead.pid), ("own", os.getpid()))
    }
    for name in names.values():
        (tmp_path / name).write_text("step,tra")
    with kept_to_itself(tmp_path):
        assert [name for name, path in names.items() if (tmp_path / path).exists()] == ["living"]
    living.communicate(b"\n")
    with kept_to_itself(tmp_path):
        assert not any((tmp_path / path).exists() for path in names.values())
