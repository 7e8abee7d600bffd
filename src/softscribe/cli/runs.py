"""Running trainings in folders of their own: one, or one for each of several seeds."""

import json
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from softscribe.cli.settings import CONFIG_NAME, MODEL_CARD, read_run
from softscribe.errors import InputError
from softscribe.files import kept_to_itself, read_json, replacing

SEEDS_NAME = "seeds.json"
LAST = Path("checkpoints") / "last.ckpt"


def new_folder(runs: Path, one_process: bool) -> Path:
    """Return a folder in `runs`, of the name SOFTSCRIBE_RUN_NAME if that is set, else of the time, and then of no other run of one process.

    The processes of one training agree on it through that variable, those of a SLURM job on the job's number.
    """
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    runs.mkdir(parents=True, exist_ok=True)
    if one_process and "SOFTSCRIBE_RUN_NAME" not in os.environ:
        for number in count(1):
            folder = runs / (now if number == 1 else f"{now}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    return runs / os.environ.setdefault(
        "SOFTSCRIBE_RUN_NAME", f"slurm-{os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else now
    )


def refuse_what_is_there(folder: Path) -> None:
    """Raise InputError if a run, or several seeds, began in a folder: a new one would mix with them.

    A folder without a checkpoint, a model or a list of seeds holds nothing that could be lost.
    """
    begun = any((folder / name).exists() for name in (LAST, MODEL_CARD, SEEDS_NAME))
    if begun or any(path for name in (LAST, MODEL_CARD) for path in folder.glob(f"seed-*/{name}")):
        raise InputError(f"{folder}: a run is there already. Remedy: resume={folder}, or another name.")


def run_one(settings: Any, folder: Path, *, resume: bool = False) -> int:
    """Train in a folder, or go on with what was begun there, and say where the model is; return the exit status."""
    from softscribe.training import RunInterruptedError, train

    first_process = all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"))
    with kept_to_itself(folder) if first_process else nullcontext():
        if not resume and first_process:
            _write_config(settings, folder)
        print(f"run folder: {folder}")
        try:
            model_folder = train(settings, folder, resume=resume)
        except (RunInterruptedError, KeyboardInterrupt) as stopped:  # the latter while the model is written
            number = stopped.signal_number if isinstance(stopped, RunInterruptedError) else signal.SIGINT
            with suppress(OSError):  # who read it may have got the signal as well
                print(f"softscribe train: stopped by {signal.Signals(number).name}", file=sys.stderr)
                if (folder / LAST).exists():
                    print(f"To go on: softscribe train resume={folder}", file=sys.stderr)
            # Of several processes the first one speaks: a failed child makes Lightning kill it.
            return 128 + number if first_process else 0
    print(f"model: {model_folder}")
    return 0


def begin_seeds(settings: Any, seeds: Sequence[int], folder: Path) -> int:
    """Train with each seed in `folder`/seed-N, as `run_seeds` does; return the exit status."""
    for seed in seeds:
        _write_config(replace(settings, seed=seed), folder / f"seed-{seed}")
    _write_seeds(folder, seeds, {})  # last: a folder that has it can be resumed
    return run_seeds(folder)


def run_seeds(folder: Path) -> int:
    """Train the seeds that were begun in a folder, measure all, and write seeds.json and report.html; return the exit status.

    Those that are finished are not trained again, one that was interrupted goes on; each by its own config.yaml.
    """
    from softscribe.report import write_seeds_report
    from softscribe.training import evaluate

    seeds = seeds_of(folder)
    runs = [folder / f"seed-{seed}" for seed in seeds]
    with kept_to_itself(folder):
        for run in runs:
            status = 0 if _is_finished(run) else run_one(read_run(run), run, resume=(run / LAST).exists())
            if status:
                print(f"To go on with all {len(seeds)} seeds: softscribe train resume={folder}", file=sys.stderr)
                return status
        results = [evaluate(read_run(run), run) for run in runs]
        measured: dict[str, list[Any]] = {name: [result.get(name) for result in results] for name in results[0]}
        summary = {
            name: {"mean": statistics.mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0}
            for name, values in measured.items()
            if all(isinstance(value, float) for value in values)
        }
        _write_seeds(folder, seeds, summary)
        print(f"report: {write_seeds_report(folder)}")
    print(f"\n{len(seeds)} seeds: mean and standard deviation ({folder / SEEDS_NAME})")
    for name, values in summary.items():
        print(f"{name:44s} {values['mean']:9.3f} +- {values['deviation']:.3f}")
    return 0


def _is_finished(run: Path) -> bool:
    """Whether a run has written its model, and no checkpoint since: one that was given more steps is not done with its old model."""
    card, last = run / MODEL_CARD, run / LAST
    return card.exists() and (not last.exists() or card.stat().st_mtime >= last.stat().st_mtime)


def _write_config(settings: Any, folder: Path) -> None:
    with replacing(folder / CONFIG_NAME) as temporary:
        OmegaConf.save(OmegaConf.structured(settings), temporary)


def _write_seeds(folder: Path, seeds: Sequence[int], summary: dict[str, Any]) -> None:
    with replacing(folder / SEEDS_NAME) as temporary:
        temporary.write_text(json.dumps({"seeds": list(seeds), **summary}, indent=2) + "\n")


def seeds_of(folder: Path) -> list[int]:
    """Return the seeds that are, or were to be, trained in a folder.

    Raises:
        InputError: its seeds.json is missing, or names none.
    """
    path = folder / SEEDS_NAME
    content = read_json(path)
    seeds = content.get("seeds") if isinstance(content, dict) else None
    if not isinstance(seeds, list) or not _are_seeds(seeds):
        raise InputError(f"{path}: names no seeds. Remedy: resume={folder}/seed-0 and the others, one by one.")
    return seeds


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that a user named, such as 0,1,2.

    Raises:
        InputError: they are no whole numbers from 0, or one is named twice.
    """
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not _are_seeds(seeds):
        raise InputError(f"seeds={text}: not whole numbers from 0, each once. Remedy: for example seeds=0,1,2.")
    return seeds


def _are_seeds(values: list[Any]) -> bool:
    return bool(values) and all(type(value) is int and value >= 0 for value in values) and len(set(values)) == len(values)
