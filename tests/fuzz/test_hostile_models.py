"""Configs, cards and weights made to harm."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fuzz import wholes
from fuzz.guard import read_or_refuse, refused, saved
from softscribe import cli
from softscribe.errors import InputError
from softscribe.models import load_model
from softscribe.sound import HcqtSettings
from softscribe.training.losses import create_loss
from softscribe.training.run import build_model

pytestmark = pytest.mark.usefixtures("without_shape_types", "nothing_runs")


@pytest.mark.parametrize("group", ["model", "loss", "features", "corpus", "logger"])
def test_a_target_in_a_config_is_never_called(tmp_path: Path, canary: Path, group: str) -> None:
    config = wholes.run_config()
    config[group] = {**config[group], "_target_": "os.mkdir", "path": str(canary), "_args_": [str(canary)]}
    path = saved(tmp_path / "config.yaml", json.dumps(config))
    settings = read_or_refuse(lambda path: cli.read_run(path.parent), path)
    uses: dict[str, Callable[[dict], Any]] = {
        "model": lambda values: build_model(values, HcqtSettings(), 12),
        "loss": create_loss,
        "features": HcqtSettings.from_dict,
    }
    if group in uses:
        with pytest.raises(InputError):
            uses[group](getattr(settings, group))
    assert cli.main(["evaluate", f"run={tmp_path}"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.mkdir ['{canary}']",
        "name: ${{oc.env:HOME}}",
        "a: &a [x, x]\nb: &b [*a, *a]\nname: hello",
        "_target_: os.mkdir\npath: '{canary}'",
        "name: a\nname: b",
        '"0"',
        "- name: a",
        "[" * 50_000,
        "name: " + "x" * 200_000,
    ],
)
def test_a_config_that_is_more_than_data_is_refused(tmp_path: Path, canary: Path, text: str) -> None:
    saved(tmp_path / "config.yaml", text.format(canary=canary) if "canary" in text or "{{" in text else text)
    refused(lambda path: cli.read_run(path.parent), tmp_path / "config.yaml", megabytes=300)


def test_yaml_that_laughs_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    saved(tmp_path / "config.yaml", "\n".join(lines))
    refused(lambda path: cli.read_run(path.parent), tmp_path / "config.yaml", "alias", megabytes=100)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"name": "../../evil"}),
        ("model", {"name": "/etc/passwd"}),
        ("model", {"name": "mcnn", "_target_": "os.system"}),
        ("model", {"name": "mcnn", "init": "/etc"}),
        ("model", {"name": ["mcnn"]}),
        ("model", {"name": "mcnn", "channels": [100_000, 100_000, 100_000, 1]}),
        ("model", {"name": "mcnn", "channels": [10**30, 1, 1, 1]}),
        ("features", "../../features"),
        ("features", {"harmonics": [1] * 100_000}),
        ("outputs", "/etc/passwd"),
        ("time_shift_frames", float("nan")),
        ("time_shift_frames", 1e300),
        ("data", "../.."),
    ],
)
def test_a_card_cannot_lead_anywhere(tmp_path: Path, key: str, value: object) -> None:
    card = wholes.save_small_model(tmp_path)
    saved(tmp_path / "card.json", json.dumps(card | {key: value}))
    refused(load_model, tmp_path, megabytes=300)


def test_a_card_that_says_a_thing_twice_or_nests_without_end_is_refused(tmp_path: Path) -> None:
    card = json.dumps(wholes.save_small_model(tmp_path))
    for text in (card.replace('"threshold"', '"threshold": 0.9, "threshold"'), "[" * 200_000, '{"a":' * 200_000, " " * 11_000_000):
        refused(lambda path: load_model(path.parent), saved(tmp_path / "card.json", text))


def safetensors(header: object, body: bytes = bytes(100)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 10_000_000_000) + b"{}",
        safetensors({"a": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}}),
        safetensors({name: {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]} for name in "ab"}, bytes(80)),
        safetensors(
            {"a": {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [40, 44]}}
        ),
        safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        safetensors({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 0]}}),
        safetensors({"../../evil": {"dtype": "F32", "shape": [25], "data_offsets": [0, 100]}}),
    ],
)
def test_weights_that_claim_what_is_not_there_are_refused(tmp_path: Path, content: bytes) -> None:
    wholes.save_small_model(tmp_path)
    refused(lambda path: load_model(path.parent), saved(tmp_path / "weights.safetensors", content), megabytes=200)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    wholes.save_small_model(tmp_path)
    path = tmp_path / "weights.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    for changed, word in ((torch.full_like(weights[name], torch.nan), "NaN"), (weights[name].double(), "not the weights")):
        save_file(weights | {name: changed}, path)
        refused(lambda path: load_model(path.parent), path, word)
