"""The model folder: `weights.safetensors` and `card.json`, all that a use of the model needs; nothing in it is ever executed."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from softscribe.errors import InputError
from softscribe.files import replacing
from softscribe.models.registry import create_model

WEIGHTS_NAME = "weights.safetensors"
CARD_NAME = "card.json"
CARD_KEYS = ("model", "features", "outputs", "threshold", "time_shift_frames", "data")


def save_model(folder: Path, model: nn.Module, card: dict[str, Any]) -> None:
    """Write the weights of `model` and its card into `folder`.

    Args:
        card: plain values only: `model` (name and settings as `create_model` takes them), `features` (settings of the HCQT), `outputs`,
            `threshold` (activation from which a pitch counts as sounding, in [0, 1]), `time_shift_frames` (how many frames late the
            activations are), `data` (what it was trained on).

    Raises:
        InputError: a key of the card is missing, or the folder cannot be written.
    """
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise InputError(f"card: {', '.join(missing)} missing. Remedy: give all of {', '.join(CARD_KEYS)}.")
    with replacing(folder / WEIGHTS_NAME) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, temporary)
    with replacing(folder / CARD_NAME) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model folder; return the model, ready for use (in evaluation mode), and its card.

    Raises:
        InputError: a file is missing or broken, or weights and card do not belong together.
    """
    card = _read_card(folder / CARD_NAME)
    weights_path = folder / WEIGHTS_NAME
    model = create_model(card["model"], in_channels=len(card["features"]["harmonics"]), outputs=card["outputs"])
    try:
        model.load_state_dict(load_file(weights_path))
    except FileNotFoundError as error:
        raise InputError(f"{weights_path}: no such file. Remedy: name the folder that `softscribe train` wrote as model/.") from error
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{weights_path}: not the weights that {CARD_NAME} describes ({error}). Remedy: copy the whole folder again."
        ) from error
    return model.eval(), card


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Remedy: name the folder that `softscribe train` wrote as model/."
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}). Remedy: copy the whole model folder again.") from error
    missing = [key for key in CARD_KEYS if key not in card] if isinstance(card, dict) else list(CARD_KEYS)
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing. Remedy: use a folder that this version of softscribe wrote.")
    if not isinstance(card["threshold"], int | float) or not 0 <= card["threshold"] <= 1:
        raise InputError(f"{path}: threshold {card['threshold']!r} is not in [0, 1]. Remedy: copy the whole model folder again.")
    if not isinstance(card["features"], dict) or not isinstance(card["features"].get("harmonics"), list):
        raise InputError(f"{path}: features.harmonics is missing. Remedy: use a folder that this version of softscribe wrote.")
    return card
