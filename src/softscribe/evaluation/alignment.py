"""How far an alignment's onsets are from those performed, in seconds."""

import numpy as np
from jaxtyping import Float, Int

from softscribe.errors import InputError
from softscribe.scores import PerformedNotes

SAME_POSITION_QUARTERS = 5e-4
"""Score positions closer than this are one: half of the finest common MIDI tick, 1/960 quarter."""
LARGEST_SPREAD_SECONDS = 1.0
"""Notes written at one position but heard farther apart belong to two passages: a repeat that is written once."""


def aligned_onsets(
    expected_alignment: Float[np.ndarray, "frames rows"], target_of_row: Int[np.ndarray, " rows"], frames_per_second: float
) -> Float[np.ndarray, " targets"]:
    """Return when an alignment enters each target, in seconds: the time of the first frame that more likely than not lies in it or behind.

    The rows of the alignment may repeat targets (a stretched sequence). The probability of a target at a frame is the sum of its rows'
    share of the frame's expected alignment; the onset of target u is the first frame where targets >= u have more than half (the median
    entry), the last frame if there is none. A target without a row takes the onset of the next one. The first onset is always 0.

    Args:
        expected_alignment: E, the probability that a path passes a cell. Shape: (N, M)
        target_of_row: the target that each row of E shows, 0 first, never falling; `np.arange(M)` if none is repeated. Shape: (M,)
        frames_per_second: frame n lies at n / frames_per_second.

    Raises:
        InputError: E and `target_of_row` do not fit, or E has negative values, NaN, or a frame without probability.

    >>> expected = np.array([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])
    >>> aligned_onsets(expected, np.array([0, 0, 1]), frames_per_second=10.0).tolist()
    [0.0, 0.2]
    """
    frames, rows = expected_alignment.shape
    if len(target_of_row) != rows or rows == 0 or frames == 0:
        raise InputError(
            f"target_of_row: {len(target_of_row)} values for an alignment of shape {(frames, rows)}. Remedy: one for each row."
        )
    if target_of_row[0] < 0 or (np.diff(target_of_row) < 0).any():
        raise InputError("target_of_row: falls or is negative. Remedy: give the target that each row shows, in the score's order.")
    mass = expected_alignment.sum(axis=1, dtype=np.float64)
    if not ((expected_alignment >= 0).all() and (mass > 0).all() and np.isfinite(mass).all()):
        raise InputError(
            "expected_alignment: a frame has no probability, or a value is negative or NaN. Remedy: give E of real frames only."
        )
    from_row_on = np.cumsum(expected_alignment[:, ::-1], axis=1, dtype=np.float64)[:, ::-1] / mass[:, None]
    first_rows = np.searchsorted(target_of_row, np.arange(target_of_row[-1] + 1))
    entered = from_row_on[:, first_rows] > 0.5
    first_frames = np.where(entered.any(axis=0), entered.argmax(axis=0), frames - 1)
    onsets: Float[np.ndarray, " targets"] = first_frames / frames_per_second
    return onsets


def true_target_onsets(
    onsets_quarters: Float[np.ndarray, " targets"], segment_start_quarters: float, performed: PerformedNotes
) -> Float[np.ndarray, " targets"]:
    """Return when each target of a segment was performed, in seconds from the recording's start: the mean onset of the notes written there.

    NaN where that is not known or is no question: at the segment's first target, whose onset is given; where no note is written to begin
    (a note ends, and with it the set); and where the notes written at one place sound more than a second apart (played twice).

    Args:
        onsets_quarters: where the targets are written, counted from the segment's start. Shape: (M,)
        segment_start_quarters: where the segment begins in the score.
        performed: notes with known score onsets (`score_onsets_quarters`, counted from the score's start).

    >>> notes = PerformedNotes(np.array([0.1, 0.62, 0.64]), np.ones(3), np.array([60, 64, 67]), np.array([4.0, 5.0, 5.0]))
    >>> true_target_onsets(np.array([0.0, 1.0, 2.0]), 4.0, notes).round(3).tolist()
    [nan, 0.63, nan]
    """
    known = np.flatnonzero(~np.isnan(performed.score_onsets_quarters))
    known = known[np.argsort(performed.score_onsets_quarters[known], kind="stable")]
    written, heard = performed.score_onsets_quarters[known], performed.onsets_seconds[known]
    positions = onsets_quarters + segment_start_quarters
    first = np.searchsorted(written, positions - SAME_POSITION_QUARTERS, side="left")
    last = np.searchsorted(written, positions + SAME_POSITION_QUARTERS, side="right")
    onsets = np.full(len(positions), np.nan)
    for target in np.flatnonzero((last > first) & (onsets_quarters > SAME_POSITION_QUARTERS)):
        at_once = heard[first[target] : last[target]]
        if np.ptp(at_once) <= LARGEST_SPREAD_SECONDS:
            onsets[target] = at_once.mean()
    return onsets


def alignment_measures(estimated: Float[np.ndarray, " targets"], true: Float[np.ndarray, " targets"]) -> dict[str, float | int]:
    """Compare onsets in seconds; those whose true one is NaN are left out.

    Returns:
        alignment_median_error_ms: the median of the absolute errors.
        alignment_within_50_ms, alignment_within_100_ms: the share of onsets that err by no more, in [0, 1].
        alignment_mean_signed_error_ms: positive if the alignment is late.
        alignment_onsets: how many onsets were compared. If there are none the result is empty.

    Raises:
        InputError: the arrays differ in length, or an estimate whose true onset is known is NaN.

    >>> alignment_measures(np.array([0.0, 1.0, 2.0]), np.array([np.nan, 1.25, 2.0]))["alignment_mean_signed_error_ms"]
    -125.0
    """
    if len(estimated) != len(true):
        raise InputError(f"onsets: {len(estimated)} estimated, {len(true)} true. Remedy: give one of each for every target.")
    known = ~np.isnan(true)
    if not known.any():
        return {}
    errors_ms = 1000 * (estimated[known] - true[known])
    if not np.isfinite(errors_ms).all():
        raise InputError("estimated: an onset is NaN or infinite. Remedy: give a time for every target.")
    # 50 ms means 50 ms: differences of decimal fractions miss it by a rounding error.
    absolute_ms = np.abs(errors_ms).round(6)
    return {
        "alignment_median_error_ms": float(np.median(absolute_ms)),
        "alignment_within_50_ms": float((absolute_ms <= 50).mean()),
        "alignment_within_100_ms": float((absolute_ms <= 100).mean()),
        "alignment_mean_signed_error_ms": float(errors_ms.mean()),
        "alignment_onsets": int(known.sum()),
    }
