"""Settings of commands: from the shipped configs and the words of the command line, or from the folder of a run."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from softscribe.errors import InputError
from softscribe.files import read_bounded

CONFIG_NAME = "config.yaml"
MODEL_CARD = "model/card.json"
MAXIMUM_CONFIG_BYTES = 100_000
MAXIMUM_CONFIG_DEPTH = 20

Settings = TypeVar("Settings")


def config_directory() -> Path:
    """Return the folder of the shipped configs: inside the package when installed from a wheel, beside src/ in a clone."""
    package = Path(__file__).parents[1]
    candidates = (package / "configs", package.parents[1] / "configs")
    return next(folder for folder in candidates if folder.is_dir())


def compose_config(verb: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config of a verb with overrides applied."""
    OmegaConf.register_new_resolver("folder_name", lambda path: Path(path).resolve().name, replace=True)
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory().resolve())):
        return compose(config_name=verb, overrides=list(overrides))


def read_settings(kind: type[Settings], config: DictConfig) -> Settings:
    """Check a config against a dataclass and return it as one: unknown keys and wrong types are errors that name the key."""
    OmegaConf.resolve(config)
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), config))
    assert isinstance(settings, kind)
    return settings


def newest_run(folder: Path, needed: str) -> Path:
    """Return `folder` if it is a run's, else the newest run inside it that holds the file `needed`.

    Raises:
        InputError: there is none.
    """
    if (folder / CONFIG_NAME).is_file():
        if needed == MODEL_CARD and not (folder / needed).is_file():
            raise InputError(f"{folder}: this run has written no model yet. Remedy: softscribe train resume={folder}.")
        return folder
    runs = [path.parent for path in folder.glob(f"**/{CONFIG_NAME}") if (path.parent / needed).is_file()]
    if not runs:
        if (folder / needed).is_file():
            raise InputError(f"{folder}: {CONFIG_NAME} is missing. Remedy: a copy of it, from the same run or one with the same settings.")
        raise InputError(f"{folder}: no run with {needed} in it. Remedy: name a folder that `softscribe train` printed as run folder.")
    return max(runs, key=lambda run: ((run / needed).stat().st_mtime_ns, run))


def find_model(folder: Path) -> Path:
    """Return `folder` if it is a model's, else the model of the run, or of the newest run, that it names."""
    return folder if (folder / "card.json").is_file() else newest_run(folder, MODEL_CARD) / "model"


def read_run(folder: Path) -> Any:
    """Return the settings of the run in a folder, whoever made it.

    Raises:
        InputError: there is no config, or it is not one that a run writes.
    """
    from softscribe.training import TrainSettings

    path = folder / CONFIG_NAME
    content = read_bounded(path, MAXIMUM_CONFIG_BYTES)
    # A run's config is data: what stands there was resolved when it was written, and nothing in it refers to anything else.
    if b"${" in content or re.search(rb"(^|[\s\[{,])[&*]\w", content):
        raise InputError(f"{path}: holds an interpolation or a YAML alias, which softscribe never writes. Remedy: name another run.")
    try:
        depth = 0
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            if depth == 0 and isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.MappingStartEvent):
                raise ValueError("no mapping")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAXIMUM_CONFIG_DEPTH:  # OmegaConf takes 10 s for 1000 levels
                raise ValueError(f"nested more than {MAXIMUM_CONFIG_DEPTH} deep")
        config = OmegaConf.load(io.StringIO(content.decode("utf-8")))
        if not isinstance(config, DictConfig):
            raise InputError("no mapping")
        return read_settings(TrainSettings, config)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: not the config of a run ({error}). Remedy: name another run.") from error
