"""The model folder: `weights.safetensors` and `card.json`, all that a use of the model needs; nothing in it is ever executed."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from softscribe.errors import InputError
from softscribe.files import read_json, replacing
from softscribe.models.registry import create_model

WEIGHTS_NAME = "weights.safetensors"
CARD_NAME = "card.json"
MAXIMUM_SHIFT_FRAMES = 1000.0
CARD_KEYS = ("model", "features", "outputs", "threshold", "time_shift_frames", "data")


def save_model(folder: Path, model: nn.Module, card: dict[str, Any]) -> None:
    """Write the weights of `model` and its card into `folder`.

    Args:
        card: plain values only: `model` (name and settings as `create_model` takes them), `features` (settings of the HCQT), `outputs`,
            `threshold` (activation from which a pitch counts as sounding, in [0, 1]), `time_shift_frames` (how many frames late the
            activations are: every use moves them back by as much), `data` (what it was trained on). Further entries are kept and not
            looked at, such as `time_shift_measured_ms`, what was measured after training, with its interval.

    Raises:
        InputError: a key of the card is missing, or the folder cannot be written.
    """
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise InputError(f"card: {', '.join(missing)} missing. Remedy: give all of {', '.join(CARD_KEYS)}.")
    with replacing(folder / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}))
    with replacing(folder / CARD_NAME) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model folder; return the model, ready for use (in evaluation mode), and its card.

    Raises:
        InputError: a file is missing or broken, a weight is NaN or infinite, or weights and card do not belong together.
    """
    card_path, weights_path = folder / CARD_NAME, folder / WEIGHTS_NAME
    card = _read_card(card_path)
    # On torch's "meta" device a model has shapes and no memory: what a card asks for is compared with the weights before it is built.
    with torch.device("meta"):
        described = _described_model(card_path, card)
    if not weights_path.is_file():
        raise InputError(f"{weights_path}: no such file. Remedy: name the folder that `softscribe train` wrote as model/.")
    try:
        weights = load_file(weights_path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{weights_path}: no safetensors file ({error}). Remedy: copy the whole folder again.") from error
    if _forms(weights) != _forms(described.state_dict()):
        raise InputError(f"{weights_path}: not the weights that {CARD_NAME} describes. Remedy: copy the whole folder again.")
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise InputError(f"{weights_path}: holds NaN or infinity. Remedy: copy the whole folder again, or train again.")
    model = _described_model(card_path, card)
    model.load_state_dict(weights)
    return model.eval(), card


def _forms(weights: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}


def _described_model(path: Path, card: dict[str, Any]) -> nn.Module:
    try:
        return create_model(card["model"], in_channels=len(card["features"]["harmonics"]), outputs=card["outputs"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_card(path: Path) -> dict[str, Any]:
    card = read_json(path)
    missing = [key for key in CARD_KEYS if key not in card] if isinstance(card, dict) else list(CARD_KEYS)
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing. Remedy: use a folder that this version of softscribe wrote.")
    for key, lowest, highest in (("threshold", 0.0, 1.0), ("time_shift_frames", -MAXIMUM_SHIFT_FRAMES, MAXIMUM_SHIFT_FRAMES)):
        # Written this way round because NaN compares false with everything; True is no number here, though Python says so.
        if type(card[key]) not in (int, float) or not lowest <= card[key] <= highest:
            raise InputError(f"{path}: {key} {card[key]!r} is not in [{lowest:g}, {highest:g}]. Remedy: copy the whole model folder again.")
    if type(card["outputs"]) is not int or not isinstance(card["data"], dict):
        raise InputError(f"{path}: outputs is no number, or data no mapping. Remedy: copy the whole model folder again.")
    if not isinstance(card["features"], dict) or not isinstance(card["features"].get("harmonics"), list):
        raise InputError(f"{path}: features.harmonics is missing. Remedy: use a folder that this version of softscribe wrote.")
    return card
