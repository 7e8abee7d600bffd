"""audit=exclude: doubtful training segments are left out, by name, on screen, in the run's folder and in the card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from softscribe.corpora import FeatureStore
from softscribe.errors import InputError
from softscribe.health import Verdict
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings, exclusion, train


def verdict(recording: str, fault: str) -> Verdict:
    return Verdict(recording, "0000", "train", 2.0 if fault else 0.5, fault, "", "", 0.6, 0.5, {"transposed": 0.1})


def judged_by_hand(monkeypatch: pytest.MonkeyPatch, *doubtful: str) -> list[str]:
    """Take these recordings' pairs for transposed; return the list that will hold the names of what was audited."""
    audited: list[str] = []

    def audit(recordings: list, settings: HcqtSettings) -> list[Verdict]:
        names = [prepared.recording.name for prepared in recordings]
        audited.extend(names)
        return [verdict(name, "transposed" if name in doubtful else "") for name in names]

    monkeypatch.setattr(exclusion, "audit", audit)
    return audited


def test_a_run_leaves_doubtful_segments_out_and_says_so(
    settings: TrainSettings, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    audited = judged_by_hand(monkeypatch, "melody1")
    model = train(replace(settings, audit="exclude"), run_folder)
    assert audited == ["melody0", "melody1", "melody2"], "validation and test recordings are no business of it"
    printed = capsys.readouterr().out
    assert "1 of 3 training segments are left out" in printed
    assert "melody1 0000: transposed" in printed
    data = json.loads((model / "card.json").read_text())["data"]
    assert data["excluded_by_audit"] == ["melody1 0000: transposed"]
    assert data["recordings"] == 2
    assert [pair["fault"] for pair in json.loads((run_folder / "audit.json").read_text())["pairs"]] == ["", "transposed", ""]


def test_the_audit_itself_finds_what_is_left_out(settings: TrainSettings, run_folder: Path, tmp_path: Path) -> None:
    """A training segment whose score is written three semitones too high, among melodies that fit; it is no part of what is trained on."""
    features = HcqtSettings.from_dict(settings.features)
    store = FeatureStore(tmp_path, features)
    names = []
    for prepared in FeatureStore(Path(settings.store), features).recordings():
        recording = prepared.recording
        if recording.name == "melody1":
            segment = recording.segments[0]
            recording = replace(recording, segments=(replace(segment, score=segment.score.transposed(3)),))
        store.write(recording)
        names.append(recording.name)
    store.set_corpus(names)
    model = train(replace(settings, audit="exclude", store=str(tmp_path)), run_folder)
    assert json.loads((model / "card.json").read_text())["data"]["excluded_by_audit"] == ["melody1 0000: transposed"]


def test_a_doubtful_whole_is_told_and_its_segments_stay(
    settings: TrainSettings, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its score is written three semitones too high, and a coarse alignment cut what fits."""
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    segment = recordings[1].recording.segments[0]
    whole = replace(segment, name="whole", score=segment.score.transposed(3))
    recordings[1] = replace(recordings[1], recording=replace(recordings[1].recording, whole=whole))
    kept, doubtful = exclusion.exclude_doubtful(recordings, features, run_folder)
    assert kept == recordings
    assert doubtful == []
    printed = capsys.readouterr().out
    assert "0 of 3 training segments are left out\n" in printed
    assert "melody1 is doubtful as a whole; its segments are judged each for itself: transposed" in printed


def test_exclusion_keeps_what_is_sound(settings: TrainSettings, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    judged_by_hand(monkeypatch, "melody2")
    kept, doubtful = exclusion.exclude_doubtful(recordings, features, run_folder)
    assert [prepared.recording.name for prepared in kept] == ["melody0", "melody1", "melody3", "melody4"]
    assert [one.recording for one in doubtful] == ["melody2"]


def test_the_first_of_several_processes_alone_says_so(
    settings: TrainSettings, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    judged_by_hand(monkeypatch, "melody2")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    kept, _ = exclusion.exclude_doubtful(recordings, features, run_folder)
    assert "melody2" not in [prepared.recording.name for prepared in kept]
    assert not capsys.readouterr().out
    assert not (run_folder / "audit.json").exists()


def test_a_corpus_without_a_sound_pair_is_refused(settings: TrainSettings, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = HcqtSettings.from_dict(settings.features)
    recordings = FeatureStore(Path(settings.store), features).recordings()
    judged_by_hand(monkeypatch, "melody0", "melody1", "melody2")
    with pytest.raises(InputError, match="audit=exclude"):
        exclusion.exclude_doubtful(recordings, features, run_folder)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(InputError, match="audit"):
        TrainSettings(audit="perhaps")
