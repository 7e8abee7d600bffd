"""How a recording and a score may belong together after all: transposed, tuned otherwise, with a repeat or a cut unknown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from softscribe.alignment import StepWeights, soft_dtw

AS_ANNOTATED, TRANSPOSED, TUNING, REPEAT, CUT, WRONG_SCORE = (
    "as annotated",
    "transposed",
    "wrong tuning",
    "missing repeat",
    "cut start or end",
    "wrong score",
)
FAULTS = (WRONG_SCORE, TRANSPOSED, REPEAT, CUT, TUNING)

LARGEST_TRANSPOSITION_SEMITONES = 6
REPEAT_GRID = 12
"""Passages that are repeated or left out begin and end at multiples of this share of the score; an alignment absorbs half a part."""
SHORTEST_REPEAT_PARTS = 2
CUT_GRID = 20
LARGEST_CUT_PARTS = 13
"""From 1/20 to 13/20 of a segment may be missing at its start or end."""

GAMMA = 0.02
"""In units of the cost, which lies in [0, 2]: low enough that only paths like the best count."""
_NEUTRAL = StepWeights(diagonal=2)
_BATCH_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to read a pair.

    Attributes:
        fault: one of `FAULTS`, or `AS_ANNOTATED`.
        frames: which frames of the recording take part, in order. Shape: (N',)
        targets: which parts of the score are played, in order. Shape: (M',)
        bins: by how many bins the recording sounds higher than written.
        detail: what it says, in words, with shares of the segment in percent.
    """

    fault: str
    frames: Int[np.ndarray, " frames"]
    targets: Int[np.ndarray, " targets"]
    bins: int
    detail: str


def hypotheses(frame_count: int, target_count: int, bins_per_semitone: int) -> list[Hypothesis]:
    """Return all ways to read a pair of this size; the first is as it is annotated.

    >>> all_ways = hypotheses(120, 120, 3)
    >>> all_ways[0].fault, sorted({way.fault for way in all_ways[1:]})
    ('as annotated', ['cut start or end', 'missing repeat', 'transposed', 'wrong tuning'])
    """
    frames, targets = np.arange(frame_count), np.arange(target_count)
    found = [Hypothesis(AS_ANNOTATED, frames, targets, 0, "")]
    largest = LARGEST_TRANSPOSITION_SEMITONES
    for bins in range(-largest * bins_per_semitone, largest * bins_per_semitone + 1):
        semitones, rest = divmod(bins, bins_per_semitone)
        if rest == 0 and semitones != 0:
            found.append(Hypothesis(TRANSPOSED, frames, targets, bins, f"sounds {semitones:+d} semitones from the score"))
        elif 0 < abs(bins) < bins_per_semitone:
            found.append(Hypothesis(TUNING, frames, targets, bins, f"sounds {100 * bins / bins_per_semitone:+.0f} cents from its tuning"))
    return found + _repeats(frames, targets) + _cuts(frames, targets)


def path_costs(
    heard: Float32[np.ndarray, "offsets frames 12"], written: Float32[np.ndarray, "targets 12"], ways: Sequence[Hypothesis]
) -> Float[np.ndarray, " ways"]:
    """Return the expected path cost of each way to read a pair, divided by the length N' + M' - 1 of its paths.

    The cost of a cell is 1 - correlation, in [0, 2]; step weights are 1-1-2, so that all paths of a matrix have one length.

    Args:
        heard, written: see `pair_sound`.
        ways: of these counts of frames and targets.
    """
    matrices = {bins: _cost_matrix(heard, written, bins) for bins in {way.bins for way in ways}}
    return normalised_path_costs([matrices[way.bins][np.ix_(way.frames, way.targets)] for way in ways])


def background_costs(
    heard: Float32[np.ndarray, "offsets frames 12"], others: Sequence[Float32[np.ndarray, "targets 12"]], bins_per_semitone: int
) -> Float[np.ndarray, "others 4"]:
    """Return what the recording costs with scores that it does not play, each in four keys a minor third apart."""
    keys = [bins_per_semitone * semitones for semitones in (0, 3, 6, 9)]
    return normalised_path_costs([_cost_matrix(heard, other, bins) for other in others for bins in keys]).reshape(len(others), len(keys))


def normalised_path_costs(matrices: Sequence[Float32[np.ndarray, "_ _"]]) -> Float[np.ndarray, " matrices"]:
    """Return the expected path cost of each cost matrix, divided by the length of its paths; matrices of like size share a batch."""
    costs = np.empty(len(matrices))
    order = sorted(range(len(matrices)), key=lambda index: matrices[index].shape)
    largest = max((matrix.size for matrix in matrices), default=1)
    batch_size = max(1, _BATCH_CELLS // largest)
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        frame_counts, target_counts = torch.tensor([matrices[index].shape for index in chosen]).T.contiguous()
        padded = torch.zeros(len(chosen), int(frame_counts.max()), int(target_counts.max()))
        for item, index in zip(padded, chosen, strict=True):
            rows, columns = matrices[index].shape
            item[:rows, :columns] = torch.from_numpy(matrices[index])
        padded.requires_grad_()
        losses = soft_dtw(padded, frame_counts, target_counts, gamma=GAMMA, weights=_NEUTRAL)
        # <C, H>, H from the kernel for the classical steps: it is eight times faster than the one that `align` takes for everything.
        (gradient,) = torch.autograd.grad(losses.sum(), padded)
        costs[chosen] = ((padded.detach() * gradient).sum(dim=(1, 2)) / (frame_counts + target_counts - 1)).numpy()
    return costs


def _cost_matrix(
    heard: Float32[np.ndarray, "offsets frames 12"], written: Float32[np.ndarray, "targets 12"], bins: int
) -> Float32[np.ndarray, "frames targets"]:
    middle = len(heard) // 2
    semitones, offset = divmod(bins + middle, len(heard))
    return 1 - heard[offset] @ np.roll(written, semitones, axis=1).T


def _repeats(frames: np.ndarray, targets: np.ndarray) -> list[Hypothesis]:
    """The recording plays a passage twice that the score has once, or leaves a passage out that is not at the score's start or end."""
    edges = np.round(np.linspace(0, len(targets), REPEAT_GRID + 1)).astype(int)
    found = []
    for first in range(REPEAT_GRID):
        for last in range(first + SHORTEST_REPEAT_PARTS, REPEAT_GRID + 1):
            start, end = edges[first], edges[last]
            where = f"{100 * first / REPEAT_GRID:.0f}-{100 * last / REPEAT_GRID:.0f} % of the score"
            twice = np.concatenate([targets[:end], targets[start:]])
            found.append(Hypothesis(REPEAT, frames, twice, 0, f"plays {where} twice"))
            if start > 0 and end < len(targets):
                without = np.concatenate([targets[:start], targets[end:]])
                found.append(Hypothesis(REPEAT, frames, without, 0, f"leaves out {where}"))
    return found


def _cuts(frames: np.ndarray, targets: np.ndarray) -> list[Hypothesis]:
    """The one begins before the other, or ends after it."""
    found = []
    for parts in range(1, LARGEST_CUT_PARTS + 1):
        percent = f"{100 * parts / CUT_GRID:.0f} %"
        skipped_frames, skipped_targets = (round(len(every) * parts / CUT_GRID) for every in (frames, targets))
        if 0 < skipped_frames < len(frames) and 0 < skipped_targets < len(targets):
            found += [
                Hypothesis(CUT, frames[skipped_frames:], targets, 0, f"the first {percent} of the recording is not in the score"),
                Hypothesis(CUT, frames[:-skipped_frames], targets, 0, f"the last {percent} of the recording is not in the score"),
                Hypothesis(CUT, frames, targets[skipped_targets:], 0, f"the first {percent} of the score is not in the recording"),
                Hypothesis(CUT, frames, targets[:-skipped_targets], 0, f"the last {percent} of the score is not in the recording"),
            ]
    return found
