from pathlib import Path

import numpy as np
import pytest
import soundfile

from softscribe.corpora.folder import read_folder_corpus
from softscribe.corpora.manifest import ManifestRow, write_manifest
from softscribe.errors import InputError


def read(corpus: Path, **options):
    recordings, refusals = read_folder_corpus(corpus, **({"jobs": 1} | options))
    return {recording.name: recording for recording in recordings}, {refusal.file.name: refusal.reason for refusal in refusals}


def test_short_pairs_are_one_segment_from_the_first_to_the_last_sound(tmp_path, add_pair):
    made = {name: add_pair(name, seed=seed, truth=name == "b") for seed, name in enumerate("abc")}
    recordings, refusals = read(tmp_path / "corpus")
    assert not refusals
    assert list(recordings) == ["a", "b", "c"]
    assert sorted(recording.split for recording in recordings.values()) == ["test", "train", "validation"]
    for name, recording in recordings.items():
        [segment] = recording.segments
        assert segment.score == made[name].score
        assert abs(segment.start_seconds - 0.7) < 0.1
        assert abs(segment.end_seconds - made[name].duration_seconds + 0.7) < 0.6
        assert recording.whole is None
        assert recording.truth == (made[name].performed if name == "b" else None)


def test_long_pairs_are_cut_and_say_so_with_and_without_cache(tmp_path, add_pair):
    add_pair("long", seed=3, quarters=140)
    plain, refusals = read(tmp_path / "corpus")
    assert not refusals
    whole = plain["long"].whole
    assert whole is not None
    assert len(whole.score) >= sum(len(segment.score) for segment in plain["long"].segments)
    assert whole.start_seconds <= plain["long"].segments[0].start_seconds < plain["long"].segments[-1].end_seconds <= whole.end_seconds
    assert len(plain["long"].segments) >= 2
    for _ in range(2):
        assert read(tmp_path / "corpus", cache_directory=tmp_path / "cache")[0] == plain
    [cached] = (tmp_path / "cache").glob("chroma-*.npz")
    cached.write_bytes(cached.read_bytes()[:500])
    assert read(tmp_path / "corpus", cache_directory=tmp_path / "cache")[0] == plain
    uncut, _ = read(tmp_path / "corpus", longest_segment_seconds=500.0)
    assert len(uncut["long"].segments) == 1
    assert uncut["long"].whole is None


def test_a_long_recording_with_another_pieces_score_is_refused(tmp_path, add_pair):
    add_pair("good", seed=1)
    add_pair("wrong", seed=3, quarters=140)
    add_pair("other", seed=4, quarters=140, score_name="wrong")
    (tmp_path / "corpus/audio/other.wav").unlink()
    recordings, refusals = read(tmp_path / "corpus")
    assert list(recordings) == ["good"]
    assert all(part in refusals["wrong.wav"] for part in ("nowhere surely aligned", "wrong.csv", "Remedy", "manifest.csv"))


def test_a_manifest_decides_alone(tmp_path, add_pair):
    made = add_pair("x", seed=1)
    add_pair("ignored", seed=2)
    corpus, half = tmp_path / "corpus", made.score.end_quarters / 2
    ends = [0.0, half, made.score.end_quarters]
    write_manifest(
        [
            ManifestRow(
                corpus / "audio/x.wav",
                corpus / "scores/x.csv",
                *(float(made.seconds(end)) for end in ends[part : part + 2]),
                *ends[part : part + 2],
                transpose_semitones=-3,
                truth=corpus / "truth/none.csv",
                split="test",
            )
            for part in (1, 0)
        ],
        corpus / "manifest.csv",
    )
    recordings, refusals = read(corpus)
    [recording] = recordings.values()
    assert recording.split == "test"
    assert [segment.score_start_quarters for segment in recording.segments] == [0, half]
    assert [segment.start_seconds for segment in recording.segments] == pytest.approx(made.seconds(np.array(ends[:2])))
    assert recording.segments[0].score == made.score.transposed(-3).between(0, half)
    assert recording.truth is None
    assert "used without truth" in refusals["none.csv"]


def test_segments_outside_the_recording_or_the_score_are_refused_and_the_others_kept(tmp_path, add_pair):
    made = add_pair("x", seed=1)
    corpus, end = tmp_path / "corpus", made.duration_seconds
    (corpus / "manifest.csv").write_text(
        "audio,score,audio_start_seconds,audio_end_seconds,score_start_quarters,score_end_quarters\n"
        f"audio/x.wav,scores/x.csv,0.5,3,0,4\naudio/x.wav,scores/x.csv,3,{end + 5},4,8\n"
        f"audio/x.wav,scores/x.csv,{end + 1},,4,8\naudio/x.wav,scores/x.csv,3,4,4,99\naudio/x.wav,scores/x.csv,3,4,99,\n"
    )
    recordings, refusals = read_folder_corpus(corpus, jobs=1)
    assert [segment.end_seconds for segment in recordings[0].segments] == [3.0]
    reasons = [refusal.reason for refusal in refusals]
    assert len(reasons) == 4
    assert sum("leaves the recording" in reason for reason in reasons) == 2
    assert sum("leaves the score" in reason for reason in reasons) == 2
    assert all("x.wav: segment" in reason and "Remedy" in reason for reason in reasons)


def test_versions_of_a_piece_share_its_split(tmp_path, add_pair):
    for seed in range(4):
        for performer in ("anna", "ben"):
            add_pair(f"{performer}_piece{seed}", seed=seed, score_name=f"piece{seed}")
    recordings, _ = read(tmp_path / "corpus")
    for seed in range(4):
        assert recordings[f"anna_piece{seed}"].split == recordings[f"ben_piece{seed}"].split
    assert {recording.split for recording in recordings.values()} == {"train", "validation", "test"}


def bad_files(corpus: Path, add_pair) -> dict[str, str]:
    """Add one pair for every kind of bad file; returns what each one's reason says."""

    def audio(name: str, samples: np.ndarray, subtype: str = "FLOAT") -> None:
        add_pair(name, seed=7)
        soundfile.write(corpus / f"audio/{name}.wav", samples, 22050, subtype=subtype)

    def score(name: str, suffix: str, content: bytes) -> None:
        add_pair(name, seed=7)
        (corpus / f"scores/{name}.csv").unlink()
        (corpus / f"scores/{name}{suffix}").write_bytes(content)

    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 22050)
    audio("cut", noise, "PCM_16")
    cut = corpus / "audio/cut.wav"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    audio("header", noise[:0])
    audio("silence", noise * 0)
    audio("nan", np.where(np.arange(len(noise)) == 9, np.nan, noise))
    audio("short", noise[:11025])
    add_pair("text", seed=7)
    (corpus / "audio/text.wav").write_text("la la la\n" * 1000)
    score("midi", ".mid", b"MThd\0\0\0\6\0\1\0\1\0")
    score("empty_midi", ".mid", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0")
    score("xml", ".musicxml", b"<?xml version='1.0'?><score-partwise><part id='P1'><measure>")
    score("empty", ".mid", b"")
    add_pair("lonely", seed=7)
    (corpus / "scores/lonely.csv").unlink()
    return {
        "cut.wav": "cut off",
        "header.wav": "header",
        "silence.wav": "silent",
        "nan.wav": "NaN",
        "short.wav": "0.50 s",
        "text.wav": "cannot be read as audio",
        "midi.wav": "midi.mid",
        "empty_midi.wav": "empty_midi.mid",
        "xml.wav": "xml.musicxml",
        "empty.wav": "empty.mid",
        "lonely.wav": "has no score",
    }


def test_every_bad_file_is_a_named_refusal_and_the_rest_is_unharmed(tmp_path, add_pair):
    corpus = tmp_path / "corpus"
    add_pair("good", seed=1)
    add_pair("slow", seed=2, rate=8000)
    add_pair("fine", seed=3, rate=96000)
    expected = bad_files(corpus, add_pair)
    recordings, refusals = read(corpus)
    assert set(recordings) == {"good", "slow", "fine"}
    assert set(refusals) == set(expected)
    for name, part in expected.items():
        assert part in refusals[name]
        assert "Remedy" in refusals[name]
        assert str(corpus) in refusals[name]


def test_a_bad_corpus_or_argument_is_refused_as_a_whole(tmp_path, add_pair):
    with pytest.raises(InputError, match="no such folder"):
        read_folder_corpus(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no recording and score"):
        read_folder_corpus(tmp_path / "empty")
    add_pair("a")
    for options in ({"validation_fraction": 0.6, "test_fraction": 0.6}, {"longest_segment_seconds": 5.0}):
        with pytest.raises(InputError, match="Remedy"):
            read(tmp_path / "corpus", **options)
