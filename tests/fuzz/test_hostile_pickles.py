"""Poisoned pickles, wherever a pickle could hide: refused or replaced, never executed; and checkpoints that are not what they were."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from fuzz import wholes
from fuzz.guard import Poison, refused, saved
from softscribe.scores import read_score
from softscribe.training.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures("without_shape_types", "nothing_runs")


def test_a_poisoned_checkpoint_is_refused_in_every_form(tmp_path: Path, canary: Path) -> None:
    good = {"state_dict": {}, "global_step": 1}
    refused(read_checkpoint, saved(tmp_path / "plain.ckpt", pickle.dumps(Poison(canary))))
    for modern in (True, False):
        data = io.BytesIO()
        torch.save({**good, "more": Poison(canary)}, data, _use_new_zipfile_serialization=modern)
        refused(read_checkpoint, saved(tmp_path / f"torch-{modern}.ckpt", data.getvalue()))


def test_a_checkpoint_cannot_unpack_to_more_than_itself(tmp_path: Path) -> None:
    data = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(100_000_000)}, "global_step": 1}, data)
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb, zipfile.ZipFile(data) as archive:
        for name in archive.namelist():
            bomb.writestr(name, archive.read(name))
    del data
    assert (tmp_path / "bomb.ckpt").stat().st_size < 1_000_000
    refused(read_checkpoint, tmp_path / "bomb.ckpt", "compressed", megabytes=200)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_single_wrong_bit_in_a_checkpoint_is_noticed(tmp_path: Path, place: float) -> None:
    data = io.BytesIO()
    torch.save({"state_dict": {"w": torch.rand(10_000)}, "global_step": 1}, data)
    content = bytearray(data.getvalue())
    content[int(len(content) * place)] ^= 1
    refused(read_checkpoint, saved(tmp_path / "last.ckpt", bytes(content)), "checksum")


def test_poisoned_arrays_in_the_feature_store_are_refused(tmp_path: Path, canary: Path) -> None:
    store = wholes.save_store(tmp_path)
    array = np.array([Poison(canary)], dtype=object)
    for file in ("song.npy", "song.npz"):
        path = store.directory / file
        whole = path.read_bytes()
        np.save(path, array, allow_pickle=True) if path.suffix == ".npy" else np.savez(path, description=array)
        refused(lambda _: store.recordings(), path)
        path.write_bytes(pickle.dumps(Poison(canary)))
        refused(lambda _: store.recordings(), path)
        path.write_bytes(whole)
    assert len(store.recordings()) == 1


def test_a_poisoned_cache_of_scores_is_made_anew(tmp_path: Path, canary: Path) -> None:
    path, cache = saved(tmp_path / "a.musicxml", wholes.musicxml()), tmp_path / "cache"
    score = read_score(path, cache_directory=cache)
    [file] = cache.iterdir()
    np.savez(file, onsets_quarters=np.array([Poison(canary)], dtype=object))
    assert read_score(path, cache_directory=cache) == score


def test_the_cache_of_music21_itself_is_never_read(tmp_path: Path, canary: Path, actions: list[str]) -> None:
    from music21 import converter

    path = saved(tmp_path / "a.musicxml", wholes.musicxml())
    pickled = Path(converter.PickleFilter(path).getPickleFp(zipType="gz"))
    pickled.write_bytes(zlib.compress(pickle.dumps(Poison(canary))))
    try:
        with contextlib.suppress(Exception):
            converter.parse(path)
        assert actions, "music21 no longer reads it: this test tests nothing"
        actions.clear()
        if canary.exists():
            canary.rmdir()
        pickled.write_bytes(zlib.compress(pickle.dumps(Poison(canary))))
        assert len(read_score(path)) > 0
    finally:
        pickled.unlink(missing_ok=True)
