import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from softscribe.corpora import preparation
from softscribe.corpora.folder import read_folder_corpus
from softscribe.corpora.preparation import plan, prepare
from softscribe.corpora.store import FeatureStore, StoreError
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings

SETTINGS = HcqtSettings()


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", SETTINGS)


def shown(renderable: object) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(renderable)
    return console.export_text()


def corpus_of(tmp_path: Path, add_pair, count: int = 3):
    for seed in range(count):
        add_pair(f"p{seed}", seed=seed)
    return read_folder_corpus(tmp_path / "corpus", jobs=1)


def test_a_plan_tells_what_is_to_be_done_and_how_much_disk_it_takes_and_writes_nothing(tmp_path, add_pair, store):
    recordings, refused = corpus_of(tmp_path, add_pair)
    planned = plan(recordings, store, refused=refused, jobs=1)
    assert len(planned.to_compute) == 3
    assert not (tmp_path / "store").exists()
    prepare(recordings, store, jobs=1)
    used = sum(path.stat().st_size for path in store.directory.glob("*.npy"))
    assert used == pytest.approx(planned.needed_bytes, rel=0.02)
    again = plan(recordings, store, jobs=1)
    assert (len(again.to_compute), len(again.current), again.needed_bytes) == (0, 3, 0)
    assert "3 recordings to compute, 0 are there already" in shown(planned)


def test_a_second_run_computes_nothing_and_a_changed_file_only_itself(tmp_path, add_pair, store):
    recordings, _ = corpus_of(tmp_path, add_pair)
    assert prepare(recordings, store, jobs=1).computed == 3
    times = {path.name: path.stat().st_mtime_ns for path in store.directory.glob("*.npy")}
    assert prepare(recordings, store, jobs=1).computed == 0
    add_pair("p1", seed=9)
    recordings, _ = read_folder_corpus(tmp_path / "corpus", jobs=1)
    assert prepare(recordings, store, jobs=1).computed == 1
    changed = {path.name for path in store.directory.glob("*.npy") if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"p1.npy"}
    assert [prepared.recording for prepared in store.recordings()] == recordings


def test_one_file_that_turns_bad_is_refused_by_name_and_the_rest_is_the_corpus(tmp_path, add_pair, store):
    recordings, _ = corpus_of(tmp_path, add_pair)
    bad = recordings[1].audio_path
    bad.write_bytes(bad.read_bytes()[:30_000])
    report = prepare(recordings, store, jobs=1)
    [refusal] = report.refused
    assert refusal.file == bad
    assert "cut off" in refusal.reason
    assert [prepared.recording.name for prepared in store.recordings()] == ["p0", "p2"]
    assert "p1.wav" in shown(report)
    recordings[0].audio_path.unlink()
    recordings[2].audio_path.write_text("no sound")
    with pytest.raises(InputError, match="none of its recordings") as caught:
        prepare(recordings, store, jobs=1)
    assert all(f"p{number}.wav" in str(caught.value) for number in range(3))


def test_the_report_counts_recordings_segments_minutes_and_anchors_per_split(tmp_path, add_pair, store):
    made = add_pair("long", seed=3, quarters=140)
    recordings, refused = read_folder_corpus(tmp_path / "corpus", jobs=1)
    text = shown(prepare(recordings, store, refused=refused, jobs=1))
    train = next(line for line in text.splitlines() if "train" in line)
    numbers = [float(number) for number in re.findall(r"[\d.]+", train)]
    annotated = recordings[0].annotated_seconds / 60
    assert numbers[:3] == [1, 1, len(recordings[0].segments)]
    assert numbers[3:] == pytest.approx([made.duration_seconds / 60, annotated, recordings[0].anchor_count / annotated], abs=0.06)
    assert "guessed by a coarse alignment" in text


def test_names_that_differ_in_case_only_are_refused(tmp_path, add_pair, store):
    recordings, _ = corpus_of(tmp_path, add_pair, 1)
    with pytest.raises(InputError, match="same name"):
        prepare([recordings[0], replace(recordings[0], name="P0")], store, jobs=1)


def test_a_store_that_cannot_be_written_ends_the_run_with_one_error(tmp_path, add_pair):
    recordings, _ = corpus_of(tmp_path, add_pair, 1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        prepare(recordings, FeatureStore(tmp_path / "file" / "store", SETTINGS), jobs=1)
    assert "Remedy" in str(caught.value)


def test_too_little_room_is_said_before_anything_is_computed(tmp_path, add_pair, store, monkeypatch):
    recordings, _ = corpus_of(tmp_path, add_pair, 1)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"need .* MB, the disk has 0\.0 MB left"):
        prepare(recordings, store, jobs=1)
    assert not store.directory.exists()


RUN = """
import signal
import sys
from pathlib import Path
from softscribe.corpora.folder import read_folder_corpus
from softscribe.corpora.preparation import prepare
from softscribe.corpora.store import FeatureStore
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits that it is ignored
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    recordings, refused = read_folder_corpus(folder / "corpus", jobs=1)
    print("begin", flush=True)
    try:
        prepare(recordings, FeatureStore(folder / "store", HcqtSettings()), refused=refused, jobs=jobs)
    except InputError as error:
        print(f"InputError {error}")
        sys.exit(2)
"""


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_full_disk_is_one_clear_error_and_leaves_no_half_file(tmp_path, add_pair, store, jobs):
    corpus_of(tmp_path, add_pair, 4)
    finished = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), str(jobs)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert finished.returncode == 2, finished.stderr
    errors = [line for line in finished.stdout.splitlines() if line.startswith("InputError")]
    assert len(errors) == 1
    assert "cannot be written" in errors[0]
    assert "free disk space" in errors[0]
    assert not list(store.directory.glob("*.npy"))
    assert not list(store.directory.glob(".*"))
    with pytest.raises(InputError, match="softscribe prepare"):
        store.recordings()


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_is_finished_by_the_next(tmp_path, add_pair, store, sent):
    recordings, _ = corpus_of(tmp_path, add_pair, 20)  # enough that some are left when the signal arrives
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        deadline = time.monotonic() + 300
        while len(list(store.directory.glob("*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(sent)
    assert process.returncode != 0
    with pytest.raises(InputError, match="softscribe prepare"):
        store.recordings()
    report = prepare(recordings, store, jobs=1)
    assert 0 < report.computed < 20
    assert [prepared.recording for prepared in store.recordings()] == recordings


def test_several_processes_give_the_same_corpus_and_features(tmp_path, add_pair, store):
    recordings, _ = corpus_of(tmp_path, add_pair)
    assert read_folder_corpus(tmp_path / "corpus", jobs=2)[0] == recordings
    prepare(recordings, store, jobs=1)
    alone = {path.name: path.read_bytes() for path in store.directory.glob("*.np[yz]")}
    other = FeatureStore(tmp_path / "other", SETTINGS)
    prepare(recordings, other, jobs=2)
    assert alone == {path.name: path.read_bytes() for path in other.directory.glob("*.np[yz]")}
