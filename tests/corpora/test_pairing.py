from collections import Counter
from pathlib import Path

import pytest

from softscribe.corpora.pairing import pair_by_name, split_pieces, unique_names
from softscribe.corpora.recordings import Recording, Segment, safe_name
from softscribe.errors import InputError


def touched(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


def pairs(directory: Path) -> dict[str, str]:
    return {row.audio.relative_to(directory).as_posix(): row.score.relative_to(directory).as_posix() for row in pair_by_name(directory)[0]}


def refused(directory: Path) -> dict[str, str]:
    return {refusal.file.relative_to(directory).as_posix(): refusal.reason for refusal in pair_by_name(directory)[1]}


def test_files_side_by_side_in_any_folder_and_case(tmp_path):
    touched(tmp_path, "Song.WAV", "song.mid", "cd/x.flac", "cd/X.musicxml", "notes.txt", ".hidden/a.wav")
    assert pairs(tmp_path) == {"Song.WAV": "song.mid", "cd/x.flac": "cd/X.musicxml"}
    assert refused(tmp_path) == {}


def test_a_performer_before_or_behind_the_piece(tmp_path):
    touched(
        tmp_path,
        "audio/anna/anna_bwv1.mp3",
        "audio/bwv1-ben.opus",
        "audio/bwv10.wav",
        "scores/bwv1.mxl",
        "scores/bwv10.mxl",
        "notes/anna_bwv1.csv",
    )
    assert pairs(tmp_path) == {
        "audio/anna/anna_bwv1.mp3": "scores/bwv1.mxl",
        "audio/bwv1-ben.opus": "scores/bwv1.mxl",
        "audio/bwv10.wav": "scores/bwv10.mxl",
    }


def test_the_same_name_counts_before_a_part_and_the_longest_part_before_others(tmp_path):
    touched(tmp_path, "a_x.wav", "a_x.mid", "x.mid", "b_op1_no2.wav", "no2.mid", "op1_no2.mid")
    assert pairs(tmp_path) == {"a_x.wav": "a_x.mid", "b_op1_no2.wav": "op1_no2.mid"}


def test_what_is_ambiguous_or_alone_is_refused_by_name(tmp_path):
    touched(tmp_path, "two.wav", "two.mid", "two.mxl", "alone.wav", "silent.mid", "good.wav", "good.mid")
    assert pairs(tmp_path) == {"good.wav": "good.mid"}
    reasons = refused(tmp_path)
    assert set(reasons) == {"two.wav", "alone.wav", "silent.mid"}
    assert "two.mid, two.mxl" in reasons["two.wav"]
    assert all("Remedy" in reason and str(tmp_path / name) in reason for name, reason in reasons.items())


def test_truth_is_no_score_and_is_found_by_the_recordings_name(tmp_path):
    touched(tmp_path, "a.wav", "a.mid", "truth/A.csv", "b.wav", "b.mid")
    rows, refusals = pair_by_name(tmp_path)
    assert [row.truth for row in rows] == [tmp_path / "truth/A.csv", None]
    assert not refusals


def test_names_are_unique_safe_and_kept_where_possible():
    paths = [Path("c/a b.wav"), Path("c/1/t.wav"), Path("c/2/T.flac"), Path("c/1/é?*.wav"), Path("/far/x.wav"), Path("c/1_t.wav")]
    names = unique_names(paths, Path("c"))
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert names[Path("c/a b.wav")] == "a b"
    assert names[Path("/far/x.wav")] == "x"
    assert all("/" not in name and safe_name(name) == name for name in names.values())


@pytest.mark.parametrize("text", ["../../etc/passwd", "", "...", " .. ", "a/b", "x" * 500, "\0", "-rf", "a\nb", "con:"])
def test_any_text_becomes_a_name_that_a_recording_accepts(text, melody):
    name = safe_name(text)
    segments = (Segment("001", 0.0, 1.0, 0.0, melody(0, 4).score),)
    assert Recording(name, Path("a"), Path("b"), "train", segments).name == name
    assert "/" not in name
    assert not name.startswith(".")


def pieces(count: int) -> dict[Path, None]:
    return {Path(f"c/{number}.mid"): None for number in range(count)}


SPLIT = {"seed": 0, "validation_fraction": 0.1, "test_fraction": 0.2}


@pytest.mark.parametrize(("count", "expected"), [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (40, (28, 4, 8))])
def test_fractions_and_their_least(count, expected):
    counts = Counter(split_pieces(pieces(count), Path("c"), **SPLIT).values())
    assert (counts["train"], counts["validation"], counts["test"]) == expected


def test_the_split_follows_from_the_seed_not_from_place_or_order():
    first = split_pieces(pieces(30), Path("c"), **SPLIT)
    moved = split_pieces({Path("/other") / path.name: None for path in reversed(pieces(30))}, Path("/other"), **SPLIT)
    assert {path.name: split for path, split in first.items()} == {path.name: split for path, split in moved.items()}
    assert first != split_pieces(pieces(30), Path("c"), **(SPLIT | {"seed": 1}))


def test_losing_a_piece_moves_few_others():
    first, second = (split_pieces(pieces(count), Path("c"), **SPLIT) for count in (50, 49))
    assert sum(first[path] != second[path] for path in second) <= 3


def test_what_is_given_stays_and_no_more_is_drawn_for_it():
    splits = split_pieces(pieces(10) | {Path("c/5.mid"): "test"}, Path("c"), **SPLIT)
    assert [path for path, split in splits.items() if split == "test"] == [Path("c/5.mid")]
    assert Counter(splits.values())["validation"] == 1


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.0), (0.5, 0.5), (float("nan"), 0.0)])
def test_fractions_that_leave_nothing_are_refused(validation, test):
    with pytest.raises(InputError, match="Remedy"):
        split_pieces(pieces(3), Path("c"), seed=0, validation_fraction=validation, test_fraction=test)


def test_zero_fractions_train_on_everything():
    assert set(split_pieces(pieces(5), Path("c"), seed=0, validation_fraction=0.0, test_fraction=0.0).values()) == {"train"}
