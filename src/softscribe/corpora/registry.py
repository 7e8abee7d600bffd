"""The names by which configs call the kinds of corpora, and what `softscribe prepare` does with one."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softscribe.console import Console
from softscribe.corpora.demo import write_demo_corpus
from softscribe.corpora.folder import Refusal, read_folder_corpus
from softscribe.corpora.preparation import plan, prepare
from softscribe.corpora.recordings import Recording
from softscribe.corpora.store import FeatureStore
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings

CorpusReader = Callable[..., tuple[list[Recording], list[Refusal]]]


@dataclass
class PrepareSettings:
    """What `softscribe prepare` does.

    Attributes:
        name: of the corpus, for messages.
        corpus: `kind` (key of `CORPORA`), `name` and the settings of that kind.
        features: settings of the HCQT.
        store: root of the feature store.
        jobs: processes; `null` takes all cores.
        dry_run: only print what would be done.
    """

    name: str = "unnamed"
    corpus: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    store: str = "store"
    jobs: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"jobs: {self.jobs}. Remedy: at least 1, or null for all cores.")


def read_demo_corpus(
    *, directory: str, size: str, seed: int, anchors: Mapping[str, float], store: Path, jobs: int, dry_run: bool
) -> tuple[list[Recording], list[Refusal]]:
    """Write the built-in corpus where it is not complete, then read it as the folder that it is."""
    if dry_run and not (Path(directory) / "manifest.csv").exists():
        raise InputError(
            f"{directory}: the built-in corpus is not written yet, so there is nothing to plan. Remedy: run without --dry-run."
        )
    if not dry_run:
        write_demo_corpus(
            Path(directory),
            size=size,
            minimum_segment_seconds=anchors["minimum_seconds"],
            maximum_segment_seconds=anchors["maximum_seconds"],
            seed=seed,
            jobs=jobs,
        )
    return read_folder_corpus(Path(directory), cache_directory=store / "scores", jobs=jobs)


def read_user_corpus(*, directory: str, store: Path, jobs: int, dry_run: bool, **options: Any) -> tuple[list[Recording], list[Refusal]]:
    """Read a folder of recordings and scores."""
    return read_folder_corpus(Path(directory), cache_directory=store / "scores", jobs=jobs, **options)


CORPORA: dict[str, CorpusReader] = {"demo": read_demo_corpus, "folder": read_user_corpus}
"""Kind -> reader. A corpus of your own joins by `CORPORA["mine"] = read_mine`."""


def prepare_corpus(settings: PrepareSettings) -> int:
    """Read a corpus, fill its feature store and print what was accepted and what was refused, and why.

    Returns:
        0, also when single files were refused.

    Raises:
        InputError: the corpus cannot be read at all, or the store cannot be written.
    """
    options = {name: value for name, value in settings.corpus.items() if name not in ("kind", "name")}
    kind = settings.corpus.get("kind")
    if kind not in CORPORA:
        raise InputError(f"corpus.kind: {kind!r} is not known. Remedy: one of {', '.join(sorted(CORPORA))}.")
    store = FeatureStore(Path(settings.store), HcqtSettings.from_dict(settings.features))
    jobs = -1 if settings.jobs is None else settings.jobs
    arguments = {"store": Path(settings.store), "jobs": jobs, "dry_run": settings.dry_run} | options
    try:
        inspect.signature(CORPORA[kind]).bind(**arguments)
    except TypeError as error:
        raise InputError(f"corpus: {error}. Remedy: give the settings that the kind {kind!r} takes, and no others.") from error
    recordings, refused = CORPORA[kind](**arguments)
    work = plan if settings.dry_run else prepare
    Console().print(work(recordings, store, refused=refused, jobs=jobs))
    return 0
