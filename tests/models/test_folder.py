"""The model folder: what is written comes back; what is broken is named; nothing in it is executed."""

import json
import pickle
import resource
from pathlib import Path

import pytest
import torch

from softscribe.errors import InputError
from softscribe.models import CONTEXT_FRAMES, create_model, load_model, save_model

CARD = {
    "model": {"name": "mcnn", "channels": [8, 8, 8, 1]},
    "features": {"harmonics": [0.5, 1, 2, 3, 4, 5]},
    "outputs": 12,
    "threshold": 0.4,
    "time_shift_frames": 0,
    "data": {},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path, create_model(CARD["model"], in_channels=6, outputs=12), CARD)
    return tmp_path


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    original = create_model(CARD["model"], in_channels=6, outputs=12).eval()
    model, card = load_model(folder)
    assert card == CARD
    features = torch.rand(1, 6, 10 + 2 * CONTEXT_FRAMES, 216)
    with torch.no_grad():
        assert torch.equal(model(features), original(features))


def test_a_full_disk_is_named_and_what_was_there_stays(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"weights\.safetensors: cannot be written .*Remedy"):
            save_model(folder, create_model(CARD["model"], in_channels=6, outputs=12), CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_pickled_weights_are_refused(folder: Path) -> None:
    class Poison:
        def __reduce__(self) -> tuple:
            return (Path.touch, (folder / "executed",))

    (folder / "weights.safetensors").write_bytes(pickle.dumps(Poison()))
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(folder)
    assert not (folder / "executed").exists()


def test_truncated_weights_are_named(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 2),
        ("threshold", "high"),
        ("features", {}),
        ("outputs", 13),
        ("model", {"name": "os.system"}),
        ("model", {"name": "mcnn", "depth": 3}),
    ],
)
def test_a_card_with_impossible_values_is_refused(folder: Path, key: str, value: object) -> None:
    (folder / "card.json").write_text(json.dumps(CARD | {key: value}))
    with pytest.raises(InputError):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"model": 1}', "\xff"])
def test_a_card_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"card\.json"):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load_model(tmp_path / "nowhere")
