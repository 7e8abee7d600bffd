"""Recordings that claim too much, and what a folder may hold besides files: links, pipes, devices, names that are no text."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fuzz import wholes
from fuzz.guard import read_or_refuse, refused, saved
from softscribe import cli
from softscribe.cli.runs import seeds_of
from softscribe.corpora.folder import read_folder_corpus
from softscribe.corpora.manifest import read_manifest
from softscribe.corpora.opening import open_store
from softscribe.models import load_model
from softscribe.report import curve_points
from softscribe.scores import read_performed_notes, read_score
from softscribe.sound import audio_duration_seconds, read_audio
from softscribe.training.checkpoints import read_checkpoint
from softscribe.training.health_check import read_alarms

pytestmark = pytest.mark.usefixtures("without_shape_types", "nothing_runs")


def test_sound_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    whole = wholes.sound("WAV")
    for claimed in (3_000_000_000, 0xF0000000):
        content = bytearray(whole)
        place = content.index(b"data") + 4
        content[place : place + 4] = struct.pack("<I", claimed)
        refused(read_audio, saved(tmp_path / "a.wav", bytes(content)), "cut off", megabytes=100)
    wide = bytearray(wholes.sound("RF64"))
    place = wide.index(b"ds64") + 16
    wide[place : place + 8] = struct.pack("<Q", 10_000_000_000)
    refused(read_audio, saved(tmp_path / "wide.wav", bytes(wide)), "cut off", megabytes=100)
    flac = bytearray(wholes.sound("FLAC"))
    for samples in (5_000_000_000, (1 << 36) - 1):
        field = int.from_bytes(flac[18:26], "big") >> 36 << 36 | samples
        flac[18:26] = field.to_bytes(8, "big")
        for read in (read_audio, audio_duration_seconds):
            refused(read, saved(tmp_path / "a.flac", bytes(flac)), "states more than", megabytes=100)


def test_a_thousand_channels_take_no_more_memory_than_one(tmp_path: Path) -> None:
    samples = np.full((10_000, 1000), 1000, np.int16)
    soundfile.write(tmp_path / "wide.wav", samples, 8000, subtype="PCM_16")
    assert not isinstance(read_or_refuse(read_audio, tmp_path / "wide.wav", megabytes=300), str)


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    """A pipe that nobody writes into, a device that never ends, a folder, a link to itself."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    for number, target in enumerate([tmp_path / "pipe", Path("/dev/zero"), tmp_path / "folder", tmp_path / "loop"]):
        place = tmp_path / str(number)
        place.mkdir()
        for name, read in (
            ("a.mid", read_score),
            ("a.musicxml", read_score),
            ("a.csv", read_performed_notes),
            ("a.wav", read_audio),
            ("manifest.csv", read_manifest),
            ("last.ckpt", read_checkpoint),
            ("card.json", lambda path: load_model(path.parent)),
            ("config.yaml", lambda path: cli.read_run(path.parent)),
        ):
            (place / name).symlink_to(target)
            refused(read, place / name)
        for name, read in (
            ("alarms.jsonl", read_alarms),
            ("metrics.csv", curve_points),
            ("seeds.json", lambda path: seeds_of(path.parent)),
        ):
            (place / name).symlink_to(target)
            if (place / name).exists():  # a link that leads nowhere is none of these yet
                refused(read, place / name)


def test_headers_of_arrays_do_not_reach_the_interpreter(tmp_path: Path) -> None:
    """A thousand signs in a row: Python's parser gives up with a MemoryError."""
    store = wholes.save_store(tmp_path)
    header = b"{'descr': '<f2', 'fortran_order': " + b"-" * 9000 + b"1, 'shape': (), }\n"
    poison = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(MemoryError):
        np.load(saved(tmp_path / "poison.npy", poison))
    refused(lambda _: store.recordings()[0].features, saved(store.directory / "song.npy", poison))


def test_names_in_the_index_of_a_store_cannot_leave_it(tmp_path: Path) -> None:
    store = wholes.save_store(tmp_path)
    for names in (["../song"], ["/etc/passwd"], ["a/b"], [".hidden"], ["song\0"], "song", {"song": 1}, [["song"]], 7):
        saved(store.directory / "corpus.json", json.dumps({"recordings": names}))
        refused(lambda _: store.recordings(), store.directory / "corpus.json")
        refused(lambda _: open_store(store.directory), store.directory / "corpus.json")


def test_links_in_a_corpus_are_followed_for_reading_and_never_written_through(tmp_path: Path) -> None:
    """A corpus is the user's own: a link to a file elsewhere is how large recordings are shared. What is written replaces a link."""
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    corpus.mkdir()
    elsewhere.mkdir()
    saved(elsewhere / "long.wav", wholes.sound("WAV", seconds=4))
    saved(elsewhere / "score.csv", wholes.SCORE_CSV)
    (corpus / "a.wav").symlink_to(elsewhere / "long.wav")
    (corpus / "a.csv").symlink_to(elsewhere / "score.csv")
    (corpus / "b.wav").symlink_to(tmp_path / "nowhere.wav")
    (corpus / "deep").symlink_to(elsewhere)  # folders behind links are not searched
    [recording], refusals = read_folder_corpus(corpus, jobs=1)
    assert recording.name == "a"
    assert not refusals
    store = wholes.save_store(tmp_path)
    victim = saved(tmp_path / "victim", "precious")
    for file in ("song.npy", "song.npz", "song.json", "corpus.json"):
        (store.directory / file).unlink()
        (store.directory / file).symlink_to(victim)
    assert len(wholes.save_store(tmp_path).recordings()) == 1
    assert victim.read_text() == "precious"


def test_a_name_that_is_no_text_ends_no_preparation(tmp_path: Path) -> None:
    """Linux allows any bytes in a name; such a recording is stored under a safe name, and named in words that a terminal shows."""
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(wholes.sound("WAV", seconds=4))
    saved(tmp_path / os.fsdecode(b"caf\xe9.csv"), wholes.SCORE_CSV)
    [recording], _ = read_folder_corpus(tmp_path, jobs=1)
    (tmp_path / "other").mkdir()
    store = wholes.save_store(tmp_path / "other")
    assert store.write(recording)
    path.write_bytes(b"no sound")
    with pytest.raises(ValueError, match="caf") as caught:
        read_audio(path)
    str(caught.value).encode("utf-8")
