import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softscribe.corpora.opening import open_store
from softscribe.corpora.recordings import Recording, Segment
from softscribe.corpora.store import FeatureStore
from softscribe.errors import InputError
from softscribe.sound import HcqtSettings, hcqt, read_audio

SETTINGS = HcqtSettings()


@pytest.fixture
def recording(tmp_path, melody) -> Recording:
    made = melody(seed=1, quarters=12)
    soundfile.write(tmp_path / "song.wav", made.samples(), 22050)
    cut = made.score.end_quarters / 2
    segments = tuple(
        Segment(f"{number:03d}", float(made.seconds(start)), float(made.seconds(end)), start, made.score.between(start, end))
        for number, (start, end) in enumerate([(0.0, cut), (cut, made.score.end_quarters)])
    )
    whole = Segment("whole", segments[0].start_seconds, segments[1].end_seconds, 0.0, made.score)
    return Recording("song", tmp_path / "song.wav", tmp_path / "song.mid", "validation", segments, made.performed, whole)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", SETTINGS)


def test_what_is_stored_is_read_and_the_features_are_those_of_the_audio(store, recording):
    assert store.write(recording)
    store.set_corpus(["song"])
    [prepared] = store.recordings()
    assert prepared.recording == recording
    assert prepared.frames_per_second == SETTINGS.frames_per_second
    expected = hcqt(read_audio(recording.audio_path), SETTINGS)
    assert prepared.features.dtype == np.float16
    assert isinstance(prepared.features, np.memmap)
    assert np.allclose(prepared.features, expected, rtol=1e-3, atol=1e-4)
    assert store.duration_seconds(recording) == pytest.approx(soundfile.info(recording.audio_path).duration)


def test_a_recording_without_truth_and_with_a_silent_segment_round_trips(store, recording):
    first = recording.segments[0]
    silent = replace(
        first,
        score=replace(
            first.score, **{name: getattr(first.score, name)[:0] for name in ("onsets_quarters", "durations_quarters", "pitches", "parts")}
        ),
    )
    changed = replace(recording, truth=None, segments=(silent, recording.segments[1]))
    store.write(changed)
    store.set_corpus(["song"])
    assert store.recordings()[0].recording == changed


def test_prepared_recordings_are_cheap_to_send_to_worker_processes(store, recording):
    store.write(recording)
    store.set_corpus(["song"])
    [prepared] = store.recordings()
    assert len(pickle.dumps(prepared)) < 20_000 < prepared.features.nbytes


def test_current_features_are_kept_while_the_annotation_follows(store, recording):
    store.write(recording)
    before = (store.directory / "song.npy").stat().st_mtime_ns
    changed = replace(recording, split="test", segments=recording.segments[:1], whole=None)
    assert store.is_current(changed)
    assert not store.write(changed)
    store.set_corpus(["song"])
    assert store.recordings()[0].recording == changed
    assert (store.directory / "song.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["audio", "cut", "bits", "no features", "no sidecar", "broken sidecar", "list sidecar", "version"])
def test_stale_and_damaged_features_are_computed_again(store, recording, damage, monkeypatch):
    store.write(recording)
    features, sidecar = store.directory / "song.npy", store.directory / "song.json"
    good = features.read_bytes()
    if damage == "audio":
        samples, rate = soundfile.read(recording.audio_path)
        soundfile.write(recording.audio_path, samples[::-1], rate)
    elif damage == "cut":
        features.write_bytes(good[: len(good) // 2])
    elif damage == "bits":
        middle = len(good) // 2
        features.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    elif damage == "no features":
        features.unlink()
    elif damage == "no sidecar":
        sidecar.unlink()
    elif damage == "broken sidecar":
        sidecar.write_text(sidecar.read_text()[:40])
    elif damage == "list sidecar":
        sidecar.write_text("[]")
    else:
        monkeypatch.setattr("softscribe.corpora.store.FEATURES_VERSION", 10**6)
    assert not store.is_current(recording)
    assert store.write(recording)
    assert store.is_current(recording)
    assert (features.read_bytes() == good) == (damage != "audio")


def test_other_settings_have_another_folder(tmp_path, store, recording):
    other = FeatureStore(tmp_path / "store", replace(SETTINGS, hop_length_samples=1024))
    store.write(recording)
    assert not other.is_current(recording)
    other.write(recording)
    other.set_corpus(["song"])
    assert other.recordings()[0].features.shape[0] < (np.load(store.directory / "song.npy", mmap_mode="r").shape[0] + 2) / 2 + 1
    with pytest.raises(InputError, match="softscribe prepare"):
        store.recordings()


def test_the_corpus_is_exactly_what_was_set_last(store, recording):
    for name in ("b", "a", "c"):
        store.write(replace(recording, name=name))
    store.set_corpus(["c", "a"])
    assert [prepared.recording.name for prepared in store.recordings()] == ["a", "c"]


@pytest.mark.parametrize("broken", ["index", "annotation", "features", "pickle", "float32", "short", "all"])
def test_a_missing_or_damaged_store_says_how_to_mend_it(store, recording, broken):
    store.write(recording)
    store.set_corpus(["song"])
    if broken == "index":
        (store.directory / "corpus.json").write_text("{")
    elif broken == "annotation":
        (store.directory / "song.npz").write_bytes(b"PK\3\4 half")
    elif broken == "features":
        (store.directory / "song.npy").write_bytes((store.directory / "song.npy").read_bytes()[:2000])
    elif broken == "pickle":
        np.save(store.directory / "song.npy", np.array([{}], dtype=object), allow_pickle=True)
    elif broken == "float32":
        np.save(store.directory / "song.npy", np.load(store.directory / "song.npy").astype(np.float32))
    elif broken == "short":  # for the whole alone, of which one segment is left
        store.write(replace(recording, segments=recording.segments[:1]))
        features = np.load(store.directory / "song.npy")
        np.save(store.directory / "song.npy", features[: 3 * len(features) // 4])
    else:
        for path in store.directory.iterdir():
            path.unlink()
    with pytest.raises(InputError, match="softscribe prepare") as caught:
        store.recordings()
    assert str(store.directory) in str(caught.value)


def test_features_that_stand_by_columns_are_the_same(store, recording):
    """NumPy writes them so, if somebody hands it a transposed array."""
    store.write(recording)
    store.set_corpus(["song"])
    before = np.array(store.recordings()[0].features)
    np.save(store.directory / "song.npy", np.asfortranarray(before))
    np.testing.assert_array_equal(store.recordings()[0].features, before)


def test_segments_beyond_the_audio_are_refused_by_name_before_anything_is_computed(store, recording):
    late = replace(recording.segments[-1], end_seconds=999.0)
    with pytest.raises(InputError, match=r"segment '001' ends at 999 s"):
        store.write(replace(recording, segments=(recording.segments[0], late)))
    with pytest.raises(InputError, match=r"segment 'whole' ends at 999 s"):
        store.write(replace(recording, whole=replace(late, name="whole")))
    assert not (store.directory / "song.npy").exists()


def test_the_sidecar_tells_where_the_features_come_from(store, recording):
    store.write(recording)
    sidecar = json.loads((store.directory / "song.json").read_text())
    assert HcqtSettings.from_dict(sidecar["settings"]) == SETTINGS
    assert {"audio_sha256", "features_sha256", "features_version", "tuning_semitones", "duration_seconds"} <= set(sidecar)


def test_names_cannot_leave_the_store(recording):
    for name in ("../x", "/etc/x", "a/b", "", "..", ".hidden", "a\\b", "x "):
        with pytest.raises(InputError, match="safe file name"):
            replace(recording, name=name)


def test_recordings_refuse_what_contradicts_itself(recording):
    first, second = recording.segments
    for change in (
        {"segments": ()},
        {"segments": (second, first)},
        {"segments": (first, replace(second, name=first.name))},
        {"whole": first},
    ):
        with pytest.raises(InputError, match="Remedy"):
            replace(recording, **change)
    for change in (
        {"start_seconds": -1.0},
        {"end_seconds": first.start_seconds},
        {"end_seconds": float("nan")},
        {"score_start_quarters": -1.0},
    ):
        with pytest.raises(InputError, match="Remedy"):
            replace(first, **change)
    assert recording.anchor_count == 3
    assert Path(recording.audio_path).exists()


def test_a_store_is_found_by_its_folder_its_corpus_or_one_of_its_settings(tmp_path, store, recording, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nested = FeatureStore(Path("store") / "melodies", SETTINGS)
    nested.write(recording)
    nested.set_corpus(["song"])
    (tmp_path / "melodies").mkdir()
    for name in ("store/melodies", "melodies", f"store/melodies/{nested.directory.name}"):
        assert open_store(Path(name)).directory.resolve() == nested.directory.resolve()
    for name, named in {
        "store": "store: a folder of stores. Remedy: name one of store/melodies.",
        "elsewhere": "elsewhere: no such folder. Remedy: ",
        ".": r"\.: no prepared features in it, nor in store/.*Remedy: ",
    }.items():
        with pytest.raises(InputError, match=named):
            open_store(Path(name))
    (tmp_path / "store" / "melodies" / "hcqt-other").mkdir()
    (tmp_path / "store" / "melodies" / "hcqt-other" / "corpus.json").write_text("{}")
    with pytest.raises(InputError, match=r"features of several settings\. Remedy: name one of .*hcqt-other"):
        open_store(Path("melodies"))
