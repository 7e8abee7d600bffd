"""Which recording goes with which score, found by the names of the files; and which piece goes into which split."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from softscribe.corpora.manifest import ManifestRow
from softscribe.corpora.recordings import Refusal, Split, safe_name
from softscribe.errors import InputError
from softscribe.scores import SCORE_SUFFIXES

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
TRUTH_SUFFIXES = frozenset({".csv", ".mid", ".midi"})


def pair_by_name(directory: Path) -> tuple[list[ManifestRow], list[Refusal]]:
    """Pair the audio files with the score files below `directory`, sorted by audio file.

    Audio files are looked for in its folder `audio/` if there is one, scores in `scores/`, and otherwise everywhere but in `truth/`;
    files truth/<recording>.csv or .mid are the notes as performed. Names are compared without suffix and without regard to case.
    A score belongs to a recording of the same name, or else to one named `<performer>_<piece>` or `<piece>_<performer>`
    (`_`, `-` or a space between), where <piece> is the score's name; of several such scores the longest name counts.
    Recordings for which two scores come equally into question, or none, and scores without a recording are refused.

    Returns:
        One row for every pair, and the refusals.
    """
    audio_files = _files(directory, "audio", AUDIO_SUFFIXES)
    score_files = _files(directory, "scores", SCORE_SUFFIXES)
    truths = {path.stem.casefold(): path for path in _files(directory, "truth", TRUTH_SUFFIXES, only_there=True)}
    rows, refusals, used = [], [], set()
    for audio in audio_files:
        candidates = _scores_for(audio, score_files)
        used.update(candidates)
        if len(candidates) == 1:
            rows.append(ManifestRow(audio, candidates[0], truth=truths.get(audio.stem.casefold())))
        elif candidates:
            names = ", ".join(path.relative_to(directory).as_posix() for path in candidates)
            refusals.append(Refusal(audio, f"{audio}: {names} are equally possible scores. Remedy: keep one, or write a manifest.csv."))
        else:
            remedy = f"Remedy: add one named {audio.stem} (or a part of it: <performer>_<piece>), or write a manifest.csv."
            refusals.append(Refusal(audio, f"{audio}: has no score of its name. {remedy}"))
    for score in score_files:
        if score not in used:
            reason = f"{score}: has no recording of its name. Remedy: name the recording {score.stem} or <performer>_{score.stem}."
            refusals.append(Refusal(score, reason))
    return rows, refusals


def unique_names(audio_paths: Iterable[Path], directory: Path) -> dict[Path, str]:
    """Give every recording a name: its file's, or, where several have the same, its path below `directory`.

    >>> list(unique_names([Path("c/1/b.wav"), Path("c/2/b.wav"), Path("c/a.wav")], Path("c")).values())
    ['1_b.wav', '2_b.wav', 'a']
    """
    paths = sorted(set(audio_paths))
    stems = [safe_name(path.stem).casefold() for path in paths]
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        relative = path.relative_to(directory) if path.is_relative_to(directory) else path
        name = safe_name(path.stem) if stems.count(stem) == 1 else safe_name("_".join(relative.parts))
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        names[path] = name
    return names


def split_pieces(
    given: Mapping[Path, Split | None], directory: Path, *, seed: int, validation_fraction: float, test_fraction: float
) -> dict[Path, Split]:
    """Assign every piece (score file) to a split.

    A piece keeps the split that it is given. The others are drawn, in an order that depends on `seed` and on their paths below
    `directory` only, so that adding or losing a piece moves few others: the rounded fraction for the test split, then for
    validation, the rest is for training. Where a fraction is above 0, at least one piece is drawn if there are enough: two for
    training and validation, three for all. None is drawn for a split that some piece is given.

    Raises:
        InputError: a fraction is negative, or together they leave nothing for training.

    >>> pieces = {Path(f"c/{number}.mid"): None for number in range(5)}
    >>> splits = split_pieces(pieces, Path("c"), seed=0, validation_fraction=0.2, test_fraction=0.2)
    >>> sorted(splits.values())
    ['test', 'train', 'train', 'train', 'validation']
    """
    if not (validation_fraction >= 0 and test_fraction >= 0 and validation_fraction + test_fraction < 1):
        raise InputError(
            f"validation_fraction {validation_fraction} and test_fraction {test_fraction}: Remedy: at least 0, and below 1 together."
        )

    def order(piece: Path) -> str:
        relative = piece.relative_to(directory) if piece.is_relative_to(directory) else piece
        return hashlib.sha256(os.fsencode(f"{seed}:{relative.as_posix()}")).hexdigest()

    free = sorted((piece for piece, split in given.items() if split is None), key=order)
    splits: dict[Path, Split] = {piece: split for piece, split in given.items() if split is not None}
    drawn: dict[Split, int] = {}
    wanted: tuple[tuple[Split, float, int], ...] = (("validation", validation_fraction, 2), ("test", test_fraction, 3))
    for split, fraction, least in wanted:
        enough = len(free) + len(splits) >= least and len(free) > sum(drawn.values())
        count = max(1 if enough else 0, round(fraction * len(free))) if fraction > 0 and split not in splits.values() else 0
        drawn[split] = count
    for split in drawn:
        for _ in range(drawn[split]):
            splits[free.pop()] = split
    return splits | dict.fromkeys(free, "train")


def _files(directory: Path, folder: str, suffixes: Collection[str], *, only_there: bool = False) -> list[Path]:
    root = directory / folder
    if not root.is_dir():
        if only_there:
            return []
        root = directory
    below = (path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    hidden = ("truth",) if root == directory else ()
    return sorted(path for path in below if not any(part.startswith(".") or part in hidden for part in path.relative_to(root).parts))


def _scores_for(audio: Path, scores: list[Path]) -> list[Path]:
    name = audio.stem.casefold()
    exact = [score for score in scores if score.stem.casefold() == name]
    if exact:
        return exact
    partial = [score for score in scores if _is_part(score.stem.casefold(), name)]
    longest = max((len(score.stem) for score in partial), default=0)
    return [score for score in partial if len(score.stem) == longest]


def _is_part(piece: str, name: str) -> bool:
    escaped = re.escape(piece)
    return bool(piece) and re.search(rf"^{escaped}[_ -]|[_ -]{escaped}$", name) is not None
