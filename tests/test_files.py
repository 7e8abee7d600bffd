"""`softscribe.files`: what is left half-written is cleared away, what is being written is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softscribe.errors import InputError
from softscribe.files import kept_to_itself, replacing


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


@pytest.mark.parametrize(
    "name",
    [
        ".notes.partial",
        "essay.12.partial.md",
        ".essay.twelve.partial.md",
        ".essay.09999999.partial.md",
        ".essay.12.partially",
        ".12.partial.d/e.md",
    ],
)
def test_what_only_looks_like_a_half_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of somebody else")
    with kept_to_itself(tmp_path):
        assert (tmp_path / name).read_text() == "of somebody else"


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """A run's folder may come from somebody else."""
    (tmp_path / "thesis.txt").write_text("three years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match=r"run: cannot be written.*Remedy"), kept_to_itself(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_link_in_place_of_a_half_is_not_followed(tmp_path: Path) -> None:
    """An evaluation writes to the folder of a run that may come from somebody else; the numbers of processes are few."""
    (tmp_path / "thesis.txt").write_text("three years of work")
    (tmp_path / f".report.{os.getpid()}.partial.html").symlink_to(tmp_path / "thesis.txt")
    with replacing(tmp_path / "report.html") as temporary:
        temporary.write_text("<html>")
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"
    assert (tmp_path / "report.html").read_text() == "<html>"
    assert not (tmp_path / "report.html").is_symlink()


def test_a_lock_that_holds_something_keeps_it(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("a note")
    with kept_to_itself(tmp_path):
        assert (tmp_path / ".lock").read_text() == "a note"


def test_a_lock_that_is_a_pipe_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with kept_to_itself(tmp_path):
        pass


def test_a_folder_inside_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """What a run writes would lie there; a link to a file is replaced when it is written."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plots").mkdir()
    (tmp_path / "run" / "plots" / "step-000100").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"run/plots/step-000100: a link to a folder.*Remedy"), kept_to_itself(tmp_path / "run"):
        pass
