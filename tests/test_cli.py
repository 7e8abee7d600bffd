"""The command line: shipped configs fit their settings, mistakes are named, and it works from an editable install and from a wheel."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from softscribe import cli
from softscribe.cli import main
from softscribe.cli.runs import LAST
from softscribe.cli.settings import compose_config, newest_run, read_settings
from softscribe.corpora import PrepareSettings
from softscribe.errors import InputError
from softscribe.files import kept_to_itself
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings
from softscribe.training.losses import create_loss

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def check_train(overrides: list[str]) -> TrainSettings:
    settings = read_settings(TrainSettings, compose_config("train", overrides))
    HcqtSettings.from_dict(settings.features)
    create_loss(settings.loss)
    assert settings.optimizer.schedule.start > 0
    return settings


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_fits_its_settings(experiment: str) -> None:
    needed = ["corpus.directory=music", "model.init=null"] if experiment == "finetune" else []
    assert check_train([f"experiment={experiment}", *needed]).name == ("music" if needed else experiment)


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("features", "targets", "model", "loss", "optimizer", "trainer", "logger") for name in names(group)],
)
def test_every_choice_of_every_group_fits_its_settings(group: str, name: str) -> None:
    check_train([f"{group}={name}"])


def test_experiments_are_small_deltas() -> None:
    for name in names("experiment"):
        lines = [
            line for line in (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines() if line.strip() and not line.startswith("#")
        ]
        assert 1 <= len(lines) <= 20, name


def test_the_baselines_differ_from_the_demo_in_what_they_are_about_alone() -> None:
    demo, strong, static = (check_train([f"experiment={name}"]) for name in ("demo", "demo_strong", "demo_static"))
    for other in (strong, static):
        assert (other.trainer, other.optimizer, other.model, other.augmentation, other.seed) == (
            demo.trainer,
            demo.optimizer,
            demo.model,
            demo.augmentation,
            demo.seed,
        )


def test_prepare_and_train_meet_in_the_same_store() -> None:
    for corpus in (["corpus=demo"], ["corpus=folder", "corpus.directory=some/music"]):
        prepared = read_settings(PrepareSettings, compose_config("prepare", corpus))
        trained = read_settings(TrainSettings, compose_config("train", corpus))
        assert prepared.store == trained.store
        assert prepared.features == trained.features


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "trainer.stepz=3"], "stepz"),
        (["train", "trainer.steps=many"], "steps"),
        (["train", "trainer.steps=0"], "trainer.steps"),
        (["train", "targets.kind=even"], "targets.kind"),
        (["train", "targets.outputs=13"], "targets.outputs"),
        (["train", "trainer.precision=8-bit"], "precision"),
        (["train", "trainer.strategy=fsdp"], "trainer.strategy: 'fsdp'. Remedy: auto or ddp"),
        (["train", "optimizer.name=magic"], "optimizer.name"),
        (["train", "loss=ctc"], "ctc"),
        (["train", "features.hop_length_samples=-1"], "hop_length_samples"),
        (["train", "features.colour=red"], "colour"),
        (["train", "experiment=nothing"], "nothing"),
        (["train", "health=wran"], "act ignore stop warn Remedy"),
        (["train", "resume="], "resume="),
        (["train", "resume=nowhere", "health=act"], "config.yaml"),
        (["train", "steps"], "steps"),
        (["train", "seeds=one"], "seeds"),
        (["train", "resume=nowhere"], "nowhere"),
        (["train", "resume=nowhere", "seed=1"], "resume"),
        (["train", "corpus=folder"], "corpus"),
        (["train"], "softscribe prepare"),
        (["prepare", "corpus.kind=cassette"], "corpus.kind"),
        (["prepare", "corpus.colour=red"], "colour"),
        (["prepare", "corpus=folder", "corpus.directory=nowhere"], "nowhere"),
        (["prepare", "--dry-run"], "dry-run"),
        (["prepare", "jobs=0"], "jobs"),
        (["evaluate"], "run"),
        (["evaluate", "run=nowhere"], "nowhere"),
        (["evaluate", "run=nowhere", "split=none"], "split"),
        (["evaluate", "run=nowhere", "threshold=high"], "threshold"),
        (["train", "experiment=finetune", "corpus.directory=music"], "runs/demo"),
        (["train", "seed=-1"], "seed"),
        (["train", f"seed={2**70}"], "seed"),
        (["train", "trainer.minutes=1e300"], "trainer.minutes"),
        (["train", "trainer.minutes=.inf"], "trainer.minutes"),
        (["train", "trainer.gradient_clip_norm=.nan"], "trainer.gradient_clip_norm"),
        (["train", f"trainer.steps={10**30}"], "trainer.steps"),
        (["train", "optimizer.learning_rate.start=1e38"], "optimizer.learning_rate"),
        (["train", "+optimizer.arguments.weight_decay=.inf"], "optimizer.arguments.weight_decay"),
        (["train", "+optimizer.arguments.betas=[nan,.9]"], "optimizer.arguments.betas"),
        (["train", "runs=a_file"], "a_file"),
        (["train", "store=a_file"], "softscribe prepare"),
        (["prepare", "corpus.directory=a_file"], "a_file"),
        (["train", "loss=static", "targets=unique"], "static"),
        (["train", "health=explode"], "Could not find 'health/explode'"),
        (["transcribe", "song.wav", "--model", "nowhere"], "nowhere"),
        (["sing"], "sing"),
    ],
)
def test_mistakes_are_named_without_a_traceback(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("where a folder is wanted")
    assert main(words) in (1, 2)
    assert named in capsys.readouterr().err


def test_a_transcription_takes_no_file_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A score often lies beside its recording, with the same name."""
    monkeypatch.chdir(tmp_path)
    Path("song.mid").write_text("a score")
    assert main(["transcribe", "music/song.wav", "--model", "nowhere"]) == 1
    assert "song.mid: there already. Remedy: -o" in capsys.readouterr().err
    assert main(["transcribe", "music/song.wav", "--model", "nowhere", "--csv"]) == 1
    assert "nowhere" in capsys.readouterr().err, "nothing of that kind is there"


UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"])
"""Whether Python keeps what it prints until there is enough of it: then it fails late, and once more when Python ends."""


@UNBUFFERED
def test_output_that_is_no_longer_read_ends_a_command_in_words(tmp_path: Path, unbuffered: str) -> None:
    """As of `softscribe train | head -1`."""
    endless = "cli._audit = lambda _: [print('step') for _ in range(10**5)] and 0"
    script = f"from softscribe import cli; {endless}; raise SystemExit(cli.main(['audit']))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | {"PYTHONUNBUFFERED": unbuffered}}
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, **pipes) as command:  # type: ignore[call-overload]
        assert command.stdout.readline() == "step\n"
        command.stdout.close()
        assert command.stderr.read() == "softscribe audit: ended, for what it writes to a pipe is no longer read.\n"
        assert command.wait() == 128 + signal.SIGPIPE


@UNBUFFERED
@pytest.mark.parametrize("words", ["audit x", "--help"])
@pytest.mark.parametrize("errors_too", [False, True])
def test_a_line_that_is_no_longer_read_ends_a_command(tmp_path: Path, words: str, errors_too: bool, unbuffered: str) -> None:
    script = f"from softscribe import cli; cli._audit = lambda _: print('step') or 0; raise SystemExit(cli.main({words.split()}))"
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with (tmp_path / "errors").open("w") as errors:
        stderr = writer if errors_too else errors
        command = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=stderr, env=environment, check=False)
    os.close(writer)
    assert command.returncode == 128 + signal.SIGPIPE
    assert errors_too or re.fullmatch(r"softscribe \S+: ended, for .* no longer read\.\n", (tmp_path / "errors").read_text())


@UNBUFFERED
@pytest.mark.parametrize(
    ("words", "result", "status"),
    [(["audit", "x"], 0, 1), (["audit", "x"], 3, 3), (["--help"], 0, 1), ([], 0, 2), (["transcribe", "--help"], 0, 1)],
)
def test_output_for_which_there_is_no_room_is_one_clear_error(words: list[str], result: int, status: int, unbuffered: str) -> None:
    script = f"from softscribe import cli; cli._audit = lambda _: print('step') or {result}; raise SystemExit(cli.main({words}))"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        command = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert re.fullmatch(r"softscribe \S+: .*No space left on device\. Remedy: .*\n", command.stderr), command.stderr
    assert command.returncode == (1 if unbuffered else status)  # there printing itself fails, before a command knows its status


def test_links_in_a_run_are_refused_wherever_it_is_written_to(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("model/card.json", "config.yaml"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("{}")
    (tmp_path / "run" / "evaluation").symlink_to(tmp_path)
    for words in (["evaluate", f"run={tmp_path / 'run'}"], ["audit", str(tmp_path / "run")], ["train", f"resume={tmp_path / 'run'}"]):
        assert main(words) == 1
        assert "run/evaluation: a link to a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", [LAST, Path("model/card.json"), Path("seeds.json"), Path("seed-3") / LAST, Path("seed-3/model/card.json")])
def test_a_folder_that_holds_what_could_be_lost_is_refused(tmp_path: Path, name: Path) -> None:
    cli.refuse_what_is_there(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="a run is there already"):
        cli.refuse_what_is_there(tmp_path)


def test_the_newest_run_is_found(tmp_path: Path) -> None:
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00/seed-0", "2026-01-03_00-00-00"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("{}")
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00/seed-0"):
        (tmp_path / name / "model" / "card.json").write_text("{}")
    assert newest_run(tmp_path, "model/card.json") == tmp_path / "2026-01-02_00-00-00" / "seed-0", "the third never came to a model"
    assert newest_run(tmp_path / "2026-01-01_00-00-00", "model/card.json").name == "2026-01-01_00-00-00"
    with pytest.raises(InputError, match="model"):
        newest_run(tmp_path / "2026-01-01_00-00-00" / "plots", "model/card.json")
    with pytest.raises(InputError, match=r"no model yet.*resume="):
        newest_run(tmp_path / "2026-01-03_00-00-00", "model/card.json")
    os.utime(tmp_path / "2026-01-01_00-00-00" / "model" / "card.json", ns=(2**62, 2**62))
    assert newest_run(tmp_path, "model/card.json").name == "2026-01-01_00-00-00", "by its time, whatever it is called"


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {cli.new_folder(tmp_path, one_process=True) for _ in range(5)}
    assert len(folders) == len(list(tmp_path.iterdir())) == 5


def test_a_run_is_kept_to_itself(tmp_path: Path) -> None:
    """Whatever else asks for its folder meanwhile is refused before it has touched anything."""
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(check_train(["experiment=demo"]))))
    resume = ("-c", f"from softscribe.cli import main; raise SystemExit(main(['train', 'resume={tmp_path}']))")
    with kept_to_itself(tmp_path):
        refused = run_elsewhere(tmp_path, *resume)
    assert refused.returncode == 1
    assert "another process is at work there. Remedy" in refused.stderr
    assert "another process" not in run_elsewhere(tmp_path, *resume).stderr


def test_a_config_of_somebody_else_is_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing that a run's config names is called, and keys that settings do not have are refused."""
    (tmp_path / "config.yaml").write_text(f"_target_: os.mkdir\npath: {tmp_path / 'made'}\n")
    assert main(["train", f"resume={tmp_path}"]) == 1
    assert not (tmp_path / "made").exists()
    assert "_target_" in capsys.readouterr().err


def run_elsewhere(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False)


LOOK = "import softscribe.cli.settings as cli; print(cli.__file__); print(cli.compose_config('train', ['experiment=demo']).name)"


def test_configs_are_found_from_an_editable_install_outside_the_clone(tmp_path: Path) -> None:
    result = run_elsewhere(tmp_path, "-c", LOOK)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(ROOT / "src" / "softscribe" / "cli" / "settings.py"), "demo"]


def test_configs_are_found_from_an_installed_wheel_outside_the_clone(tmp_path: Path) -> None:
    built = run_elsewhere(ROOT, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path))
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = run_elsewhere(tmp_path, "-m", "pip", "install", "--quiet", "--no-deps", "--target", "site", str(wheel))
    assert installed.returncode == 0, installed.stderr
    result = run_elsewhere(tmp_path, "-c", LOOK, PYTHONPATH=str(tmp_path / "site"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "site" / "softscribe" / "cli" / "settings.py"), "demo"]
