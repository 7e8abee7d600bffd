"""The command line: `softscribe prepare | train | evaluate` take Hydra overrides, `softscribe transcribe | audit` files and options."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from softscribe.cli.runs import LAST, SEEDS_NAME, begin_seeds, new_folder, parse_seeds, refuse_what_is_there, run_one, run_seeds
from softscribe.cli.settings import CONFIG_NAME, MODEL_CARD, compose_config, find_model, newest_run, read_run, read_settings
from softscribe.console import Console
from softscribe.errors import InputError
from softscribe.files import refuse_links

USAGE = """usage: softscribe COMMAND ...

  softscribe prepare  [OVERRIDE ...] [--dry-run]    read a corpus and fill the feature store
  softscribe train    [OVERRIDE ...]                train on a prepared corpus
  softscribe train    resume=RUN                    go on with a run, or several seeds, that was interrupted
  softscribe train    [OVERRIDE ...] deterministic_check=true   whether this machine repeats and resumes a training bit by bit
  softscribe evaluate run=RUN [OVERRIDE ...]        measure a run on held-out recordings
  softscribe transcribe AUDIO --model FOLDER [-o FOLDER] [--midi] [--csv] [--npz] [--plot]
  softscribe audit RUN_OR_CORPUS                    which recordings and scores do not fit each other, and why

An override is key=value, for example experiment=demo or trainer.steps=2000; configs/ lists all keys with their meaning."""

WORDS_OF_TRAIN = ("resume=", "seeds=", "deterministic_check=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; return the exit status: 0, 1 for unusable input, 2 for a wrong call, 128 + n for signal n."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    finally:  # what could not be printed, Python would try once more when it ends, and complain, with a status of its own
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(words: list[str]) -> int:
    commands = {"prepare": _prepare, "train": _train, "evaluate": _evaluate, "transcribe": _transcribe, "audit": _audit}
    command = words[0] if words else "help"
    why = ""
    try:
        if command in ("-h", "--help", "help") or (command in ("prepare", "train", "evaluate") and {"-h", "--help"} & set(words)):
            print(USAGE)
            status = 0 if words else 2
        elif command not in commands:
            status, why = 2, f"no such command.\n{USAGE}"
        else:
            status = commands[command](words[1:])
    except SystemExit as ended:  # argparse has said why
        status = int(ended.code or 0)
    except InputError as error:
        status, why = 1, str(error)
    except (HydraException, OmegaConfBaseException) as error:  # a missing config is an OSError, too
        status, why = 2, f"{_first_lines(error)} Remedy: see configs/ for keys and values."
    except OSError as error:
        status, why = _in_words(error)
    except KeyboardInterrupt:
        status, why = 130, "stopped."
    if not why:
        try:
            print(end="", flush=True)
        except OSError as error:
            failed, why = _in_words(error)
            status = status or failed
    if why:
        with suppress(OSError):  # if that cannot be written either
            print(f"softscribe {command}: {why}", file=sys.stderr)
    return status


def _in_words(error: OSError) -> tuple[int, str]:
    """The exit status, and why."""
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE, "ended, for what it writes to a pipe is no longer read."
    return 1, f"{error}. Remedy: check the path, its permissions and the free disk space."


def _prepare(words: list[str]) -> int:
    from softscribe.corpora import PrepareSettings, prepare_corpus

    overrides = [word for word in words if word != "--dry-run"]
    config = compose_config("prepare", [*overrides, *(["dry_run=true"] if "--dry-run" in words else [])])
    return prepare_corpus(read_settings(PrepareSettings, config))


def _train(words: list[str]) -> int:
    from softscribe.training import RunInterruptedError, TrainSettings, check_determinism

    given = dict(word.split("=", 1) for word in words if word.startswith(WORDS_OF_TRAIN))
    overrides = [word for word in words if not word.startswith(WORDS_OF_TRAIN)]
    check = given.get("deterministic_check", "false")
    if check not in ("true", "false") or (check == "true" and len(given) > 1):
        raise InputError(
            f"deterministic_check={check}: true or false, and not with resume or seeds. Remedy: deterministic_check=true alone."
        )
    if "resume" in given:
        if not given["resume"]:
            raise InputError("resume=: names no run. Remedy: its folder, or runs/NAME for the newest of that name.")
        if overrides or "seeds" in given:
            raise InputError(
                f"resume={given['resume']}: takes no other settings. Remedy: leave the others out; what has to change, change in the run's "
                f"{CONFIG_NAME}."
            )
        named = Path(given["resume"])
        if (named / SEEDS_NAME).is_file():
            return run_seeds(named)
        folder = newest_run(named, str(LAST))
        # Whoever names the folder of one seed means that seed alone; whoever names a folder of runs, all seeds of the newest.
        if folder != named and (folder.parent / SEEDS_NAME).is_file():
            return run_seeds(folder.parent)
        return run_one(read_run(folder), folder, resume=True)
    config = compose_config("train", overrides)
    if config.model.get("init"):
        config.model.init = str(find_model(Path(config.model.init)))
    settings = read_settings(TrainSettings, config)
    if check == "true":
        try:
            return 0 if check_determinism(settings) else 1
        except RunInterruptedError as stopped:
            print(f"softscribe train: {stopped}", file=sys.stderr)
            return 128 + stopped.signal_number
    one_process = settings.trainer.devices == 1 and settings.trainer.nodes == 1
    seeds = parse_seeds(given["seeds"]) if "seeds" in given else []
    if seeds and not one_process:
        raise InputError("seeds: several seeds run in one process only. Remedy: one command for each seed.")
    folder = new_folder(Path(settings.runs) / settings.name, one_process)
    refuse_what_is_there(folder)
    return begin_seeds(settings, seeds, folder) if seeds else run_one(settings, folder)


def _evaluate(words: list[str]) -> int:
    from softscribe.evaluation import report_table
    from softscribe.report import write_seeds_report
    from softscribe.training import EvaluateSettings, evaluate

    settings = read_settings(EvaluateSettings, compose_config("evaluate", words))
    folder = newest_run(Path(settings.run), MODEL_CARD)
    refuse_links(folder)
    result = evaluate(read_run(folder), folder, split=settings.split, threshold=settings.threshold)
    if (folder.parent / SEEDS_NAME).is_file():
        write_seeds_report(folder.parent)
    Console().print(report_table(result))
    if "alignment_median_error_ms" in result:
        print(
            f"alignment of {result['alignment_onsets']} onsets: median error {result['alignment_median_error_ms']:.0f} ms, "
            f"within 50 ms {result['alignment_within_50_ms']:.2f}, within 100 ms {result['alignment_within_100_ms']:.2f}"
        )
    print(f"baseline without learning (CQT): frame F-measure {result['baseline_frame_f_measure']:.3f}")
    print(f"anchors per minute in training: {result['training_anchors_per_minute']}")
    print(f"all measures: {folder / 'metrics.json'}, with curves and pictures: {folder / 'report.html'}")
    kind = "pitch classes" if result["outputs"] == 12 else "pitches"
    held_out = "held-out" if settings.split == "test" else settings.split
    print(f"frame F-measure ({kind}, {held_out}): {result['frame_f_measure']:.3f}")
    return 0


def _transcribe(words: list[str]) -> int:
    from softscribe.plots import plot_transcription, save
    from softscribe.transcription import Transcriber, write_csv, write_midi, write_npz

    parser = argparse.ArgumentParser(prog="softscribe transcribe", description="Transcribe a recording with a trained model.")
    parser.add_argument("audio", type=Path, help="WAV, FLAC, OGG, MP3 or Opus")
    parser.add_argument("--model", type=Path, required=True, help="a model folder, a run's folder, or a folder of runs")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder to write to (default: the current one)")
    for kind in ("midi", "csv", "npz", "plot"):
        parser.add_argument(f"--{kind}", action="store_true", help=f"write {kind}; without any of these all are written")
    options = parser.parse_args(words)
    kinds = [kind for kind in ("midi", "csv", "npz", "plot") if getattr(options, kind)] or ["midi", "csv", "npz", "plot"]
    suffixes = {"midi": ".mid", "csv": ".csv", "npz": ".npz", "plot": ".png"}
    paths = {kind: options.output / (options.audio.stem + suffixes[kind]) for kind in kinds}
    if there := [str(path) for path in paths.values() if os.path.lexists(path)]:  # a score may well be named like its recording
        raise InputError(f"{', '.join(there)}: there already. Remedy: -o with another folder, or move the old away.")
    transcriber = Transcriber.load(find_model(options.model))
    magnitudes = transcriber.magnitudes_of(options.audio)
    transcription = transcriber.from_magnitudes(magnitudes)
    notes = transcription.notes()
    writers: dict[str, Callable[[Path], object]] = {
        "midi": lambda path: write_midi(notes, path, outputs=transcription.outputs),
        "csv": lambda path: write_csv(notes, path),
        "npz": lambda path: write_npz(transcription, path),
        "plot": lambda path: save(plot_transcription(transcription, notes, magnitudes, transcriber.settings, options.audio.name), path),
    }
    for kind, path in paths.items():
        writers[kind](path)
        print(path)
    return 0


def _audit(words: list[str]) -> int:
    from softscribe.corpora import FeatureStore
    from softscribe.corpora.opening import open_store
    from softscribe.health import audit, audit_table, write_audit
    from softscribe.models import load_model
    from softscribe.sound import HcqtSettings
    from softscribe.transcription import predict

    parser = argparse.ArgumentParser(prog="softscribe audit", description="Find recordings and scores that do not fit each other.")
    parser.add_argument("folder", type=Path, help="a run (its model then judges), a prepared store, or the folder of a prepared corpus")
    folder = parser.parse_args(words).folder
    is_run = (folder / CONFIG_NAME).is_file() or any(folder.glob(f"**/{MODEL_CARD}"))
    if is_run:
        run = newest_run(folder, MODEL_CARD)
        refuse_links(run)
        settings = read_run(run)
        store = FeatureStore(Path(settings.store), HcqtSettings.from_dict(settings.features))
        (model, card), judged_by, output = load_model(run / "model"), str(run / "model"), run
        verdicts = audit(store.recordings(), store.settings, partial(predict, model, time_shift_frames=card["time_shift_frames"]))
    else:
        store, judged_by = open_store(folder), "features"
        output = store.directory.parent
        verdicts = audit(store.recordings(), store.settings)
    try:
        written = write_audit(verdicts, output, judged_by=judged_by)
    finally:  # shown also if it cannot be written, and written also if nobody looks
        Console().print(audit_table(verdicts))
    if judged_by != "features" and 2 * sum(verdict.is_doubtful for verdict in verdicts) > len(verdicts):
        print(f"Most pairs are doubtful, so the model is: see {output / 'report.html'} for alarms, or audit {store.directory.parent}.")
    for path in written:
        print(path)
    return 0


def _first_lines(error: Exception) -> str:
    """The error's message without the internals that Hydra and OmegaConf append; choices stay."""
    lines = [line.strip() for line in str(error).partition("Config search path")[0].splitlines() if line.strip()]
    most = len(lines) if any(line.startswith("Available options") for line in lines) else 3
    return " ".join(line for line in lines[:most] if not line.startswith(("reference_type", "object_type")))
