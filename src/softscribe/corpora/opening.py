"""Finding the feature store that belongs to a folder somebody names."""

from pathlib import Path

from softscribe.corpora.store import FeatureStore, prepared_names
from softscribe.errors import InputError, concerning
from softscribe.files import read_json
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
        if stores := sorted({str(path.parent) for path in folder.glob("*/hcqt-*")}):
            raise InputError(f"{folder}: a folder of stores. Remedy: name one of {', '.join(stores)}.")
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder. Remedy: name a prepared store, the folder of a corpus, or a run.")
        raise InputError(f"{folder}: no prepared features in it, nor in store/{folder.resolve().name}. Remedy: run `softscribe prepare`.")
    if len(found) > 1:
        raise InputError(f"{folder}: features of several settings. Remedy: name one of {', '.join(map(str, found))}.")
    return FeatureStore(found[0].parent, _settings(found[0]))


def _settings_folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("hcqt-*"))


def _settings(folder: Path) -> HcqtSettings:
    path = folder / f"{prepared_names(folder)[0]}.json"
    sidecar = read_json(path)
    if not isinstance(sidecar, dict) or not isinstance(sidecar.get("settings"), dict):
        raise InputError(f"{path}: states no settings. Remedy: run `softscribe prepare` again.")
    with concerning(path):
        return HcqtSettings.from_dict(sidecar["settings"])
