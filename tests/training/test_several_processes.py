"""Two processes train what one process with the doubled batch trains, into one folder, and stop, resume and fail together."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from interrupted_runs import Started, Stop, differences, start
from softscribe import cli
from softscribe.corpora import FeatureStore
from softscribe.errors import InputError
from softscribe.report import curve_points
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, train
from softscribe.training.data_module import SegmentDataModule
from softscribe.training.module import TranscriptionModule
from softscribe.training.non_finite import BAD_STEPS_UNTIL_STOP
from softscribe.training.segments import Batch

ROOT = Path(__file__).parents[2]
MELODIES = 4
STEPS = 6
STEPS_PER_PASS = 2
"""Of two processes that take one melody each."""


@pytest.fixture(scope="module")
def alone(demanding: TrainSettings, even_store: Path) -> TrainSettings:
    """One process, batches of two, nothing random: what dropout draws depends on the process."""
    trainer = replace(demanding.trainer, steps=STEPS, batch_size=2, accumulated_batches=1, validation_interval_steps=3)
    return replace(demanding, store=str(even_store), model={"name": "tiny"}, trainer=trainer)


@pytest.fixture(scope="module")
def together(alone: TrainSettings) -> TrainSettings:
    return replace(alone, trainer=replace(alone.trainer, devices=2, strategy="ddp", batch_size=1))


def slurm_task(number: int, tasks: int, port: int) -> dict[str, str]:
    """What Lightning reads of SLURM in task `number` of `tasks` on one machine."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_NODELIST": "localhost",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }


@pytest.fixture
def search_path(tmp_path: Path) -> str:
    """A PATH on which SLURM's scontrol leaves the file `requeued` behind."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path / 'requeued'}\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    return f"{tmp_path / 'bin'}:{os.environ['PATH']}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def note_draws(folder: Path) -> None:
    """Called in a task's process: write down which melodies each of its batches holds."""
    training_step = TranscriptionModule.training_step

    def noting(module: TranscriptionModule, batch: Batch, batch_idx: int) -> Tensor:
        with (folder / f"draws-{module.global_rank}.txt").open("a") as file:
            print(*batch.numbers.tolist(), file=file)
        return training_step(module, batch, batch_idx)

    TranscriptionModule.training_step = noting  # type: ignore[method-assign]


def refuse_the_second_checkpoint() -> None:
    """Called in a task's process."""
    write = Path.write_bytes
    count = 0

    def refusing(path: Path, data: memoryview) -> int:
        nonlocal count
        count += "last" in path.name
        if "last" in path.name and count == 2:
            raise OSError("the disk is gone")
        return write(path, data)

    Path.write_bytes = refusing  # type: ignore[method-assign, assignment]


def start_two(
    settings: TrainSettings | None,
    folder: Path,
    *,
    stop: Stop | None = None,
    stopped_task: int = 0,
    patches: object = None,
    **variables: str,
) -> list[Started]:
    port = free_port()
    return [
        start(
            settings,
            folder,
            stop=stop if number == stopped_task else None,
            patches=patches,
            environment=slurm_task(number, 2, port) | variables,
        )
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def together_uninterrupted(together: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "whole"
    for run in start_two(together, folder):
        assert run.status() == 0, run.output
    return folder


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_doubled_batch(alone: TrainSettings, together: TrainSettings, tmp_path: Path) -> None:
    """Validated on three melodies, of which the first process takes two: both count by what they hold."""
    train(alone, tmp_path / "alone")
    for run in start_two(together, tmp_path / "together", patches=partial(note_draws, tmp_path)):
        assert run.status() == 0, run.output
        assert "sync_dist" not in run.output, "advice that is not for users"
    first, second = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("alone", "together"))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)
    curves, others = (curve_points(tmp_path / name / "metrics.csv") for name in ("alone", "together"))
    assert curves["validation/cost"][0] == others["validation/cost"][0] == [3, 6]
    assert curves["validation/cost"][1] == pytest.approx(others["validation/cost"][1], rel=1e-5)

    draws = [(tmp_path / f"draws-{task}.txt").read_text().split() for task in range(2)]
    assert [len(numbers) for numbers in draws] == [STEPS, STEPS]
    for first_step in range(0, STEPS, STEPS_PER_PASS):
        this_pass = slice(first_step, first_step + STEPS_PER_PASS)
        assert sorted(draws[0][this_pass] + draws[1][this_pass]) == [str(number) for number in range(MELODIES)]
    names = [
        sorted(entry.name for entry in (tmp_path / run).iterdir() if entry.name not in ("config.yaml", ".lock"))
        for run in ("alone", "together")
    ]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status", "stopped_task"), [("SIGTERM", 143, 0), ("SIGUSR1", 138, 1)])
def test_two_tasks_of_slurm_stop_at_the_same_step_and_are_requeued(
    together: TrainSettings, together_uninterrupted: Path, tmp_path: Path, search_path: str, name: str, status: int, stopped_task: int
) -> None:
    """The signal reaches one of them only, before a step without a checkpoint of its own; both end in order, the first gives the status."""
    runs = start_two(together, tmp_path / "run", stop=Stop(name, "batch", 4), stopped_task=stopped_task, PATH=search_path)
    assert [run.status() for run in runs] == [status, 0], [run.output for run in runs]
    assert f"resume={tmp_path / 'run'}" in runs[0].output
    assert not (tmp_path / "requeued").exists()
    assert not list((tmp_path / "run").glob("**/hpc_ckpt*"))
    for run in start_two(None, tmp_path / "run", PATH=search_path, SLURM_RESTART_COUNT="1"):
        assert run.status() == 0, run.output
    assert not differences(together_uninterrupted, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_is_killed_and_both_are_resumed(
    together: TrainSettings, together_uninterrupted: Path, tmp_path: Path, killed: int
) -> None:
    runs = start_two(together, tmp_path / "run", stop=Stop("SIGKILL", "batch", 4), stopped_task=killed)
    assert [run.status() for run in runs] == [-signal.SIGKILL if task == killed else 1 for task in range(2)], [run.output for run in runs]
    assert f"process {1 - killed} lost the others" in runs[1 - killed].output
    for run in start_two(None, tmp_path / "run"):
        assert run.status() == 0, run.output
    assert not differences(together_uninterrupted, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 128 + signal.SIGTERM), ("SIGINT", 130), ("SIGUSR1", -signal.SIGUSR1)])
def test_a_signal_before_the_first_step(demanding: TrainSettings, tmp_path: Path, search_path: str, name: str, status: int) -> None:
    """Left to itself, Lightning would save here and requeue the job."""
    variables = slurm_task(0, 1, free_port()) | {"PATH": search_path}
    run = start(demanding, tmp_path / "run", stop=Stop(name, "loader"), environment=variables)
    assert run.status() == status, run.output
    assert not (tmp_path / "requeued").exists()
    assert not list((tmp_path / "run").glob("**/hpc_ckpt*"))


@pytest.mark.slow
def test_two_processes_fail_together(together: TrainSettings, tmp_path: Path) -> None:
    """The first one cannot save: it says why, the other one that it was left alone, and neither shows where in the code."""
    runs = start_two(together, tmp_path / "run", patches=refuse_the_second_checkpoint)
    assert [run.status() for run in runs] == [1, 1]
    for run, words in zip(runs, ("cannot be written (the disk is gone)", "process 1 lost the others"), strict=True):
        assert words in run.output
        assert "Traceback" not in run.output


def poison_the_first_tasks_batches(first: int, last: int) -> None:
    """Called in a task's process."""
    training_step = TranscriptionModule.training_step

    def poisoned(module: TranscriptionModule, batch: Batch, batch_idx: int) -> Tensor:
        if module.global_rank == 0 and first <= batch_idx <= last:
            batch = batch._replace(features=batch.features * float("nan"))
        return training_step(module, batch, batch_idx)

    TranscriptionModule.training_step = poisoned  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_process_accuses_no_files_of_its_own_of_what_another_read(together: TrainSettings, tmp_path: Path) -> None:
    runs = start_two(together, tmp_path / "run", patches=partial(poison_the_first_tasks_batches, 1, 1))
    assert [run.status() for run in runs] == [0, 0], [run.output for run in runs]
    assert ["features not finite, so the step was left out" in run.output for run in runs] == [True, False]
    assert "not finite" not in runs[1].output


@pytest.mark.slow
def test_a_row_of_bad_steps_stops_all_processes(together: TrainSettings, tmp_path: Path) -> None:
    """The one that read the bad batches keeps them and names them; the other one says where to look."""
    runs = start_two(together, tmp_path / "run", patches=partial(poison_the_first_tasks_batches, 0, BAD_STEPS_UNTIL_STOP))
    assert [run.status() for run in runs] == [1, 1], [run.output for run in runs]
    name = f"not-finite-step-{BAD_STEPS_UNTIL_STOP - 1:06d}-process-0.safetensors"
    assert f"{BAD_STEPS_UNTIL_STOP}th in a row; its batches are kept in {tmp_path / 'run' / name}" in runs[0].output
    assert f"{BAD_STEPS_UNTIL_STOP}th bad step in a row. Remedy: see another process's message." in runs[1].output
    assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == [name]


@pytest.mark.slow
def test_the_command_starts_its_own_processes(even_store: Path, tmp_path: Path) -> None:
    """As on a machine with several GPUs: one command, `trainer=ddp`, one folder. With a network that ships."""
    command = (
        f"-m softscribe.cli train store={even_store} runs={tmp_path / 'runs'} name=both features.harmonics=[1] model.channels=[1,1,1,1] "
        "logger=csv threshold.fixed=0.5 trainer=ddp trainer.accelerator=cpu trainer.devices=2 trainer.worker_count=0 trainer.batch_size=1 "
        "trainer.steps=2 trainer.validation_interval_steps=2 trainer.pictures_every_validations=0"
    )
    result = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs" / "both").iterdir()
    assert result.stdout.count(f"run folder: {run}\n") == 2
    assert (run / "model" / "card.json").exists()
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["devices"] == 2


def test_more_processes_than_validation_segments_are_refused(demanding: TrainSettings) -> None:
    features = HcqtSettings.from_dict(demanding.features)
    recordings = FeatureStore(Path(demanding.store), features).recordings()
    data = SegmentDataModule(recordings, features, demanding.targets, transposition_semitones=0, batch_size=1, worker_count=0, seed=0)
    data.trainer = SimpleNamespace(world_size=2, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(InputError, match="1 validation segments for 2 processes"):
        data.val_dataloader()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, r"trainer:.*SLURM"),
        ({"SLURM_NNODES": "2"}, r"trainer:.*SLURM"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": ""}, "ntasks-per-node"),
    ],
    ids=["tasks", "nodes", "no layout"],
)
def test_a_job_that_does_not_fit_the_settings_is_refused(
    demanding: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], words: str
) -> None:
    """Else each task would train a run of its own into the same folder."""
    for name, value in (slurm_task(0, 1, free_port()) | changes).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=words):
        train(demanding, tmp_path / "run")


@pytest.mark.parametrize("devices", [1, 2])
def test_a_requeued_job_finds_its_folder(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """SOFTSCRIBE_RUN_NAME names the folder. A job that was killed before it saved begins anew; what is saved is not written over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTSCRIBE_RUN_NAME", "slurm-4711")
    seen: list[Path] = []
    monkeypatch.setattr(cli, "run_one", lambda settings, folder, resume=False: seen.append(folder) or 0)
    words = ["train", "name=piano", f"trainer.devices={devices}"]
    folder = Path("runs/piano/slurm-4711")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    assert cli.main(words) == 0
    assert seen == [folder]
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    assert cli.main(words) == 1
    assert f"resume={folder}" in capsys.readouterr().err
    assert len(seen) == 1


def test_the_job_script_of_the_docs(tmp_path: Path) -> None:
    """It starts, asks to be requeued when the time was up, resumes, and passes the status on; with stand-ins for srun and scontrol."""
    script = (ROOT / "docs" / "clusters.md").read_text().split("```bash\n")[1].split("```")[0]
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "srun").write_text('#!/bin/sh\necho "srun $*"\nexit $STATUS\n')
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "scontrol $*"\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)

    def submit(status: int) -> tuple[int, list[str]]:
        variables = {"SLURM_JOB_ID": "4711", "STATUS": str(status), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        result = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert not result.stderr
        return result.returncode, result.stdout.splitlines()

    begin = "srun softscribe train name=piano trainer=slurm trainer.nodes=2 trainer.devices=4"
    assert submit(138) == (138, [begin, "scontrol requeue 4711"])
    (tmp_path / "runs/piano/slurm-4711/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/piano/slurm-4711/checkpoints/last.ckpt").write_bytes(b"")
    resume = "srun softscribe train resume=runs/piano/slurm-4711"
    assert submit(143) == (143, [resume])
    assert submit(0) == (0, [resume])
