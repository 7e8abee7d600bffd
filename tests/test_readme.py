"""The README: its commands are run in their order, with shrunken sizes, and its Python examples as they stand."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from softscribe.cli import main
from softscribe.corpora import demo, pieces

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip() for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines() if line.strip()
]
SHRUNKEN = ["trainer.steps=4", "trainer.batch_size=2", "trainer.validation_interval_steps=2", "trainer.checkpoint_interval_steps=2"]
PIECES = 8


def test_the_make_targets_exist_and_the_demo_is_the_commands_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert targets == ["demo", "test"]
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert recipe is not None
    steps = [line.strip().removeprefix("$(BIN)/").removesuffix(" $(DEMO)") for line in recipe[1].splitlines()]
    assert steps == [command for command in COMMANDS if command.startswith("softscribe ")][: len(steps)]


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_python_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 2
    exec(compile(blocks[0], "README.md", "exec"), {})  # the second needs the demo's model; the test below runs the same on the command line


@pytest.mark.slow
def test_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    few = pieces.list_pieces("small")[:PIECES]
    monkeypatch.setattr(demo, "list_pieces", lambda size: few)
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] != "softscribe":
            assert words[0] == "make", command
            continue
        if "corpus.directory=my_music" in words and not Path("my_music").exists():
            _make_own_music()
        if words[1] == "prepare":
            words.append("jobs=1")
        if words[1] == "train" and not words[2].startswith("resume="):
            words += SHRUNKEN
        assert main(words[1:]) == 0, (command, capsys.readouterr().err)
        printed = capsys.readouterr().out
        if words[1] == "evaluate":
            assert re.fullmatch(r"frame F-measure \(pitch classes, held-out\): 0\.\d{3}", printed.splitlines()[-1])
    (run,) = {path.parent.parent for path in Path("runs/my_music").glob("*/model/card.json")}
    for name in ("config.yaml", "metrics.csv", "metrics.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "evaluation/metrics.csv"):
        assert (run / name).is_file(), name
    assert {path.suffix for path in Path("out").iterdir()} == {".mid", ".csv", ".npz", ".png"}


def _make_own_music() -> None:
    """A user's folder: some recordings with scores and truth, paired by name, without a manifest."""
    source = Path("corpora/demo-small")
    names = sorted(path.stem for path in (source / "audio").glob("*.flac"))
    for kind, suffix in (("audio", ".flac"), ("scores", ".csv"), ("truth", ".csv")):
        (Path("my_music") / kind).mkdir(parents=True)
        for number, name in enumerate(names):
            shutil.copy(source / kind / (name + suffix), Path("my_music") / kind / (("sonata" if number == 0 else name) + suffix))
