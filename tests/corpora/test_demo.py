"""The built-in corpus: what its files promise each other, that a seed decides every byte, and that no melody crosses the splits."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softscribe.corpora.demo import SAMPLE_RATE, write_demo_corpus
from softscribe.corpora.manifest import ManifestRow, read_manifest
from softscribe.corpora.performance import PerformanceSettings, perform
from softscribe.corpora.pieces import Piece, assign_splits, cut, group_pieces, list_pieces, melodies
from softscribe.errors import InputError
from softscribe.scores import Score, read_performed_notes, read_score

NAMES = ("bach_bwv66_6", "bach_bwv112_5", "bach_bwv112_5_sc")


def pieces_named(*names: str) -> list[Piece]:
    pieces = {piece.name: piece for piece in list_pieces("full")}
    return [pieces[name] for name in names]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def write(directory: Path, **options: object) -> Path:
    options = {"pieces": pieces_named(*NAMES), "jobs": 1, **options}
    return write_demo_corpus(directory, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "corpus"
    assert write(directory) == directory / "manifest.csv"
    return directory


@pytest.fixture(scope="module")
def recordings(corpus: Path) -> list[list[ManifestRow]]:
    return read_manifest(corpus / "manifest.csv")


def test_every_segment_is_within_the_limits_and_follows_the_one_before(recordings: list[list[ManifestRow]]) -> None:
    assert [rows[0].audio.stem for rows in recordings] == sorted(NAMES)
    for rows in recordings:
        for row in rows:
            assert 10 - 1e-9 <= row.audio_end_seconds - row.audio_start_seconds <= 30 + 1e-9
        for before, after in itertools.pairwise(rows):
            assert (before.audio_end_seconds, before.score_end_quarters) == (after.audio_start_seconds, after.score_start_quarters)


def test_segments_cover_the_piece_and_leave_the_silence_around_it_out(recordings: list[list[ManifestRow]]) -> None:
    for rows in recordings:
        truth, score = read_performed_notes(rows[0].truth), read_score(rows[0].score)
        assert rows[0].audio_start_seconds == truth.onsets_seconds.min() > 0
        assert rows[-1].audio_end_seconds == truth.offsets_seconds.max()
        assert rows[0].score_start_quarters == score.onsets_quarters.min()
        assert rows[-1].score_end_quarters == (score.onsets_quarters + score.durations_quarters).max()
        assert rows[-1].audio_end_seconds < soundfile.info(rows[0].audio).duration


def test_the_notes_written_in_a_segment_are_those_performed_in_it(recordings: list[list[ManifestRow]]) -> None:
    for rows in recordings:
        truth, score = read_performed_notes(rows[0].truth), read_score(rows[0].score)
        assert len(truth) == len(score)
        for row in rows:
            begun = (truth.onsets_seconds >= row.audio_start_seconds) & (truth.onsets_seconds < row.audio_end_seconds)
            written = (score.onsets_quarters >= row.score_start_quarters) & (score.onsets_quarters < row.score_end_quarters)
            performed = sorted(zip(truth.score_onsets_quarters[begun], truth.pitches[begun], strict=True))
            assert performed == sorted(zip(score.onsets_quarters[written], score.pitches[written], strict=True))


def test_audio_is_sane_and_sounds_where_the_truth_says(recordings: list[list[ManifestRow]]) -> None:
    for rows in recordings:
        information = soundfile.info(rows[0].audio)
        assert (information.samplerate, information.channels, information.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        samples, _ = soundfile.read(rows[0].audio)
        truth = read_performed_notes(rows[0].truth)

        def decibels(start: float, end: float, samples: np.ndarray = samples) -> float:
            part = samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            return float(10 * np.log10(np.mean(part**2) + 1e-20))

        assert 0.2 < np.abs(samples).max() < 1
        sounding = decibels(rows[0].audio_start_seconds, rows[-1].audio_end_seconds)
        assert -35 < sounding < -10
        assert decibels(0, truth.onsets_seconds.min() - 0.01) < -55
        assert decibels(len(samples) / SAMPLE_RATE - 0.1, len(samples) / SAMPLE_RATE) < sounding - 30


def test_truth_is_heard_at_the_pitch_and_time_it_states(recordings: list[list[ManifestRow]]) -> None:
    """The power at the performed pitches is less at any other time and far less a tritone off."""
    samples, _ = soundfile.read(recordings[0][0].audio)
    truth = read_performed_notes(recordings[0][0].truth)

    def power(shift_seconds: float, semitones: int) -> float:
        total = 0.0
        for onset, offset, pitch in zip(truth.onsets_seconds, truth.offsets_seconds, truth.pitches, strict=True):
            part = samples[max(round((onset + shift_seconds) * SAMPLE_RATE), 0) : round((offset + shift_seconds) * SAMPLE_RATE)]
            phase = 2j * np.pi * 440 * 2 ** ((pitch + semitones - 69) / 12) * np.arange(len(part)) / SAMPLE_RATE
            total += float(np.abs(np.mean(part * np.hanning(len(part)) * np.exp(-phase))) ** 2) if len(part) else 0.0
        return total

    assert power(0, 0) > 1.1 * max(power(shift, 0) for shift in (-1.0, -0.5, 0.5, 1.0))
    assert power(0, 0) > 5 * power(0, 6)


def test_a_seed_decides_every_byte_whatever_the_number_of_jobs(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "parallel", jobs=2)
    assert contents(tmp_path / "parallel") == contents(corpus)
    write(tmp_path / "other", seed=1, pieces=pieces_named(NAMES[0]))
    same = {
        path.parent.name: path.read_bytes() == (corpus / path.relative_to(tmp_path / "other")).read_bytes()
        for path in (tmp_path / "other").rglob("bach*")
    }
    assert same == {"scores": True, "audio": False, "truth": False, "pieces": False}


def test_a_second_run_writes_nothing_and_an_interrupted_one_goes_on(corpus: Path, tmp_path: Path) -> None:
    directory = tmp_path / "corpus"
    shutil.copytree(corpus, directory)
    times = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    write(directory)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()} == times

    # As a kill leaves it: no manifest yet, one piece not begun, one in the middle.
    for name in ("manifest.csv", "settings.json", f"pieces/{NAMES[1]}.json", f"pieces/{NAMES[2]}.json", f"audio/{NAMES[2]}.flac"):
        (directory / name).unlink()
    write(directory)
    assert contents(directory) == contents(corpus)
    untouched = directory / "audio" / f"{NAMES[0]}.flac"
    assert untouched.stat().st_mtime_ns == times[untouched]


def test_other_settings_leave_nothing_of_the_old_ones(corpus: Path, tmp_path: Path) -> None:
    changed, fresh = tmp_path / "changed", tmp_path / "fresh"
    shutil.copytree(corpus, changed)
    (changed / "audio" / "mine.txt").write_text("not the corpus's")
    options = {"pieces": pieces_named(*NAMES[:1]), "maximum_segment_seconds": 12.0, "seed": 5}
    write(changed, **options)
    write(fresh, **options)
    assert (changed / "audio" / "mine.txt").exists()
    (changed / "audio" / "mine.txt").unlink()
    assert contents(changed) == contents(fresh)


def test_settings_state_the_music_and_the_anchors(corpus: Path, recordings: list[list[ManifestRow]]) -> None:
    settings = json.loads((corpus / "settings.json").read_text())
    minutes = sum(row.audio_end_seconds - row.audio_start_seconds for rows in recordings for row in rows) / 60
    anchors = sum(len({time for row in rows for time in (row.audio_start_seconds, row.audio_end_seconds)}) for rows in recordings)
    assert settings["minutes"] == pytest.approx(minutes, abs=0.001)
    assert settings["anchors_per_minute"] == pytest.approx(anchors / minutes, abs=0.001)
    assert (settings["seed"], settings["size"], settings["refused"]) == (0, "small", {})
    assert sum(split["pieces"] for split in settings["splits"].values()) == len(NAMES)


def test_pieces_that_fail_are_named_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mxl"
    broken.write_bytes(b"no score")
    short = tmp_path / "short.csv"
    short.write_text("onset_quarters,duration_quarters,pitch,part\n0,1,60,0\n1,1,62,0\n")
    pieces = [*pieces_named(NAMES[0]), Piece("broken", broken, "broken", False), Piece("short", short, "short", False)]
    manifest = write(tmp_path / "corpus", pieces=pieces)
    assert len(read_manifest(manifest)) == 1
    refused = json.loads((tmp_path / "corpus" / "settings.json").read_text())["refused"]
    assert refused.keys() == {"broken", "short"}
    assert "too short" in refused["short"]
    assert "refused" in capsys.readouterr().err
    with pytest.raises(InputError, match="every piece"):
        write(tmp_path / "nothing", pieces=pieces[1:])


def test_mistakes_are_named(tmp_path: Path) -> None:
    for wrong, name in (
        ({"minimum_segment_seconds": 40.0}, "minimum_segment_seconds"),
        ({"seed": -1}, "seed"),
        ({"size": "huge", "pieces": None}, "huge"),
    ):
        with pytest.raises(InputError, match=name):
            write(tmp_path, **wrong)
    (tmp_path / "manifest.csv").write_text("audio,score\n")
    with pytest.raises(InputError, match="another folder"):
        write(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write(tmp_path / "file" / "corpus")


def test_the_sizes_and_their_names() -> None:
    small, full = list_pieces("small"), list_pieces("full")
    assert {piece.name for piece in small} <= {piece.name for piece in full}
    assert sum(piece.is_chorale for piece in full) >= 400
    assert len(full) >= 460
    assert len({piece.name for piece in full}) == len(full)
    assert all(piece.name.replace("_", "").isalnum() for piece in full)


def test_versions_and_settings_of_one_melody_stay_together() -> None:
    """Nine files: four settings of the Passion chorale (one under a flute's descant), two versions of BWV 112/5, three others."""
    passion = {"bach_bwv244_15", "bach_bwv244_54", "bach_bwv248_5", "bach_bwv161_6"}
    versions = {"bach_bwv112_5", "bach_bwv112_5_sc"}
    others = ("bach_bwv66_6", "bach_bwv10_7", "bach_bwv277")
    pieces = pieces_named(*passion, *versions, *others)
    works = {piece.name: piece.work for piece in pieces}
    found = {piece.name: melodies(read_score(piece.path)) for piece in pieces}
    groups = group_pieces(works, found)
    assert sorted(map(sorted, groups)) == sorted([sorted(passion), sorted(versions), *([name] for name in others)])
    assert sorted(map(sorted, group_pieces(works, {}))) == sorted([sorted(versions), *([name] for name in (*passion, *others))])


def test_a_melody_is_the_same_in_another_key() -> None:
    score = read_score(pieces_named("bach_bwv66_6")[0].path)
    assert melodies(score.transposed(3)) == melodies(score)


def test_splits_divide_the_music_but_no_group() -> None:
    rng = np.random.default_rng(0)
    seconds = {f"piece {i}": float(rng.uniform(20, 60)) for i in range(150)}
    groups = [{f"piece {i}" for i in range(start, start + 3)} for start in range(0, 150, 3)]
    splits = assign_splits(groups, seconds)
    assert splits.keys() == seconds.keys()
    assert all(len({splits[name] for name in group}) == 1 for group in groups)
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        music = sum(length for name, length in seconds.items() if splits[name] == split)
        assert music == pytest.approx(share * sum(seconds.values()), rel=0.25)
    assert assign_splits(groups[::-1], seconds) == splits


@pytest.mark.parametrize(("minimum", "maximum"), [(10.0, 30.0), (10.0, 12.0), (5.0, 40.0)])
def test_cuts_keep_their_limits_and_reach_the_end_where_they_can(minimum: float, maximum: float) -> None:
    rng = np.random.default_rng(0)
    for quarters in (8, 20, 33, 60, 200):
        score = Score(np.arange(quarters) + 2.0, np.ones(quarters), 60 + np.arange(quarters) % 7, np.zeros(quarters, int), quarters + 6.0)
        performance = perform(score, rng, PerformanceSettings(onsets_per_second=(1.0, 1.0)))
        length = performance.offsets_seconds.max()
        cuts = cut(performance, minimum, maximum, rng)
        assert all(minimum <= one.end_seconds - one.start_seconds <= maximum for one in cuts)
        assert [one.end_seconds for one in cuts[:-1]] == [one.start_seconds for one in cuts[1:]]
        if cuts:
            assert (cuts[0].start_seconds, cuts[0].start_quarters) == (0.0, 2.0)
        if length < minimum:
            assert cuts == []
        if length >= 2 * minimum and maximum >= 2 * minimum:
            assert cuts[-1].end_seconds == length
            assert cuts[-1].end_quarters == quarters + 2.0


def test_segments_begin_only_where_the_harmony_changes() -> None:
    quarters = np.arange(60.0)
    score = Score(quarters, np.ones(60), np.where(quarters % 6 < 3, 60, 67), np.zeros(60, int), 60.0)
    performance = perform(score, np.random.default_rng(0), PerformanceSettings(onsets_per_second=(1.0, 1.0)))
    cuts = cut(performance, 5.0, 15.0, np.random.default_rng(0))
    assert len(cuts) > 3
    assert all(one.start_quarters % 3 == 0 for one in cuts)


def test_the_manifest_states_every_column(corpus: Path) -> None:
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = (
        "audio,score,audio_start_seconds,audio_end_seconds,score_start_quarters,score_end_quarters,repeats,transpose_semitones,truth,split"
    )
    assert list(rows[0]) == columns.split(",")
    assert all(row[column] != "" for row in rows for column in row)
    assert all(not Path(row[column]).is_absolute() for row in rows for column in ("audio", "score", "truth"))
