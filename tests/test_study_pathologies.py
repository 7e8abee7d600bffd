"""`scripts/study_pathologies.py`: its recipes are configs that exist, and its figures are what they are called."""

import json
from pathlib import Path

import pytest
from scripts import study_pathologies

from softscribe.cli.settings import compose_config, read_settings
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings
from softscribe.training.health_check import ENDED
from softscribe.training.losses import SdtwLoss, create_loss
from softscribe.training.run import build_model


@pytest.mark.parametrize(
    ("pathology", "recipe"), [(name, recipe) for name, recipes in study_pathologies.RECIPES.items() for recipe in recipes]
)
def test_recipes_are_configs(pathology: str, recipe: str) -> None:
    words = study_pathologies.words_of(pathology, recipe, seed=3, network=study_pathologies.NETWORK)
    settings = read_settings(TrainSettings, compose_config("train", words))
    loss = create_loss(settings.loss)
    assert settings.seed == 3
    frames = {"one frame": 1, "CNN, 29 frames": None, "CNN, 105 frames": None}.get(recipe, 75)
    assert settings.model.get("frames") == frames
    assert settings.model["name"] == ("mcnn" if frames is None else "linear")
    assert isinstance(loss, SdtwLoss) == (recipe != "strong")
    for network in (study_pathologies.NETWORK, "model=mcnn_small"):
        words = study_pathologies.words_of(pathology, recipe, seed=3, network=network)
        settings = read_settings(TrainSettings, compose_config("train", words))
        build_model(settings.model, HcqtSettings.from_dict(settings.features), settings.targets.outputs)


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_an_alarm_ends_has_failed_and_other_errors_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, ended: bool
) -> None:
    def breaking(settings: TrainSettings, folder: Path, resume: bool) -> None:
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("step,health/largest_target_share,health/entry_spread_share\n9,0.9,0.9\n19,0.9,0.9\n")
        (folder / "alarms.jsonl").write_text(json.dumps({"step": 20, "name": "collapse", "action": ENDED if ended else "none"}) + "\n")
        raise InputError("step 20: collapse.")

    monkeypatch.setattr(study_pathologies, "train", breaking)
    task = ("collapse", "acted upon", 0)
    if not ended:
        with pytest.raises(InputError, match="step 20"):
            study_pathologies.run(task, tmp_path, study_pathologies.NETWORK)
        return
    results = [study_pathologies.run(task, tmp_path, study_pathologies.NETWORK) for _ in range(2)]
    assert results[0] == results[1], "it is not trained again"
    study_pathologies.table(results[:1])
    study_pathologies.correlations(results[:1])
    assert "| collapse | acted upon | 1/1 (0.03-1.00) |  |  | 0.00 |  | collapse 1/1, 0.10 |" in capsys.readouterr().out
    well = results[0] | {"measures": {"frame_f_measure": 0.8, "alignment_median_error_ms": 30.0, "alignment_within_100_ms": 1.0}}
    study_pathologies.table([results[0], well])
    assert "| 1/2 (0.01-0.99) | 0.800 (of 1) | 30 (of 1) | 0.50 |  |" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"acted_upon/0: was begun with model=linear .*Remedy"):
        study_pathologies.run(task, tmp_path, "model=mcnn_small")


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    assert study_pathologies.interval(0, 5) == "0/5 (0.00-0.52)"
    assert study_pathologies.interval(5, 5) == "5/5 (0.48-1.00)"
    assert study_pathologies.interval(3, 10) == "3/10 (0.07-0.65)"


def test_a_recipe_of_two_names_is_trained_once() -> None:
    names = [(name, recipe) for name, recipes in study_pathologies.RECIPES.items() for recipe in recipes]
    trained = {study_pathologies.trained_as(*each) for each in names}
    assert len(trained) == len({study_pathologies.RECIPES[name][recipe] for name, recipe in trained}) == len(names) - 3
    assert study_pathologies.trained_as("blur", "gamma 1") == ("diagonalization", "weights 1-1-2")


def test_a_shift_is_judged_by_what_it_was_before_compensation() -> None:
    """Two frames of 25 ms each were taken back of a shift of which 10 ms are left."""
    result = {"measures": {"true_time_shift_ms": 10.0, "alignment_median_error_ms": 33.0}, "compensated_ms": 50.0}
    assert study_pathologies.true_error(result, "shift") == 60.0
    assert study_pathologies.true_error(result, "blur") == 33.0


def test_alarms_are_counted_by_runs_and_first_sounds() -> None:
    when = (0.25, 0.5, 0.75, 1.0)
    crowded = {"health": [{"progress": part, "largest_frame_share": share} for part, share in zip(when, (0.1, 0.9, 0.9, 0.9), strict=True)]}
    sound = {"health": [{"progress": part, "largest_frame_share": 0.1} for part in when]}
    assert study_pathologies.alarms_of([crowded, sound]) == "collapse 1/2, 0.75"
    assert study_pathologies.alarms_of([sound]) == "none"
    assert study_pathologies.alarms_of([{"health": []}]) == "not watched"
