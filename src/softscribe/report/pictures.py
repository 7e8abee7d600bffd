"""Pictures of alignments for a report: few of them, reduced, re-encoded, and inside the page."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

MOST_PIECES = 4
MOST_STEPS = 4
"""Pieces and steps that a report shows: the first and the last ones, and those evenly between."""

WIDEST_PIXELS, HIGHEST_PIXELS = 1200, 2400
MOST_PIXELS = 50_000_000
"""Larger pictures are not opened: they would fill the memory."""

MOST_BYTES = 6_000_000
"""Of all pictures of a page together."""

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Picture:
    """A picture of a piece at a step; without `source`, `trouble` says why."""

    step: int
    source: str = ""
    width: int = 0
    height: int = 0
    trouble: str = ""


def evenly(items: Sequence[Kind], most: int) -> list[Kind]:
    """Return at most `most` of the items: the first, the last, and those evenly between.

    >>> evenly(range(0, 700, 70), 4)
    [0, 210, 420, 630]
    """
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def embed_pictures(pictures: Mapping[str, Mapping[int, Path]]) -> dict[str, list[Picture]]:
    """Return some pictures of some pieces, by piece and in the order of their steps, bounded in number and size."""
    embedded: dict[str, list[Picture]] = {}
    bytes_left = MOST_BYTES
    for piece in evenly(list(pictures), MOST_PIECES):
        for step in evenly(list(pictures[piece]), MOST_STEPS):
            picture = _embed(pictures[piece][step], step, bytes_left)
            bytes_left -= len(picture.source)
            embedded.setdefault(piece, []).append(picture)
    return embedded


def _embed(path: Path, step: int, bytes_left: int) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > MOST_PIXELS:
                    return Picture(step, trouble="too large")
                reduced = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Picture(step, trouble="not a picture")
    reduced.thumbnail((WIDEST_PIXELS, HIGHEST_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    reduced.save(buffer, "WEBP", quality=80)
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    if len(source) > bytes_left:
        return Picture(step, trouble="left out: the report would grow too large")
    return Picture(step, source, *reduced.size)
