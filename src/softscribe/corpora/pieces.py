"""The pieces of the built-in corpus: which scores of the installed music21 package it plays, how they are cut, which belong together."""

from __future__ import annotations

import importlib.util
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softscribe.corpora.performance import Performance
from softscribe.corpora.recordings import Split
from softscribe.errors import InputError
from softscribe.scores import Score, unique_targets
from softscribe.scores.notes import SAME_TIME_QUARTERS

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

_MELODY_WORD = 6  # intervals
_SAME_MELODY = 0.5  # share of the shorter melody's words found in the other, from which two chorales count as settings of one melody
_FEWEST_WORDS = 4  # a part with fewer (a drone, a short entry) is no melody
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


def list_pieces(size: str) -> list[Piece]:
    """The pieces of a size, sorted by name: the small corpus holds 72 chorales, drawn once for all, and four other movements.

    Raises:
        InputError: the size is unknown, or music21's scores are not installed.

    >>> pieces = list_pieces("small")
    >>> len(pieces), pieces[0].name, pieces[0].work
    (76, 'bach_bwv111_6', 'bwv111.6')
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


def melodies(score: Score) -> list[list[int]]:
    """Each part's successive intervals in semitones from beat to beat, without those of 0: its melody in any key, metre and ornament.

    >>> score = Score(np.array([0.0, 1.0, 1.5, 2.0]), np.array([1.0, 0.5, 0.5, 2.0]), np.array([60, 60, 62, 64]), np.zeros(4, int), 4.0)
    >>> melodies(score)
    [[4]]
    """
    result = []
    for part in np.unique(score.parts):
        own = score.parts == part
        first_beats = np.ceil(score.onsets_quarters[own] - SAME_TIME_QUARTERS).astype(int)
        after_beats = np.ceil((score.onsets_quarters + score.durations_quarters)[own] - SAME_TIME_QUARTERS).astype(int)
        highest = np.zeros(after_beats.max(), np.int64)
        for first, after, pitch in zip(first_beats, after_beats, score.pitches[own], strict=True):
            highest[first:after] = np.maximum(highest[first:after], pitch)
        intervals = np.diff(highest[highest > 0])
        result.append(intervals[intervals != 0].tolist())
    return result


def group_pieces(works: Mapping[str, str], chorale_melodies: Mapping[str, list[list[int]]]) -> list[set[str]]:
    """Put together what must not be divided between splits: pieces of one work, and chorales on one melody.

    Two chorales are on one melody if a part of the one holds half of the six-interval words of a part of the other. In music21's corpus
    this brings together all eleven settings of the Passion chorale, one of them under a descant.

    Args:
        works: the work of each piece, by name.
        chorale_melodies: `melodies` of each chorale, by name; other pieces have none.
    """
    words = {name: [found for part in parts if (found := _words(part))] for name, parts in chorale_melodies.items()}

    def related(first: str, second: str) -> bool:
        pairs = ((ours, theirs) for ours in words.get(first, []) for theirs in words.get(second, []))
        return works[first] == works[second] or any(
            len(ours & theirs) >= _SAME_MELODY * min(len(ours), len(theirs)) for ours, theirs in pairs
        )

    groups: list[set[str]] = []
    for name in sorted(works):
        joined = [group for group in groups if any(related(name, other) for other in group)]
        groups = [group for group in groups if group not in joined] + [{name}.union(*joined)]
    return groups


def assign_splits(groups: Sequence[set[str]], seconds: Mapping[str, float]) -> dict[str, Split]:
    """Put about 20 % of the music into test, 10 % into validation, the rest into training, by a rule without chance.

    Groups come in the order of a hash of their first name; each goes where it still fits: test, else validation, else training.

    >>> assign_splits([{"a"}, {"b", "c"}, {"d"}], {"a": 60.0, "b": 30.0, "c": 30.0, "d": 480.0})
    {'b': 'test', 'c': 'test', 'd': 'train', 'a': 'test'}
    """
    total = sum(seconds[name] for group in groups for name in group)
    room: dict[Split, float] = {split: share * total for split, share in _SHARES.items()}
    result: dict[str, Split] = {}
    for group in sorted(groups, key=lambda group: zlib.crc32(min(group).encode())):
        length = sum(seconds[name] for name in group)
        split: Split = next((split for split in room if length <= room[split]), "train")
        if split in room:
            room[split] -= length
        result |= dict.fromkeys(sorted(group), split)
    return result


def _words(intervals: list[int]) -> set[tuple[int, ...]]:
    words = {tuple(intervals[i : i + _MELODY_WORD]) for i in range(len(intervals) - _MELODY_WORD + 1)}
    return words if len(words) >= _FEWEST_WORDS else set()
