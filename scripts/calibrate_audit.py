"""How many damaged pairs does the audit find, how many sound ones does it doubt, and does it tell what is wrong?

    python scripts/calibrate_audit.py STORE [--part even|odd] [--seed 0] [--held-out] [--model FOLDER] [--show-evidence]

Of every tenth pair of a prepared corpus score or recording is damaged, in five ways in turn; in ten rounds every pair comes to it once.
Sound pairs are judged in the first round. Calibrate on one part (every other recording) and seed, test on the other part of another corpus.
A model is tried on recordings that it was not trained on; `--held-out` takes the same ones without a model, to compare.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import beta

from softscribe.corpora import PreparedRecording, Recording, Segment
from softscribe.corpora.opening import open_store
from softscribe.health.audit import Pair, Verdict, judge_pair
from softscribe.health.pair_hypotheses import CUT, FAULTS, REPEAT, TRANSPOSED, TUNING, WRONG_SCORE
from softscribe.health.pair_sound import Activations
from softscribe.models import load_model
from softscribe.scores import Score
from softscribe.sound import HcqtSettings
from softscribe.transcription import predict


def damaged(pair: Pair, fault: str, pairs: list[Pair], rng: np.random.Generator, folder: Path) -> Pair:
    """Return the pair with one fault: a changed score, or a copy of the recording's features that is changed."""
    prepared, segment = pair
    score, end = segment.score, segment.score.end_quarters
    if fault == WRONG_SCORE:
        strangers = [other.score for owner, other in pairs if owner.recording.name != prepared.recording.name]
        return with_segment(prepared, replace(segment, score=strangers[rng.integers(len(strangers))]))
    if fault == TRANSPOSED:
        return with_segment(prepared, replace(segment, score=score.transposed(int(rng.choice([-1, 1]) * rng.integers(1, 7)))))
    if fault == TUNING:
        shifted = np.roll(np.asarray(prepared.features), int(rng.choice([-1, 1])), axis=2)  # a third of a semitone
        return with_segment(with_features(prepared, shifted, folder), segment)
    share = rng.uniform(0.15, 0.4) if fault == CUT else rng.uniform(0.2, 0.5)
    if fault == CUT:
        seconds = share * (segment.end_seconds - segment.start_seconds)
        changes = (
            {"score": score.between(share * end, end)},
            {"score": score.between(0, (1 - share) * end)},
            {"start_seconds": segment.start_seconds + seconds},
            {"end_seconds": segment.end_seconds - seconds},
        )
        return with_segment(prepared, replace(segment, **changes[rng.integers(4)]))
    assert fault == REPEAT
    start = rng.uniform(0, 1 - share)
    if rng.integers(2):  # the score writes a repeat out that is not played
        return with_segment(prepared, replace(segment, score=twice(score, start * end, (start + share) * end)))
    first, last = (round(time * prepared.frames_per_second) for time in (segment.start_seconds, segment.end_seconds))
    passage = slice(first + round(start * (last - first)), first + round((start + share) * (last - first)))
    features = np.asarray(prepared.features)
    played = np.concatenate([features[: passage.stop], features[passage], features[passage.stop :]])
    longer = segment.end_seconds + (passage.stop - passage.start) / prepared.frames_per_second
    return with_segment(with_features(prepared, played, folder), replace(segment, end_seconds=longer))


def twice(score: Score, start: float, end: float) -> Score:
    """Return the score with a passage written out twice."""
    first, second = score.between(0, end), score.between(start, score.end_quarters)
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("durations_quarters", "pitches", "parts")}
    onsets = np.concatenate([first.onsets_quarters, second.onsets_quarters + end])
    return Score(onsets_quarters=onsets, end_quarters=end + second.end_quarters, **columns)


def with_segment(prepared: PreparedRecording, segment: Segment) -> Pair:
    recording: Recording = replace(prepared.recording, segments=(segment,))
    return replace(prepared, recording=recording), segment


def with_features(prepared: PreparedRecording, features: np.ndarray, folder: Path) -> PreparedRecording:
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, features)
    return replace(prepared, features_path=path)


def interval(hits: int, of: int) -> str:
    """The share and its exact 95 % confidence interval (Clopper-Pearson)."""
    low = beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    return f"{hits} of {of}: {hits / max(of, 1):.1%} [{low:.1%}, {high:.1%}]"


def judged(
    recordings: Sequence[PreparedRecording], settings: HcqtSettings, seed: int, activations_of: Activations | None = None
) -> tuple[list[Verdict], dict[str, list[Verdict]]]:
    """Return the verdicts on sound pairs, and on those damaged by each fault."""
    pairs = [(prepared, segment) for prepared in recordings for segment in prepared.recording.segments]
    rng = np.random.default_rng(seed)
    rounds = np.array_split(rng.permutation(len(pairs)), 10)
    sound: list[Verdict] = []
    found: dict[str, list[Verdict]] = {fault: [] for fault in FAULTS}
    with tempfile.TemporaryDirectory() as name:
        for number, chosen in enumerate(rounds):
            corpus = list(pairs)
            faults = {int(index): FAULTS[(place + number) % len(FAULTS)] for place, index in enumerate(chosen)}
            for index, fault in faults.items():
                corpus[index] = damaged(pairs[index], fault, pairs, rng, Path(name))
            for index, (prepared, segment) in enumerate(corpus):
                if index not in faults and number > 0:
                    continue
                verdict = judge_pair(prepared, segment, corpus, settings, activations_of)
                (found[faults[index]] if index in faults else sound).append(verdict)
    return sound, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--part", choices=("even", "odd"), help="every other recording; without it all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="only recordings of the validation and test splits")
    parser.add_argument("--model", type=Path, help="judge by its activations; implies --held-out")
    parser.add_argument("--show-evidence", action="store_true", help="print the evidence of every pair that is judged wrongly")
    options = parser.parse_args()
    store = open_store(options.store)
    recordings = store.recordings()
    if options.part:
        recordings = recordings[("even", "odd").index(options.part) :: 2]
    if options.held_out or options.model:
        recordings = [prepared for prepared in recordings if prepared.recording.split != "train"]
    activations_of = None
    if options.model:
        model, card = load_model(options.model)
        activations_of = partial(predict, model, time_shift_frames=card["time_shift_frames"])
    sound, found = judged(recordings, store.settings, options.seed, activations_of)
    for fault, verdicts in {"none": sound, **found}.items():
        wrong = [verdict for verdict in verdicts if verdict.fault != fault.replace("none", "")]
        for verdict in wrong if options.show_evidence else ():
            costs = ", ".join(f"{name} {cost:.3f}" for name, cost in verdict.best_costs.items())
            print(f"  {fault} -> {verdict.fault or 'none'}: {verdict.recording} {verdict.segment}: {verdict.cost:.3f}; {costs}")
    print("fault: found; called")
    for fault, verdicts in found.items():
        called = Counter(verdict.fault or "none" for verdict in verdicts)
        print(f"{fault}: {interval(sum(verdict.is_doubtful for verdict in verdicts), len(verdicts))}; {dict(called)}")
    every = [verdict for verdicts in found.values() for verdict in verdicts]
    right = sum(verdict.fault == fault for fault, verdicts in found.items() for verdict in verdicts)
    print(f"all faults found: {interval(sum(verdict.is_doubtful for verdict in every), len(every))}")
    print(f"called rightly: {interval(right, len(every))}")
    print(f"false alarms: {interval(sum(verdict.is_doubtful for verdict in sound), len(sound))}")
    # What thresholds could be: the evidence that sound pairs reach, and that damaged ones do.
    for fault in FAULTS:
        low = [verdict.cost - verdict.best_costs.get(fault, 0.0) for verdict in sound]
        high = [verdict.cost - verdict.best_costs.get(fault, 0.0) for verdict in found[fault]]
        print(
            f"evidence {fault}: sound 95 % {np.quantile(low, 0.95):.3f}, 99 % {np.quantile(low, 0.99):.3f}, largest {max(low):.3f}; "
            f"damaged 1 % {np.quantile(high, 0.01):.3f}, 5 % {np.quantile(high, 0.05):.3f}, 10 % {np.quantile(high, 0.1):.3f}"
        )


if __name__ == "__main__":
    main()
