"""Doubtful pairs: recordings whose score does not fit them as it is annotated, and what is likely to be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from softscribe.corpora import PreparedRecording, Segment
from softscribe.errors import InputError
from softscribe.health.pair_hypotheses import (
    CUT,
    FAULTS,
    REPEAT,
    TRANSPOSED,
    TUNING,
    WRONG_SCORE,
    Hypothesis,
    background_costs,
    hypotheses,
    normalised_path_costs,
    path_costs,
)
from softscribe.health.pair_sound import (
    AUDIT_FRAMES_PER_SECOND,
    FINE_FRAME_COUNT,
    LARGEST_FRAME_COUNT,
    Activations,
    heard_directions,
    written_directions,
)
from softscribe.sound import HcqtSettings

THRESHOLDS = {WRONG_SCORE: 0.38, TRANSPOSED: 0.05, TUNING: 0.012, REPEAT: 0.032, CUT: 0.015}
"""From which evidence on a pair is doubtful, in shares of what the recording costs with scores that it does not play.

For `WRONG_SCORE` the cost of the pair itself; for the others, by how much the cost falls when the pair is read in that way. Set by
scripts/calibrate_audit.py on other performances and pieces than docs/audit.md tests them on.
"""

LONG_SECONDS = 200.0
LONG_WRONG_SCORE = 0.6
"""The threshold of `WRONG_SCORE` for segments beyond `LONG_SECONDS`, whose frames are long: sound ones cost up to .48 there, others .77 and
more (docs/audit.md)."""

BACKGROUND_SCORES = 8

Pair = tuple[PreparedRecording, Segment]


@dataclass(frozen=True)
class Verdict:
    """What the audit found about one pair of a segment and its score. Costs are shares of `background_cost`.

    Attributes:
        recording, segment, split: which pair.
        doubt: the largest evidence of a fault, divided by its threshold; the pair is doubtful from 1 on.
        fault: one of `FAULTS`, or "" if the pair is not doubtful.
        finding: what is likely wrong, in words.
        remedy: what to change, in the manifest where it has a column for it.
        background_cost: the median expected path cost, per step, with scores that the recording does not play; in [0, 2].
        cost: the pair's own as it is annotated.
        best_costs: the lowest cost for each fault but `WRONG_SCORE`.
    """

    recording: str
    segment: str
    split: str
    doubt: float
    fault: str
    finding: str
    remedy: str
    background_cost: float
    cost: float
    best_costs: dict[str, float]

    @property
    def is_doubtful(self) -> bool:
        return self.fault != ""


def audit(recordings: Sequence[PreparedRecording], settings: HcqtSettings, activations_of: Activations | None = None) -> list[Verdict]:
    """Judge every pair of a corpus; return the verdicts, the most doubtful first.

    Each pair's length-normalised expected path cost is compared with what the same recording costs with other scores of the corpus
    and in other keys (the background), and with the costs of all `hypotheses`. Nothing has to be trained. A recording whose segments a
    coarse alignment cut is judged as a whole besides: what does not fit was left out of its segments.

    Args:
        recordings: a prepared corpus. One recording is enough: its background is then its own score in other keys.
        settings: of its features.
        activations_of: predictions of a trained model, which then take the place of the features' energies.

    Raises:
        InputError: there are no recordings, or their features cannot be read.
    """
    if not recordings:
        raise InputError("recordings: none to audit. Remedy: prepare a corpus of at least one.")
    pairs = [(prepared, segment) for prepared in recordings for segment in prepared.recording.segments]
    verdicts = [
        judge_pair(prepared, segment, pairs, settings, activations_of) for prepared in recordings for segment in prepared.recording.judged
    ]
    return sorted(verdicts, key=lambda verdict: -verdict.doubt)


def judge_pair(
    prepared: PreparedRecording,
    segment: Segment,
    pairs: Sequence[Pair],
    settings: HcqtSettings,
    activations_of: Activations | None = None,
) -> Verdict:
    """Judge one pair of a corpus whose pairs are `pairs`; arguments and errors are those of `audit`."""
    verdict = _judge(prepared, segment, pairs, settings, activations_of, LARGEST_FRAME_COUNT)
    if verdict.is_doubtful and (segment.end_seconds - segment.start_seconds) * AUDIT_FRAMES_PER_SECOND > LARGEST_FRAME_COUNT:
        return _judge(prepared, segment, pairs, settings, activations_of, FINE_FRAME_COUNT)
    return verdict


def _judge(
    prepared: PreparedRecording,
    segment: Segment,
    pairs: Sequence[Pair],
    settings: HcqtSettings,
    activations_of: Activations | None,
    largest_frame_count: int,
) -> Verdict:
    heard = heard_directions(prepared, segment, settings, activations_of, largest_frame_count)
    is_whole = segment is prepared.recording.whole
    thresholds = thresholds_for(segment.end_seconds - segment.start_seconds)
    bins_per_semitone, frame_count = heard.shape[:2]
    ways = hypotheses(frame_count, frame_count, bins_per_semitone)
    costs = path_costs(heard, written_directions(segment.score, frame_count), ways)
    # Another recording of the same score is no score that this one does not play.
    strangers = [other for owner, other in pairs if owner.recording.score_path != prepared.recording.score_path]
    chosen = strangers[:: max(1, len(strangers) // BACKGROUND_SCORES)][:BACKGROUND_SCORES]
    unplayed = [written_directions(other.score, frame_count) for other in chosen]
    other_keys = [cost for cost, way in zip(costs, ways, strict=True) if way.fault == TRANSPOSED]
    background = float(np.median([*other_keys, *background_costs(heard, unplayed, bins_per_semitone).ravel()]))
    shares = costs / max(background, 1e-6)
    fault, best = diagnose(shares, ways, thresholds)
    evidence = evidence_of(shares, ways, thresholds)
    finding, remedy = "", ""
    if fault == WRONG_SCORE:
        finding, remedy = _wrong_score(heard, shares[0] * background, _wholes(pairs) if is_whole else pairs)
    elif fault:
        finding, remedy = best.detail, _remedy(best, segment, frame_count, bins_per_semitone)
        if fault == CUT and is_whole:
            remedy += "; a row with that is one segment, which nothing cuts: give a row for each stretch that you know"
    return Verdict(
        recording=prepared.recording.name,
        segment=segment.name,
        split=prepared.recording.split,
        doubt=max(evidence.values()),
        fault=fault,
        finding=finding,
        remedy=remedy,
        background_cost=background,
        cost=float(shares[0]),
        best_costs={name: float(shares[_best(shares, ways, name)]) for name in FAULTS if name != WRONG_SCORE},
    )


def thresholds_for(segment_seconds: float) -> dict[str, float]:
    """Return the thresholds for a segment of this length."""
    return THRESHOLDS | ({WRONG_SCORE: LONG_WRONG_SCORE} if segment_seconds > LONG_SECONDS else {})


def evidence_of(shares: Float[np.ndarray, " ways"], ways: Sequence[Hypothesis], thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return the evidence of each fault, in units of its threshold.

    Args:
        shares: the cost of each way to read the pair, divided by the background's.
        ways: the first is the pair as annotated.
        thresholds: see `thresholds_for`.
    """
    gains = {fault: (shares[0] - shares[_best(shares, ways, fault)]) / thresholds[fault] for fault in FAULTS if fault != WRONG_SCORE}
    return {WRONG_SCORE: float(shares[0] / thresholds[WRONG_SCORE])} | {fault: float(gain) for fault, gain in gains.items()}


def diagnose(shares: Float[np.ndarray, " ways"], ways: Sequence[Hypothesis], thresholds: Mapping[str, float]) -> tuple[str, Hypothesis]:
    """Return the likely fault ("" for none) and the way to read the pair that tells it.

    A fault explains a pair if its evidence reaches its threshold and the pair then fits. Of several, the one counts that leaves the
    lowest cost. What nothing explains is a wrong score.
    """
    evidence = evidence_of(shares, ways, thresholds)
    if max(evidence.values()) < 1:
        return "", ways[0]
    bests = {fault: _best(shares, ways, fault) for fault in FAULTS if fault != WRONG_SCORE and evidence[fault] >= 1}
    explaining = {fault: best for fault, best in bests.items() if shares[best] < thresholds[WRONG_SCORE]}
    if not explaining:
        return WRONG_SCORE, ways[0]
    fault = min(explaining, key=lambda fault: shares[explaining[fault]])
    return fault, ways[explaining[fault]]


def _best(shares: Float[np.ndarray, " ways"], ways: Sequence[Hypothesis], fault: str) -> int:
    """The way of a fault that costs least; as annotated, if there is no way of it."""
    return min((index for index, way in enumerate(ways) if way.fault == fault), key=lambda index: shares[index], default=0)


def _wholes(pairs: Sequence[Pair]) -> list[Pair]:
    """The whole scores, where a coarse alignment cut them, in place of their segments."""
    found: list[Pair] = []
    for owner, segment in pairs:
        whole = owner.recording.whole
        if whole is None:
            found.append((owner, segment))
        elif segment.name == owner.recording.segments[0].name:
            found.append((owner, whole))
    return found


def _wrong_score(heard: Float32[np.ndarray, "offsets frames 12"], own_cost: float, pairs: Sequence[Pair]) -> tuple[str, str]:
    middle = heard[len(heard) // 2]
    scores = [other.score for _, other in pairs]
    chunks = [scores[first : first + BACKGROUND_SCORES] for first in range(0, len(scores), BACKGROUND_SCORES)]  # not all matrices at once
    costs = np.concatenate(
        [normalised_path_costs([1 - middle @ written_directions(each, len(middle)).T for each in chunk]) for chunk in chunks]
    )
    best = int(costs.argmin())
    owner, other = pairs[best]
    if costs[best] > own_cost / 2:
        return "fits no score of the corpus in any key", "column score: name the file of what is played"
    found = f"segment {other.name} of {owner.recording.score_path.name} fits better"
    return found, f"column score: {owner.recording.score_path.name}, or check score_start_quarters and score_end_quarters"


def _remedy(way: Hypothesis, segment: Segment, frame_count: int, bins_per_semitone: int) -> str:
    if way.fault == TRANSPOSED:
        return f"column transpose_semitones: {way.bins // bins_per_semitone:+d} (added to what stands there)"
    if way.fault == TUNING:
        return "no column: `prepare` did not find its tuning; check that it keeps one, and leave it out if it does not"
    if way.fault == REPEAT:
        return "column repeats: the other of written and expanded; or segments by score_start_quarters and score_end_quarters"
    seconds = (segment.end_seconds - segment.start_seconds) / frame_count
    quarters = segment.score.end_quarters / frame_count
    ends = {
        "audio_start_seconds": (way.frames[0], segment.start_seconds + way.frames[0] * seconds),
        "audio_end_seconds": (frame_count - 1 - way.frames[-1], segment.start_seconds + (way.frames[-1] + 1) * seconds),
        "score_start_quarters": (way.targets[0], segment.score_start_quarters + way.targets[0] * quarters),
        "score_end_quarters": (frame_count - 1 - way.targets[-1], segment.score_start_quarters + (way.targets[-1] + 1) * quarters),
    }
    column, (_, value) = max(ends.items(), key=lambda end: end[1][0])
    return f"column {column}: about {value:.1f}"
