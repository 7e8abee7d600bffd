"""Filling the feature store, and telling what was accepted and what was refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from softscribe.corpora.parallel import map_in_processes
from softscribe.corpora.recordings import SPLITS, Recording, Refusal
from softscribe.corpora.store import FeatureStore, StoreError
from softscribe.errors import InputError
from softscribe.sound import audio_duration_seconds

_BYTES_PER_VALUE = 2


@dataclass(frozen=True)
class PreparationPlan:
    """What `prepare` would do.

    Attributes:
        to_compute, current: recordings whose features are missing or stale, and those whose features are there.
        refused: what cannot be used, as far as that shows without decoding.
        needed_bytes, free_bytes: of the disk that holds the store.
        directory: where the features go.
    """

    to_compute: tuple[Recording, ...]
    current: tuple[Recording, ...]
    refused: tuple[Refusal, ...]
    needed_bytes: int
    free_bytes: int
    directory: Path

    def __rich__(self) -> RenderableType:
        """For `rich.print`: the summary that `--dry-run` shows."""
        accepted = [(recording, None) for recording in self.to_compute + self.current]
        summary = (
            f"{len(self.to_compute)} recordings to compute, {len(self.current)} are there already. "
            f"Disk: {_size(self.needed_bytes)} needed, {_size(self.free_bytes)} free, in {self.directory}."
        )
        return Group(_table(accepted), *_guesses(accepted), *_refusals(self.refused), Text(summary))


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` did.

    Attributes:
        accepted: the corpus, sorted by name, each with its length in seconds.
        computed: how many of them had their features computed; the others' were there.
        refused: what does not enter the corpus, and why.
        directory: where the features lie.
    """

    accepted: tuple[tuple[Recording, float], ...]
    computed: int
    refused: tuple[Refusal, ...]
    directory: Path

    def __rich__(self) -> RenderableType:
        """For `rich.print`: what is in the corpus per split, what was guessed, and what was refused."""
        there = len(self.accepted) - self.computed
        summary = f"{self.computed} recordings computed, {there} were there already, {len(self.refused)} refused: {self.directory}"
        return Group(_table(self.accepted), *_guesses(self.accepted), *_refusals(self.refused), Text(summary))


def plan(recordings: Sequence[Recording], store: FeatureStore, *, refused: Sequence[Refusal] = (), jobs: int = -1) -> PreparationPlan:
    """Find out what `prepare` would compute and how much disk that takes; writes nothing. Reads every audio file once, to compare hashes.

    Raises:
        InputError: two recordings have the same name.
    """
    _check_names(recordings)
    inspected = map_in_processes(partial(_inspect, store=store), recordings, jobs=jobs, description="comparing")
    to_compute, current, refusals = [], [], list(refused)
    needed_seconds = 0.0
    for recording, outcome in zip(recordings, inspected, strict=True):
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        elif outcome > 0:
            to_compute.append(recording)
            needed_seconds += outcome
        else:
            current.append(recording)
    settings = store.settings
    bytes_per_second = settings.frames_per_second * settings.channels * settings.bins * _BYTES_PER_VALUE
    existing = next(folder for folder in (store.directory.absolute(), *store.directory.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    needed_bytes = int(needed_seconds * bytes_per_second)
    return PreparationPlan(tuple(to_compute), tuple(current), tuple(refusals), needed_bytes, free_bytes, store.directory)


def prepare(recordings: Sequence[Recording], store: FeatureStore, *, refused: Sequence[Refusal] = (), jobs: int = -1) -> PreparationReport:
    """Compute the features that the store lacks and make `recordings` its corpus, less those that turn out unusable.

    It may be interrupted at any moment and run again: what is complete is kept. Until it has ended the store holds no corpus, so that
    nothing is trained on half of one.

    Args:
        recordings: with distinct names.
        store: where the features go.
        refused: what was refused when the recordings were read; it joins the report.
        jobs: processes; -1 takes all cores. Each needs memory for one recording: about 2.5 GB for an hour.

    Raises:
        InputError: two recordings have the same name, nothing is usable, or the disk has not enough room.
        StoreError: the store cannot be written.
    """
    planned = plan(recordings, store, refused=refused, jobs=jobs)
    if planned.needed_bytes > planned.free_bytes:
        raise InputError(
            f"{store.directory}: the features need {_size(planned.needed_bytes)}, the disk has {_size(planned.free_bytes)} left. "
            "Remedy: free some, choose another folder, or prepare fewer recordings."
        )
    store.set_corpus(())
    usable = [*planned.to_compute, *planned.current]
    results = map_in_processes(partial(_store_one, store=store), usable, jobs=jobs, description="features")
    accepted, refusals, computed = [], list(planned.refused), 0
    for recording, outcome in zip(usable, results, strict=True):
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        else:
            was_computed, duration_seconds = outcome
            accepted.append((recording, duration_seconds))
            computed += was_computed
    if not accepted:
        reasons = "".join(f"\n  {refusal.reason}" for refusal in refusals)
        raise InputError(f"corpus: none of its recordings can be used. Remedy: see the reasons.{reasons}")
    store.set_corpus(recording.name for recording, _ in accepted)
    accepted.sort(key=lambda pair: pair[0].name)
    return PreparationReport(tuple(accepted), computed, tuple(refusals), store.directory)


def _check_names(recordings: Sequence[Recording]) -> None:
    seen: dict[str, Recording] = {}
    for recording in recordings:
        other = seen.setdefault(recording.name.casefold(), recording)
        if other is not recording:
            raise InputError(
                f"recording {recording.name!r}: {recording.audio_path} and {other.audio_path} have the same name. Remedy: rename one."
            )


def _inspect(recording: Recording, store: FeatureStore) -> float | Refusal:
    """Seconds of audio to compute: 0 if the features are there."""
    try:
        return 0.0 if store.is_current(recording) else audio_duration_seconds(recording.audio_path)
    except InputError as error:
        return Refusal(recording.audio_path, str(error))


def _store_one(recording: Recording, store: FeatureStore) -> tuple[bool, float] | Refusal:
    try:
        computed = store.write(recording)
        return computed, store.duration_seconds(recording)
    except StoreError:
        raise
    except InputError as error:
        return Refusal(recording.audio_path, str(error))


def _table(accepted: Sequence[tuple[Recording, float | None]]) -> Table:
    table = Table(title="Corpus", title_justify="left")
    table.add_column("split")
    for column in ("recordings", "pieces", "segments", "minutes", "annotated\nminutes", "anchors\nper\nminute"):  # within 80 columns
        table.add_column(column, justify="right")
    for split in SPLITS:
        chosen = [(recording, seconds) for recording, seconds in accepted if recording.split == split]
        lengths = [seconds for _, seconds in chosen if seconds is not None]
        annotated = sum(recording.annotated_seconds for recording, _ in chosen) / 60
        anchors = sum(recording.anchor_count for recording, _ in chosen)
        table.add_row(
            split,
            str(len(chosen)),
            str(len({recording.score_path for recording, _ in chosen})),
            str(sum(len(recording.segments) for recording, _ in chosen)),
            f"{sum(lengths) / 60:.1f}" if len(lengths) == len(chosen) else "",
            f"{annotated:.1f}",
            f"{anchors / annotated:.1f}" if annotated else "",
        )
    return table


def _guesses(accepted: Sequence[tuple[Recording, float | None]]) -> list[Text]:
    lines = []
    for recording, duration_seconds in accepted:
        if recording.whole is not None:
            left_out = "" if duration_seconds is None else f" of {duration_seconds:.0f}"
            lines.append(
                f"Warning: {recording.name}: its {len(recording.segments)} segments were guessed by a coarse alignment; they cover "
                f"{recording.annotated_seconds:.0f}{left_out} s. If little, try the other `repeats` or give segments in a manifest.csv."
            )
    return [Text(line, style="yellow") for line in lines]


def _refusals(refused: Sequence[Refusal]) -> list[RenderableType]:
    if not refused:
        return []
    columns = (Column(name, overflow="fold") for name in ("file", "why"))  # names are folded, not cut short
    table = Table(*columns, title=f"Refused: {len(refused)}", title_justify="left", show_lines=True)
    for refusal in refused:
        # Reasons begin with the whole path, which is the first column's business.
        table.add_row(Text(refusal.file.name), Text(refusal.reason.removeprefix(f"{refusal.file}: ")))
    return [table]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
