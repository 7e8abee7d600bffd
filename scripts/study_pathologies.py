"""How often does each pathology happen, what helps against it, and do health numbers and alarms tell, without any label?

    python scripts/study_pathologies.py FOLDER [--seeds 0-4] [--only NAME ...] [--network "model=mcnn_small"] [--jobs 2]

Trains every recipe of `RECIPES` with every seed on the built-in corpus (`softscribe prepare corpus=demo` comes first), evaluates it on its
test pieces and writes FOLDER/PATHOLOGY/RECIPE/SEED/result.json; a recipe that has two names is trained under its first. What is there
already is not trained again, what was interrupted is resumed. Then the tables of docs/health_study.md are printed.
"""

import argparse
import contextlib
import io
import json
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import beta, spearmanr

from softscribe.cli.settings import compose_config, read_settings
from softscribe.corpora.parallel import map_in_processes
from softscribe.errors import InputError
from softscribe.files import replacing
from softscribe.health import HealthMonitor
from softscribe.models import load_model
from softscribe.report import read_curves
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, evaluate, train
from softscribe.training.checkpoints import LAST
from softscribe.training.health_check import ENDED, read_alarms

COMMON = (
    "trainer.steps=200",
    "trainer.batch_size=4",
    "trainer.validation_interval_steps=100",
    "trainer.checkpoint_interval_steps=100",
    "trainer.pictures_every_validations=0",
    "health.interval_steps=10",
)
NETWORK = "model=linear model.frames=75 optimizer.learning_rate.start=5e-3"
UNIQUE = "targets=unique loss=sdtw"
UNEQUAL = f"experiment=demo {UNIQUE} ++loss.horizontal=0.1 loss.diagonal=1"
SHIFTING = "experiment=provoke_shift"
DIAGONAL = "experiment=provoke_diagonalization"
RECIPES: dict[str, dict[str, str]] = {  # pathology -> recipe -> overrides
    "collapse": {
        "provoked": "experiment=provoke_collapse",
        "weights 1-1-2": f"experiment=demo {UNIQUE}",
        "weights .1-1-1": UNEQUAL,
        "weights annealed": f"experiment=demo {UNIQUE} ++loss.horizontal={{start:0.1,end:1,shape:linear,until:0.7}} loss.diagonal=1",
        "gamma annealed": f"experiment=demo {UNIQUE} loss.diagonal=1 ++loss.gamma={{start:10,end:1,shape:geometric,until:0.7}}",
        "prior": f"experiment=demo {UNIQUE} loss.diagonal=1 ++loss.diagonal_prior={{start:3,end:0,shape:linear,until:0.4}}",
        "stretched": "experiment=demo loss=sdtw loss.diagonal=1",
        "energy": f"experiment=demo {UNIQUE} loss.diagonal=1 ++loss.energy={{start:5,end:0,shape:linear,until:0.4}}",
        "acted upon": "experiment=provoke_collapse health=act",
    },
    "diagonalization": {
        "provoked": DIAGONAL,
        "prior 50": f"{DIAGONAL} loss.diagonal_prior.start=50",
        "prior 30": f"{DIAGONAL} loss.diagonal_prior.start=30",
        "prior 10": f"{DIAGONAL} loss.diagonal_prior.start=10",
        "prior that ends": f"{DIAGONAL} ++loss.diagonal_prior={{start:100,end:0,shape:linear,until:0.4}}",
        "weights 1-1-1": "experiment=demo loss=sdtw loss.diagonal=1",
        "weights 1-1-2": "experiment=demo loss=sdtw",
    },
    "blur": {
        "provoked": "experiment=provoke_blur",
        "gamma 200": "experiment=provoke_blur loss.gamma.start=200",
        "gamma 70": "experiment=provoke_blur loss.gamma.start=70",
        "gamma 50": "experiment=provoke_blur loss.gamma.start=50",
        "gamma 30": "experiment=provoke_blur loss.gamma.start=30",
        "gamma 10": "experiment=provoke_blur loss.gamma.start=10",
        "gamma 1": "experiment=demo loss=sdtw",
        "gamma annealed": "experiment=demo loss=sdtw ++loss.gamma={start:100,end:1,shape:geometric,until:0.7}",
        "unique targets": UNEQUAL,
        "unique, gamma 100": f"{UNEQUAL} ++loss.gamma.start=100",
    },
    "shift": {
        "provoked": f"{SHIFTING} time_shift=ignore",
        "compensated": SHIFTING,
        "time-symmetric": f"{SHIFTING} time_shift=ignore loss.time_symmetric=true",
        "energy": f"{SHIFTING} time_shift=ignore ++loss.energy={{start:5,end:0,shape:linear,until:0.4}}",
        "one frame": f"{SHIFTING} time_shift=ignore model=linear model.frames=1 optimizer.learning_rate.start=5e-3",
        "CNN, 105 frames": f"{SHIFTING} time_shift=ignore model=mcnn_small",
        "CNN, 29 frames": f"{SHIFTING} time_shift=ignore model=mcnn_short",
    },
    "all": {
        "all measures": "experiment=demo ++loss.energy={start:5,end:0,shape:linear,until:0.4} loss.time_symmetric=true",
        "default": "experiment=demo",
        "strong": "experiment=demo_strong",
    },
}
SHOWS = {  # health number -> pathology
    "largest_target_share": "collapse",
    "target_gini": "collapse",
    "largest_frame_share": "collapse",
    "density_ratio": "collapse",
    "neutral_distance_ratio": "diagonalization",
    "rewarp_following": "diagonalization",
    "entry_spread_frames": "blur",
    "entry_spread_share": "blur",
    "path_entropy_share": "blur",
    "change_width_frames": "blur",
    "time_shift_frames": "shift",
}
FAILED_BELOW = 0.5
"""A run has failed if fewer of the test pieces' onsets are aligned within 100 ms of where they sound, or if an alarm ended it."""


def words_of(pathology: str, recipe: str, seed: int, network: str) -> list[str]:
    """Return the words after `softscribe train`; where both name a key, the recipe's is later, and counts. Some recipes have a network."""
    words = RECIPES[pathology][recipe].split()
    own_network = any(word.startswith("model=") for word in words)
    return [*(() if own_network else network.split()), *COMMON, *words, f"seed={seed}"]


def trained_as(pathology: str, recipe: str) -> tuple[str, str]:
    """Return the first name of a recipe, under which it is trained."""
    words = RECIPES[pathology][recipe]
    return next((first, name) for first, recipes in RECIPES.items() for name in recipes if recipes[name] == words)


def run(task: tuple[str, str, int], folder: Path, network: str) -> dict[str, Any]:
    """Train and evaluate one recipe with one seed, unless that was done; return what came out."""
    pathology, recipe, seed = task
    place = folder / pathology / recipe.replace(" ", "_") / str(seed)
    words = words_of(pathology, recipe, seed, network)
    _check_words(place, words)
    if not (place / "result.json").exists():
        settings = read_settings(TrainSettings, compose_config("train", words))
        with contextlib.redirect_stdout(io.StringIO()):
            compensated_ms, measures = trained(settings, place / "run")
        curves = read_curves(place / "run" / "metrics.csv")
        health = []
        for row in curves:
            numbers = {name.split("/")[1]: float(row[name]) for name in row if name.startswith("health/") and row[name]}
            if numbers:
                health.append({"progress": (int(row["step"]) + 1) / settings.trainer.steps, **numbers})
        result = {
            "pathology": pathology,
            "recipe": recipe,
            "seed": seed,
            "compensated_ms": compensated_ms,
            "measures": {name: value for name, value in measures.items() if isinstance(value, int | float)},
            "health": health,
        }
        (place / "result.json").write_text(json.dumps(result))
    result: dict[str, Any] = json.loads((place / "result.json").read_text())
    return result


def _check_words(place: Path, words: list[str]) -> None:
    """Refuse a folder in which something else was trained, or begun; else write down there what is."""
    path = place / "words.json"
    if any((place / name).exists() for name in ("run", "result.json")):
        begun = json.loads(path.read_text()) if path.exists() else None
        if begun != words:
            raise InputError(f"{place}: was begun with {' '.join(begun or ['nothing that is written down'])}. Remedy: another folder.")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(words))


def trained(settings: TrainSettings, folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the shift in ms that is taken back and all measures of a run; none if an alarm ended it."""
    try:
        train(settings, folder, resume=(folder / "checkpoints" / LAST).exists())
    except InputError:
        if not any(alarm.get("action") == ENDED for alarm in read_alarms(folder / "alarms.jsonl")):
            raise
        return 0.0, {}
    _, card = load_model(folder / "model")
    rate = HcqtSettings.from_dict(card["features"]).frames_per_second
    return 1000 * card["time_shift_frames"] / rate, evaluate(settings, folder)


def interval(hits: int, of: int) -> str:
    """Return a share with its 95 % interval (Clopper-Pearson)."""
    low = beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    return f"{hits}/{of} ({low:.2f}-{high:.2f})"


def table(results: list[dict[str, Any]]) -> None:
    """Print a row for every recipe: means over its seeds."""
    print("| pathology | recipe | failed (95 %) | frame F | alignment error, ms | within 100 ms | late by, ms | alarms: runs, first at |")
    print("|---|---|---|---|---|---|---|---|")
    for pathology, recipes in RECIPES.items():
        for recipe in recipes:
            runs = [result for result in results if (result["pathology"], result["recipe"]) == trained_as(pathology, recipe)]
            if not runs:
                continue
            within = [each["measures"].get("alignment_within_100_ms", 0.0) for each in runs]
            print(
                f"| {pathology} | {recipe} | {interval(sum(share < FAILED_BELOW for share in within), len(runs))} "
                f"| {mean(runs, 'frame_f_measure', '.3f', spread=True)} | {mean(runs, 'alignment_median_error_ms', '.0f')} "
                f"| {statistics.mean(within):.2f} | {mean(runs, 'true_time_shift_ms', '+.0f')} | {alarms_of(runs)} |"
            )


def mean(runs: list[dict[str, Any]], measure: str, figures: str, *, spread: bool = False) -> str:
    """Return the mean of a measure over the runs that have it, and how many those are if not all; and the standard deviation if that is
    asked for."""
    known = [each["measures"][measure] for each in runs if measure in each["measures"]]
    if not known:
        return ""
    deviation = f" ± {statistics.stdev(known):{figures}}" if spread and len(known) > 1 else ""
    return f"{statistics.mean(known):{figures}}{deviation}" + (f" (of {len(known)})" if len(known) < len(runs) else "")


def alarms_of(runs: list[dict[str, Any]]) -> str:
    """Return for each alarm in how many runs it sounds, and when first, as a share of the training: what was measured is shown to the
    monitor again, so that limits may change without another training."""
    if not any(each["health"] for each in runs):
        return "not watched"
    first: dict[str, list[float]] = {}
    for each in runs:
        monitor, sounded = HealthMonitor(), set()
        for numbers in each["health"]:
            progress = numbers["progress"]
            for name in {alarm.name for alarm in monitor.observe(numbers, progress=progress)} - sounded:
                sounded.add(name)
                first.setdefault(name, []).append(progress)
    return "; ".join(f"{name} {len(when)}/{len(runs)}, {statistics.median(when):.2f}" for name, when in sorted(first.items())) or "none"


def correlations(results: list[dict[str, Any]]) -> None:
    """Print the rank correlation of each health number at the end with the true error: over all runs that align and no alarm ended, and
    over those of the pathology that it shows, with those of "all". The error of `time_shift_frames` is the labelled shift, before
    compensation."""
    aligned = [result for result in results if result["health"] and result["recipe"] != "compensated"]  # "provoked" but for that
    print("\n| number at the end | shows | true error | rank correlation, all runs | p | its pathology's runs | p |")
    print("|---|---|---|---|---|---|---|")
    for name, pathology in SHOWS.items():
        own = {trained_as(each, recipe) for each in (pathology, "all") for recipe in RECIPES[each]}
        cells = [f"`{name}`", pathology, "shift" if pathology == "shift" else "alignment"]
        for runs in (aligned, [each for each in aligned if (each["pathology"], each["recipe"]) in own]):
            pairs = [(each["health"][-1].get(name, math.nan), true_error(each, pathology)) for each in runs]
            known = [pair for pair in pairs if not math.isnan(sum(pair))]
            found = spearmanr(*zip(*known, strict=True)) if len(known) > 2 else None
            cells += [f"{found.statistic:+.2f}", f"{found.pvalue:.1g}"] if found else ["", ""]
        print(f"| {' | '.join(cells)} |")


def true_error(result: dict[str, Any], pathology: str) -> float:
    """Return the error in ms that a health number should tell."""
    measures = result["measures"]
    if pathology == "shift":
        return measures.get("true_time_shift_ms", math.nan) + result["compensated_ms"]
    return measures.get("alignment_median_error_ms", math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--only", nargs="*", default=list(RECIPES), help="pathologies, or recipes as PATHOLOGY/RECIPE")
    parser.add_argument("--network", default=NETWORK)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    first, last = (int(part) for part in (options.seeds.split("-") * 2)[:2])
    wanted = [(name, recipe) for name, recipes in RECIPES.items() for recipe in recipes if {name, f"{name}/{recipe}"} & set(options.only)]
    to_train = dict.fromkeys(trained_as(*names) for names in wanted)
    tasks = [(*names, seed) for seed in range(first, last + 1) for names in to_train]
    job = partial(run, folder=options.folder, network=options.network)
    results = map_in_processes(job, tasks, jobs=options.jobs, description="runs")
    table(results)
    correlations(results)


if __name__ == "__main__":
    main()
