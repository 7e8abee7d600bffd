"""The pieces of the built-in corpus: which scores of the installed music21 package it plays, how they are cut, which belong together."""

from __future__ import annotations

import importlib.util
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from softscribe.corpora.performance import Performance
from softscribe.corpora.recordings import SPLITS, Split
from softscribe.errors import InputError
from softscribe.scores import Score, unique_targets

Size = Literal["small", "full"]

_SMALL_CHORALES = 72
# Short scores of other kinds, quick to parse, for the small corpus.
_SMALL_OTHERS = (
    "mozart/k545/movement1_exposition",
    "schumann_robert/opus48no2",
    "schumann_clara/polonaise_op1n1",
    "haydn/opus1no1/movement2",
)
_OTHER_COMPOSERS = ("mozart", "haydn", "beethoven", "schumann_robert", "schumann_clara")
_OTHER_BACH = ("bwv846",)  # a prelude for keyboard among the chorales
_SAME_PIECE = ("schumann_robert/dichterliebe_no2",)  # is opus48no2 again
_SUFFIXES = (".mxl", ".xml", ".krn")  # in order of preference where one piece lies there in several

_MELODY_WORD = 5  # intervals
_SAME_MELODY = 0.3  # share of common words from which two chorales count as settings of one melody
_SHARES: dict[Split, float] = {"test": 0.2, "validation": 0.1}


@dataclass(frozen=True)
class Piece:
    """A score of the music21 package.

    Attributes:
        name: unique, and a file name.
        path: the score file.
        work: what it is a movement or version of; two files of one work are never in different splits.
        is_chorale: whether it is a chorale of Bach's, whose melody other chorales may share.
    """

    name: str
    path: Path
    work: str
    is_chorale: bool


@dataclass(frozen=True)
class Cut:
    """One annotated segment: where it lies in the performance and in the score."""

    start_seconds: float
    end_seconds: float
    start_quarters: float
    end_quarters: float


def list_pieces(size: Size) -> list[Piece]:
    """The pieces of a size, sorted by name: the small corpus holds 72 chorales, drawn once for all, and four other movements.

    Raises:
        InputError: the size is unknown, or music21's scores are not installed.

    >>> pieces = list_pieces("small")
    >>> len(pieces), pieces[0].name, pieces[0].work
    (76, 'bach_bwv102_7', 'bwv102.7')
    """
    if size not in ("small", "full"):
        raise InputError(f"size={size!r}: unknown. Remedy: small or full.")
    spec = importlib.util.find_spec("music21")
    root = Path((spec.submodule_search_locations or ["missing"])[0]) / "corpus" if spec else Path("missing")
    found: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for composer in ("bach", *_OTHER_COMPOSERS):
            for path in sorted((root / composer).rglob(f"*{suffix}")):
                found.setdefault(path.relative_to(root).as_posix().removesuffix(suffix), path)
    pieces = [_piece(key, path) for key, path in found.items() if key not in _SAME_PIECE and "choraleAnalyses" not in key]
    if not pieces:
        raise InputError(f"{root}: music21's own scores are not there. Remedy: pip install --force-reinstall music21.")
    if size == "small":
        chorales = sorted((piece for piece in pieces if piece.is_chorale), key=lambda piece: zlib.crc32(piece.name.encode()))
        others = {found[key] for key in _SMALL_OTHERS if key in found}
        pieces = chorales[:_SMALL_CHORALES] + [piece for piece in pieces if piece.path in others]
    return sorted(pieces, key=lambda piece: piece.name)


def _piece(key: str, path: Path) -> Piece:
    chorale = re.match(r"bach/(bwv\d+(\.\d+)?)", key)
    folder, _, stem = key.rpartition("/")
    is_chorale = chorale is not None and stem not in _OTHER_BACH
    # A version of a chorale has its number and more letters; movements lie in a folder named after their work.
    work = chorale[1] if chorale is not None else folder if "/" in folder else key
    return Piece(re.sub(r"\W", "_", key), path, work, is_chorale)


def cut(performance: Performance, minimum_seconds: float, maximum_seconds: float, rng: np.random.Generator) -> list[Cut]:
    """Cut a performance into consecutive segments of random length.

    A segment may begin at any written onset where the set of sounding pitch classes changes; its time is the performed onset of the
    earliest note written there. So a segment holds exactly the notes written in it, and notes written before that still ring are
    clipped. The first begins with the first note; the last ends where the score's last notes end and are released. Rests
    before and after lie outside. If no division into lengths between the two limits reaches the end, the cut stops as late as one can.

    Returns:
        The segments in order, each beginning where the one before it ends; none if the performance is too short.
    """
    score = performance.score
    positions, chord = np.unique(score.onsets_quarters, return_inverse=True)
    earliest = np.full(len(positions), np.inf)
    np.minimum.at(earliest, chord, performance.onsets_seconds)
    changes = np.isin(positions, unique_targets(score, 12).onsets_quarters)
    changes[0] = True
    end_quarters = float((score.onsets_quarters + score.durations_quarters).max())
    quarters = np.append(positions[changes], end_quarters)
    seconds = np.append(earliest[changes], performance.offsets_seconds.max())

    def followers(i: int) -> np.ndarray:
        lengths = seconds - seconds[i]
        return np.flatnonzero((lengths >= minimum_seconds) & (lengths <= maximum_seconds))

    reachable = {0}
    for i in range(len(seconds)):
        if i in reachable:
            reachable.update(followers(i).tolist())
    last = max(reachable)
    leads_to_last = {last}
    for i in reversed(range(last)):
        if leads_to_last.intersection(followers(i).tolist()):
            leads_to_last.add(i)
    cuts = []
    i = 0
    while i < last:
        choices = [j for j in followers(i).tolist() if j in leads_to_last]
        wanted = seconds[i] + rng.uniform(minimum_seconds, maximum_seconds)
        j = min(choices, key=lambda choice: abs(seconds[choice] - wanted))
        cuts.append(Cut(float(seconds[i]), float(seconds[j]), float(quarters[i]), float(quarters[j])))
        i = j
    return cuts


def melody(score: Score) -> Int[np.ndarray, " intervals"]:
    """The intervals in semitones between successive different highest notes: a chorale's melody in any key and rhythm.

    >>> score = Score(np.array([0.0, 0.0, 1.0, 2.0]), np.ones(4), np.array([48, 60, 60, 64]), np.zeros(4, int), 3.0)
    >>> melody(score).tolist()
    [4]
    """
    positions, chord = np.unique(score.onsets_quarters, return_inverse=True)
    highest = np.zeros(len(positions), np.int64)
    np.maximum.at(highest, chord, score.pitches)
    steps = np.diff(highest)
    return steps[steps != 0]


def assign_splits(works: Mapping[str, str], melodies: Mapping[str, list[int]], seconds: Mapping[str, float]) -> dict[str, Split]:
    """Put about 20 % of the music into test, 10 % into validation, the rest into training, by a rule without chance.

    Pieces of one work stay together, and so do chorales whose melodies share 30 % of their five-interval words with any member of a group
    (Jaccard index). Groups come in the order of a hash of their first name; each goes where it still fits.

    Args:
        works: the work of each piece, by name.
        melodies: the melody of each chorale, by name; other pieces have none.
        seconds: the length of each piece, by name.
    """
    words = {name: _words(intervals) for name, intervals in melodies.items()}
    groups: list[set[str]] = []
    for name in sorted(works):
        related = [group for group in groups if any(works[name] == works[other] or _alike(words, name, other) for other in group)]
        groups = [group for group in groups if group not in related] + [{name}.union(*related)]
    total = sum(seconds[name] for name in works)
    room = {split: share * total for split, share in _SHARES.items()}
    result: dict[str, Split] = {}
    for group in sorted(groups, key=lambda group: zlib.crc32(min(group).encode())):
        length = sum(seconds[name] for name in group)
        split: Split = next((split for split in _SHARES if length <= room[split]), SPLITS[0])
        if split in room:
            room[split] -= length
        result |= dict.fromkeys(group, split)
    return result


def _words(intervals: list[int]) -> set[tuple[int, ...]]:
    return {tuple(intervals[i : i + _MELODY_WORD]) for i in range(len(intervals) - _MELODY_WORD + 1)}


def _alike(words: Mapping[str, set[tuple[int, ...]]], first: str, second: str) -> bool:
    ours, theirs = words.get(first, set()), words.get(second, set())
    return bool(ours) and len(ours & theirs) >= _SAME_MELODY * len(ours | theirs)
