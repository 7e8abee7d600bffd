"""The names by which configs and model cards call the models."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from softscribe.errors import InputError
from softscribe.models.linear import Linear
from softscribe.models.mcnn import Mcnn

MODELS: dict[str, Callable[..., nn.Module]] = {"mcnn": Mcnn, "linear": Linear}
"""Name -> class. A model of your own joins by `MODELS["mine"] = Mine`; it takes `in_channels` and `outputs`, and what its settings name."""


def create_model(settings: Mapping[str, Any], *, in_channels: int, outputs: int) -> nn.Module:
    """Build the model that `settings` describe: its `name`, and the remaining settings as keyword arguments.

    Raises:
        InputError: the name is not in `MODELS`, or a setting is not one of the model's.

    >>> create_model({"name": "mcnn", "channels": [8, 8, 8, 1]}, in_channels=6, outputs=12).outputs
    12
    """
    arguments = dict(settings) if isinstance(settings, Mapping) else {}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in MODELS:
        raise InputError(f"model: {settings!r} names no known model. Remedy: a name out of {', '.join(sorted(MODELS))}.")
    try:
        if "channels" in arguments:
            arguments["channels"] = tuple(arguments["channels"])
        return MODELS[name](in_channels=in_channels, outputs=outputs, **arguments)
    except InputError:
        raise
    # torch refuses sizes that are no numbers, negative or beyond its reach each with another error.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"model: {error}. Remedy: give only settings that the model {name!r} takes.") from error
