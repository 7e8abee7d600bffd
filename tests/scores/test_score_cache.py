"""The cache: read once, found by content, never in the way."""

from pathlib import Path

import numpy as np
import pytest

from softscribe.errors import InputError
from softscribe.scores import Score, cache, read_score
from softscribe.scores.cache import cached

SCORE = Score(np.array([0.0, 1 / 3]), np.array([0.1, 0.7]), np.array([60, 61]), np.array([0, 3]), 2.0)


class Reader:
    """A reader that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path, repeats: str) -> Score:
        self.calls += 1
        return SCORE


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "score.musicxml"
    path.write_text("<score/>")
    return path


def test_a_score_is_read_once_and_comes_back_exactly(tmp_path: Path, sheet: Path) -> None:
    read = Reader()
    assert cached(sheet, "written", tmp_path / "cache", read) == cached(sheet, "written", tmp_path / "cache", read) == SCORE
    assert read.calls == 1
    renamed = sheet.rename(tmp_path / "moved.musicxml")
    cached(renamed, "written", tmp_path / "cache", read)
    assert read.calls == 1


def test_other_content_other_options_and_another_reader_are_read_again(
    tmp_path: Path, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader()
    cached(sheet, "written", tmp_path / "cache", read)
    cached(sheet, "expanded", tmp_path / "cache", read)
    sheet.write_text("<score><note/></score>")
    cached(sheet, "written", tmp_path / "cache", read)
    monkeypatch.setattr(cache, "READER_VERSION", cache.READER_VERSION + 1)
    cached(sheet, "written", tmp_path / "cache", read)
    assert read.calls == 4


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path, sheet: Path) -> None:
    read = Reader()
    cached(sheet, "written", tmp_path / "cache", read)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, onsets_quarters=np.array([{}], dtype=object))
    for place, content in enumerate([b"", b"nothing", whole[:-30], pickled.read_bytes()]):
        file.write_bytes(content)
        assert cached(sheet, "written", tmp_path / "cache", read) == SCORE
        assert read.calls == place + 2
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        assert cached(sheet, "written", tmp_path / "cache", read) == SCORE


def test_no_directory_means_no_cache_and_errors_are_not_cached(tmp_path: Path, sheet: Path) -> None:
    cached(sheet, "written", None, Reader())
    with pytest.raises(InputError, match="its root is"):
        read_score(sheet, cache_directory=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["score.musicxml"]
