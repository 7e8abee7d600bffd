"""Steps that are not finite: what about them is not, of which segments, and what is kept of them for a closer look."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from softscribe.files import replacing
from softscribe.training.segments import Batch

BAD_STEPS_UNTIL_STOP = 5


class Attempt(NamedTuple):
    """A batch that was tried: what of it was not finite (None if all was), and the names of its segments."""

    batch: Batch
    not_finite: str | None
    segments: list[str]


def what_is_not_finite(**tensors: Tensor) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, None if all are finite.

    >>> what_is_not_finite(features=torch.zeros(2), targets=torch.tensor([0.0, float("nan")]))
    'targets'
    """
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()  # one wait for the GPU, not one for each
    return next((name for name, whole in zip(tensors, finite, strict=True) if not whole), None)


def blame(attempts: Sequence[Attempt]) -> tuple[str, list[str]]:
    """Return what was not finite in a step and the segments of the batches to blame: of all of them if only their gradient was not.

    >>> blame([Attempt(None, None, ["a"]), Attempt(None, "loss", ["b", "c"])])
    ('loss', ['b', 'c'])
    """
    bad = [attempt for attempt in attempts if attempt.not_finite is not None]
    what = bad[0].not_finite if bad else None
    return what or "gradient", [name for attempt in bad or attempts for name in attempt.segments]


def write_dump(path: Path, step: int, attempts: Sequence[Attempt]) -> None:
    """Write the tensors of a step's batches to `path` (.safetensors), named "0/features", and what they are to the same name with .json.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors = {
        f"{number}/{name}": value.detach().cpu().contiguous()
        for number, attempt in enumerate(attempts)
        for name, value in attempt.batch._asdict().items()
        if value is not None
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors))
    batches = [{"not_finite": attempt.not_finite, "segments": attempt.segments} for attempt in attempts]
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"step": step, "not_finite": blame(attempts)[0], "batches": batches}, indent=2) + "\n")
