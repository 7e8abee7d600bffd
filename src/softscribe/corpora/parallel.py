"""One function over many recordings, on all cores, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import joblib
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softscribe.console import Console, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int, description: str) -> list[Result]:
    """Return [function(item) for item in items], computed by `jobs` processes (-1: one for every core) of one thread each.

    The first exception ends it. With one job, or one item, everything runs in this process.
    """
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    processes = 1 if len(items) <= 1 else min(joblib.effective_n_jobs(jobs), len(items))
    with Progress(*columns, console=Console()) as progress, joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=processes, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator")
        results = parallel(joblib.delayed(function)(item) for item in items)
        return list(progress.track(results, total=len(items)))
