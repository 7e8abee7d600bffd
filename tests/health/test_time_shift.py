"""The time shift: found to half a frame on the built-in corpus without a label, with slope 1, and not where there is none to find."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from softscribe.corpora.demo import write_demo_corpus
from softscribe.corpora.manifest import read_manifest
from softscribe.corpora.pieces import list_pieces
from softscribe.errors import InputError
from softscribe.health import TimeShift, estimate_time_shift, onset_strength, rises
from softscribe.scores import PerformedNotes, read_performed_notes, strong_targets
from softscribe.sound import HcqtSettings, hcqt, read_audio
from softscribe.transcription import shift_back

# Fewer channels than the usual ones, made in half the time.
SETTINGS = HcqtSettings(harmonics=(1, 2, 4))
RATE = SETTINGS.frames_per_second
PIECES = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[np.ndarray, PerformedNotes]]:
    """Onset strength and truth of the first chorales of the built-in corpus."""
    chorales = [piece for piece in list_pieces("small") if piece.is_chorale][:PIECES]
    manifest = write_demo_corpus(tmp_path_factory.mktemp("demo") / "corpus", pieces=chorales, jobs=1)
    rows = [rows[0] for rows in read_manifest(manifest)]
    return [(onset_strength(hcqt(read_audio(row.audio), SETTINGS), SETTINGS), read_performed_notes(row.truth)) for row in rows]


def truths(corpus: list[tuple[np.ndarray, PerformedNotes]], outputs: int) -> list[np.ndarray]:
    return [strong_targets(notes, len(onsets) + 1, RATE, outputs).astype(np.float32) for onsets, notes in corpus]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape)


MADE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "true": lambda truth: truth,
    "blurred": lambda truth: gaussian_filter1d(truth, 4, axis=0),
    "noisy": lambda truth: np.clip(gaussian_filter1d(0.1 + 0.8 * truth, 1, axis=0) + noise(truth.shape), 0, 1),
    "delayed": lambda truth: shift_back(truth, -3.4),
    "early": lambda truth: shift_back(gaussian_filter1d(truth, 2, axis=0), 5.0),
    "attack smeared": lambda truth: lfilter([0.25], [1, -0.75], truth, axis=0),
}


@pytest.mark.parametrize("outputs", [12, 72])
@pytest.mark.parametrize("kind", MADE)
def test_within_half_a_frame_of_the_labelled_shift(corpus: list[tuple[np.ndarray, PerformedNotes]], kind: str, outputs: int) -> None:
    true = truths(corpus, outputs)
    rising = [rises(MADE[kind](truth)) for truth in true]
    estimate = estimate_time_shift([onsets for onsets, _ in corpus], rising, RATE)
    labelled = estimate_time_shift([rises(truth) for truth in true], rising, RATE)
    assert abs(estimate.frames - labelled.frames) < 0.5
    assert estimate.lowest_frames < estimate.frames < estimate.highest_frames
    expected = {"true": 0, "delayed": 3.4, "early": -5}.get(kind)
    assert expected is None or labelled.frames == pytest.approx(expected, abs=0.15)


def test_injected_shifts_are_found_with_slope_one(corpus: list[tuple[np.ndarray, PerformedNotes]]) -> None:
    blurred = [gaussian_filter1d(truth, 2, axis=0) for truth in truths(corpus, 12)]
    injected = np.arange(-10, 10.1, 1.25)
    found = [
        estimate_time_shift([onsets for onsets, _ in corpus], [rises(shift_back(each, -by)) for each in blurred], RATE).frames
        for by in injected
    ]
    slope, offset = np.polyfit(injected, found, 1)
    assert slope == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(found, slope * injected + offset, atol=0.05)


def made_curves(seed: int, shift: float, seconds: float = 150.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random onsets, and what a model makes of them: smeared, late, and half of it noise."""
    rng = np.random.default_rng(seed)
    onsets = rng.gamma(0.05, size=round(seconds * 40))
    heard = shift_back(gaussian_filter1d(onsets, 2)[:, None], -shift).ravel()
    return [onsets], [heard + rng.normal(0, 2 * heard.std(), len(heard))]


def test_the_interval_holds_the_true_shift() -> None:
    estimates = [estimate_time_shift(*made_curves(seed, 2.3), frames_per_second=40.0) for seed in range(20)]
    assert sum(each.lowest_frames <= 2.3 <= each.highest_frames for each in estimates) >= 17
    assert all(each.highest_frames - each.lowest_frames < 2.5 for each in estimates)


def test_the_seed_decides_the_interval_and_not_the_estimate() -> None:
    curves = made_curves(0, 2.3)
    first, again, other = (estimate_time_shift(*curves, frames_per_second=40.0, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.frames == other.frames


def test_what_cannot_be_known_is_not_compensated() -> None:
    onsets, heard = made_curves(0, 5.0)
    assert estimate_time_shift(onsets, heard, 40.0).compensation_frames(40.0) == pytest.approx(5, abs=0.5)
    unrelated = estimate_time_shift(onsets, made_curves(1, 5.0)[1], 40.0)
    assert unrelated.compensation_frames(40.0) == 0, "of another recording"
    short = estimate_time_shift(*made_curves(0, 5.0, seconds=60), 40.0)
    assert short.frames == pytest.approx(5, abs=0.5)
    assert short.compensation_frames(40.0) == 0, "six pieces are too few for an interval"
    assert math.isnan(short.certain_frames)
    for side in (-1, 1):
        beyond = estimate_time_shift(*made_curves(0, side * 23.0), 40.0)
        assert beyond.frames == side * 20, "half a second, as far as it looks"
        assert beyond.compensation_frames(40.0) == 0, "how far it is, is not known"
        assert beyond.certain_frames == side * 20, "that it is shifted, and to which side, is"
        assert (beyond.highest_frames if side > 0 else -beyond.lowest_frames) == math.inf
        assert json.loads(json.dumps(beyond.milliseconds(40.0)))["highest" if side > 0 else "lowest"] is None
    silent = estimate_time_shift(onsets, [np.zeros_like(heard[0])], 40.0)
    assert math.isnan(silent.frames)
    assert silent.compensation_frames(40.0) == 0
    assert silent.milliseconds(40.0) is None
    assert str(silent) == "not known, for nothing rises"
    assert str(TimeShift(19.0, 18.0, math.inf)) == "19.00 frames late (95 % interval 18.00 to inf)"
    assert str(TimeShift(-19.0, -math.inf, -18.0)) == "19.00 frames early (95 % interval -inf to -18.00)"
    assert str(TimeShift(3.0, -math.inf, math.inf)).startswith("not known, for there is too little music")


@pytest.mark.parametrize(
    ("shift", "moved"),
    [
        (TimeShift(0.9, 0.6, 1.2), 0.9),
        (TimeShift(-3.2, -4, -2), -3.2),
        (TimeShift(0.9, 0.4, 1.2), 0),
        (TimeShift(-0.4, -0.45, -0.35), 0),
        (TimeShift(-15.0, -20.0, -1.0), 0),
        (TimeShift(19.0, 18.0, math.inf), 0),
    ],
)
def test_compensation_asks_for_more_than_half_a_frame_and_less_than_a_tenth_of_a_second_of_doubt(shift: TimeShift, moved: float) -> None:
    assert shift.compensation_frames(40.0) == moved
    assert json.loads(json.dumps(shift.milliseconds(40.0)))["estimate"] == pytest.approx(25 * shift.frames)


def test_what_is_trusted_is_a_time_unless_a_frame_is_longer() -> None:
    """12 ms are 1.2 frames of 10 ms; of 40 ms half a frame counts. The same seconds are believed at any rate."""
    assert [TimeShift(2.0, lowest, 3.0).compensation_frames(100.0) for lowest in (1.1, 1.3)] == [0, 2.0]
    assert [TimeShift(0.9, lowest, 1.2).compensation_frames(25.0) for lowest in (0.45, 0.55)] == [0, 0.9]
    assert [TimeShift(20.0, 15.0, highest).compensation_frames(100.0) for highest in (24.0, 26.0)] == [20.0, 0]
    with pytest.raises(InputError, match=r"frames_per_second: 0.*Remedy"):
        TimeShift(2.0, 1.0, 3.0).compensation_frames(0)


def test_a_side_is_certain_if_the_whole_interval_is_on_it() -> None:
    assert TimeShift(5.0, 0.1, 9.0).certain_frames == 5.0
    assert TimeShift(-5.0, -9.0, -0.1).certain_frames == -5.0
    assert TimeShift(1.0, -2.0, 2.9).certain_frames == 0, "it is small, on whatever side"
    assert math.isnan(TimeShift(1.0, -2.0, 4.0).certain_frames), "it may break the limit, or not"
    assert math.isnan(TimeShift(0.0, -20.0, 20.0).certain_frames)
    assert math.isnan(TimeShift(-9.0, -20.0, 2.0).certain_frames)
    assert math.isnan(TimeShift(5.0, -math.inf, 22.0).certain_frames), "nor that it is small"
    assert math.isnan(TimeShift(math.nan, math.nan, math.nan).certain_frames)


def test_an_onset_is_strongest_where_it_sounds_at_any_level() -> None:
    time = np.arange(3 * 22050) / 22050
    onset_frame = 52
    tone = np.where(time >= onset_frame / RATE, sum(np.sin(2 * np.pi * 220 * k * time) for k in range(1, 6)), 0.0)
    magnitudes = hcqt((0.1 * tone).astype(np.float32), SETTINGS)
    strength = onset_strength(magnitudes, SETTINGS)
    assert strength.argmax() + 0.5 == pytest.approx(onset_frame, abs=1)
    np.testing.assert_allclose(onset_strength(0.001 * magnitudes, SETTINGS), strength, rtol=1e-4, atol=1e-4)


def test_settings_without_high_bands_use_their_highest_octave() -> None:
    low = HcqtSettings(harmonics=(1,), octaves=2)
    magnitudes = np.zeros((10, 1, 72))
    magnitudes[5:, 0, 60] = 1.0
    assert onset_strength(magnitudes, low).argmax() == 4


@pytest.mark.usefixtures("without_shape_types")
def test_what_cannot_be_used_is_refused() -> None:
    curve = np.ones(100)
    for call in (
        lambda: estimate_time_shift([], [], 40.0),
        lambda: estimate_time_shift([curve], [curve, curve], 40.0),
        lambda: estimate_time_shift([curve], [curve[:-1]], 40.0),
        lambda: estimate_time_shift([curve], [curve], 0.0),
        lambda: estimate_time_shift([curve], [curve], math.nan),
        lambda: estimate_time_shift([curve], [curve], 40.0, seed=-1),
        lambda: estimate_time_shift([np.full(100, np.nan)], [curve], 40.0),
        lambda: estimate_time_shift([curve], [np.full(100, np.inf)], 40.0),
        lambda: estimate_time_shift([np.ones((100, 2))], [curve], 40.0),
        lambda: TimeShift(1.0, 0.0, 2.0).milliseconds(0.0),
        lambda: rises(np.zeros((0, 12))),
        lambda: rises(np.zeros(12)),
        lambda: rises(np.full((3, 12), np.nan)),
        lambda: onset_strength(np.zeros((5, 3, 215)), SETTINGS),
        lambda: onset_strength(np.zeros((0, 3, 216)), SETTINGS),
        lambda: onset_strength(np.full((5, 3, 216), np.inf), SETTINGS),
    ):
        with pytest.raises(InputError, match="Remedy"):
            call()
