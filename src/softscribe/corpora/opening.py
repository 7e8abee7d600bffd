"""Finding the feature store that belongs to a folder somebody names."""

import json
from pathlib import Path

from softscribe.corpora.store import FeatureStore
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings


def open_store(folder: Path) -> FeatureStore:
    """Return the store that `folder` is, or that was prepared of the corpus in `folder` under the usual name store/NAME.

    A store with several HCQT settings is opened by naming one of the folders in it.

    Raises:
        InputError: there is no prepared store, or there are several.
    """
    candidates = [folder, *_settings_folders(folder), *_settings_folders(Path("store") / folder.resolve().name)]
    found = [path for path in dict.fromkeys(candidate.resolve() for candidate in candidates) if (path / "corpus.json").is_file()]
    if not found:
        raise InputError(f"{folder}: no prepared features in it, nor in store/{folder.resolve().name}. Remedy: run `softscribe prepare`.")
    if len(found) > 1:
        raise InputError(f"{folder}: features of several settings. Remedy: name one of {', '.join(map(str, found))}.")
    return FeatureStore(found[0].parent, _settings(found[0]))


def _settings_folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("hcqt-*"))


def _settings(folder: Path) -> HcqtSettings:
    try:
        name = json.loads((folder / "corpus.json").read_text())["recordings"][0]
        return HcqtSettings.from_dict(json.loads((folder / f"{name}.json").read_text())["settings"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: its settings cannot be read ({error}). Remedy: run `softscribe prepare` again.") from error
