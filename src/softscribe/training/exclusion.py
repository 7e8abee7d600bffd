"""Leaving doubtful pairs out of training: which, and saying so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from softscribe.corpora import PreparedRecording
from softscribe.errors import InputError
from softscribe.health import Verdict, audit, write_audit
from softscribe.health.audit_report import evidence_in_words
from softscribe.sound import HcqtSettings


def exclude_doubtful(
    recordings: Sequence[PreparedRecording], settings: HcqtSettings, folder: Path
) -> tuple[list[PreparedRecording], list[Verdict]]:
    """Audit the training split by its features; name each doubtful segment on screen and all verdicts in `folder`/audit.json and .csv.

    A recording that is doubtful as a whole, with segments that a coarse alignment cut, keeps those of them that are not.

    The same corpus gives the same verdicts, so a resumed run, and every process of one run, leaves the same segments out; the
    first process alone says so.

    Returns:
        The recordings without the doubtful training segments, and the verdicts on those.

    Raises:
        InputError: nothing is left to train on.
    """
    training = [prepared for prepared in recordings if prepared.recording.split == "train"]
    verdicts = audit(training, settings) if training else []
    segments = {(prepared.recording.name, segment.name) for prepared in training for segment in prepared.recording.segments}
    doubtful = [verdict for verdict in verdicts if verdict.is_doubtful and (verdict.recording, verdict.segment) in segments]
    if training and len(doubtful) == len(segments):
        raise InputError(f"audit=exclude: all {len(segments)} training segments are doubtful. Remedy: mend the corpus as audit.csv says.")
    _say(verdicts, doubtful, len(segments), folder)
    return without_excluded(recordings, doubtful), doubtful


@rank_zero_only
def _say(verdicts: Sequence[Verdict], doubtful: Sequence[Verdict], count: int, folder: Path) -> None:
    write_audit(verdicts, folder, judged_by="features")
    print(f"audit: {len(doubtful)} of {count} training segments are left out{':' if doubtful else ''}")
    for verdict in doubtful:
        print(f"  {verdict.recording} {verdict.segment}: {verdict.fault}: {evidence_in_words(verdict)}")
    for verdict in verdicts:
        if verdict.is_doubtful and verdict not in doubtful:
            words = "is doubtful as a whole; its segments are judged each for itself"
            print(f"  {verdict.recording} {words}: {verdict.fault}: {evidence_in_words(verdict)}")


def without_excluded(recordings: Sequence[PreparedRecording], excluded: Sequence[Verdict]) -> list[PreparedRecording]:
    """Return the recordings without those segments; a recording that has no other is left out."""
    left_out = {(verdict.recording, verdict.segment) for verdict in excluded}
    kept = []
    for prepared in recordings:
        recording = prepared.recording
        segments = tuple(segment for segment in recording.segments if (recording.name, segment.name) not in left_out)
        if segments:
            kept.append(replace(prepared, recording=replace(recording, segments=segments)))
    return kept
