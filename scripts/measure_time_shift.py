"""How near does the label-free time shift come to the labelled one, and what does compensation gain?

    python scripts/measure_time_shift.py STORE [--models FOLDER ...] [--themes FOLDER]

STORE is a prepared store whose recordings have a truth, such as store/demo-small. Prints the tables of docs/health.md. Activations are
made of the truth (blurred, noisy, smeared, delayed), or predicted by linear models that are trained here in a minute, on truth that is
delayed by a known amount, and by the given model folders. --themes names a folder with `hcqt` and `strong_targets_chroma` of the Musical
Theme Dataset: real recordings at 24.6 frames per second. Nothing is random but the noise, and that comes from a fixed seed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.linalg import solve
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from softscribe.corpora import PreparedRecording
from softscribe.corpora.opening import open_store
from softscribe.evaluation import frame_measures
from softscribe.health import TimeShift, estimate_time_shift, onset_strength, rises
from softscribe.models import load_model
from softscribe.scores import strong_targets
from softscribe.sound import HcqtSettings, compress
from softscribe.transcription import predict, shift_back

SPLITS = ("train", "validation", "test")
NOISE_SEED = 0
LINEAR_CONTEXT_FRAMES = 2
LINEAR_TRAINING_RECORDINGS = 12


def made_activations(rng: np.random.Generator) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Ways in which a network's activations differ from the truth. Shape: (N, K) to (N, K)"""
    return {
        "the truth": lambda truth: truth,
        "blurred, 2 frames": lambda truth: gaussian_filter1d(truth, 2, axis=0),
        "blurred, 6 frames": lambda truth: gaussian_filter1d(truth, 6, axis=0),
        "noisy, 0.15": lambda truth: np.clip(0.1 + 0.8 * truth + rng.normal(0, 0.15, truth.shape), 0, 1),
        "blurred, noisy": lambda truth: np.clip(gaussian_filter1d(truth, 3, axis=0) + rng.normal(0, 0.03, truth.shape), 0, 1),
        "attack smeared, 3.5 frames": lambda truth: lfilter([0.25], [1, -0.75], truth, axis=0),
        "ramp of 8 frames": lambda truth: lfilter(np.ones(8) / 8, 1, truth, axis=0),
        "2 of 5 notes missing, blurred": lambda truth: gaussian_filter1d(truth, 3, axis=0) * (rng.random(truth.shape[1]) < 0.6),
    }


def both(references: list[np.ndarray], truths: list[np.ndarray], activations: list[np.ndarray], rate: float) -> tuple[TimeShift, TimeShift]:
    """Return the label-free and the labelled shift."""
    rising = [rises(each) for each in activations]
    return estimate_time_shift(references, rising, rate), estimate_time_shift([rises(truth) for truth in truths], rising, rate)


def row(*words: str, found: tuple[TimeShift, TimeShift]) -> float:
    """Print a line of a table, and return by how much the label-free shift lies above the labelled one."""
    estimate, labelled = found
    difference = estimate.frames - labelled.frames
    interval = f"{estimate.lowest_frames:.2f} to {estimate.highest_frames:.2f}"
    print(f"| {' | '.join(words)} | {estimate.frames:.2f} | {interval} | {labelled.frames:.2f} | {difference:+.2f} |", flush=True)
    return difference


def header(*words: str) -> None:
    columns = [*words, "estimate", "interval", "labelled", "difference"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def truths_of(recordings: list[PreparedRecording], outputs: int) -> list[np.ndarray]:
    return [
        strong_targets(each.recording.truth, len(each.features), each.frames_per_second, outputs).astype(np.float32) for each in recordings
    ]


def with_neighbours(prepared: PreparedRecording) -> np.ndarray:
    """Features of each frame and its neighbours, and a constant. Shape: (N, inputs)"""
    values = compress(np.asarray(prepared.features)).reshape(len(prepared.features), -1)
    moves = range(-LINEAR_CONTEXT_FRAMES, LINEAR_CONTEXT_FRAMES + 1, LINEAR_CONTEXT_FRAMES)
    near = [values[np.clip(np.arange(len(values)) + move, 0, len(values) - 1)] for move in moves]
    return np.concatenate([*near, np.ones((len(values), 1), np.float32)], axis=1)


def linear_model(recordings: list[PreparedRecording], delays: tuple[int, ...]) -> np.ndarray:
    """Ridge regression of the truth, moved later by each delay in turn, on the features. Shape: (inputs, 12 x delays)"""
    inputs = np.concatenate([with_neighbours(each) for each in recordings])
    delayed = [np.concatenate([shift_back(truth, -delay) for delay in delays], axis=1) for truth in truths_of(recordings, 12)]
    gram = (inputs.T @ inputs).astype(np.float64) + 10 * np.eye(inputs.shape[1])
    return solve(gram, inputs.T @ np.concatenate(delayed), assume_a="pos")


def compensation(
    onsets: dict[str, list[np.ndarray]], truths: dict[str, list[np.ndarray]], predicted: dict[str, list[np.ndarray]], rate: float
) -> None:
    """Delay activations, estimate the shift on the validation split, and print the frame F-measure of the test split, moved back."""
    columns = ("delay, frames", "compensation, frames", "F as it is", "moved back, interpolated", "moved back by whole frames")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for delay in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, -2.5):
        delayed = {split: [shift_back(each, -delay) for each in predicted[split]] for split in ("validation", "test")}
        shift = estimate_time_shift(onsets["validation"], [rises(each) for each in delayed["validation"]], rate)
        found = shift.compensation_frames(rate)
        scores = [
            np.mean(
                [
                    frame_measures(shift_back(each, moved), truth > 0, 0.5)["frame_f_measure"]
                    for each, truth in zip(delayed["test"], truths["test"], strict=True)
                ]
            )
            for moved in (0.0, found, round(found))
        ]
        print(f"| {delay:g} | {found:.2f} | {' | '.join(f'{score:.3f}' for score in scores)} |", flush=True)


def themes(folder: Path) -> None:
    """Real recordings. The published truth rounds down, which is one frame earlier than ours."""
    settings = HcqtSettings(hop_length_samples=896)
    paths = sorted((folder / "hcqt").glob("*.npy"))
    truths = [np.load(folder / "strong_targets_chroma" / path.name).T for path in paths]
    onsets = [onset_strength(np.load(path).transpose(0, 2, 1), settings) for path in paths]
    header("real recordings")
    row(f"{len(paths)} themes, {sum(map(len, truths)) / settings.frames_per_second:.0f} s", found=both(onsets, truths, truths, 24.609))


def coverage(references: list[np.ndarray], activations: list[np.ndarray], rate: float) -> None:
    """How often does the interval from a few excerpts hold the estimate from all there is? The number counts, and not the length."""
    rng = np.random.default_rng(NOISE_SEED)
    rising = [rises(each) for each in activations]
    everything = estimate_time_shift(references, rising, rate).frames
    print("\n| excerpts | interval holds the estimate of everything | its width, frames, median | largest error of the estimate, frames |")
    print("|---|---|---|---|")
    for count, seconds in ((8, 2.0), (8, 10.0), (16, 5.0)):
        found = []
        for _ in range(200):
            chosen = rng.integers(len(references), size=count)
            starts = [rng.integers(len(references[each]) - round(seconds * rate)) for each in chosen]
            excerpts = [slice(start, start + round(seconds * rate)) for start in starts]
            pairs = [(references[each][part], rising[each][part]) for each, part in zip(chosen, excerpts, strict=True)]
            found.append(estimate_time_shift(*map(list, zip(*pairs, strict=True)), rate))
        held = np.mean([each.lowest_frames <= everything <= each.highest_frames for each in found])
        width = np.median([each.highest_frames - each.lowest_frames for each in found])
        worst = max(abs(each.frames - everything) for each in found)
        print(f"| {count} of {seconds:g} s | {held:.2f} | {width:.2f} | {worst:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--themes", type=Path)
    options = parser.parse_args()
    store = open_store(options.store)
    rate = store.settings.frames_per_second
    recordings = {split: [each for each in store.recordings() if each.recording.split == split] for split in SPLITS}
    onsets = {split: [onset_strength(each.features, store.settings) for each in own] for split, own in recordings.items()}
    truths = {outputs: {split: truths_of(own, outputs) for split, own in recordings.items()} for outputs in (12, 72)}

    differences = []
    header("activations", "outputs", "split")
    for name, make in made_activations(np.random.default_rng(NOISE_SEED)).items():
        for outputs in (12, 72):
            for split in SPLITS:
                made = [make(truth).astype(np.float32) for truth in truths[outputs][split]]
                differences.append(row(name, str(outputs), split, found=both(onsets[split], truths[outputs][split], made, rate)))
    print(f"\nlargest difference {np.abs(differences).max():.2f} frames, root mean square {np.sqrt(np.mean(np.square(differences))):.2f}\n")

    injected = np.arange(-10.0, 10.01, 0.5)
    for split in SPLITS:
        blurred = [gaussian_filter1d(truth, 2, axis=0) for truth in truths[12][split]]
        found = [estimate_time_shift(onsets[split], [rises(shift_back(each, -by)) for each in blurred], rate).frames for by in injected]
        slope, offset = np.polyfit(injected, found, 1)
        worst = np.abs(np.array(found) - slope * injected - offset).max()
        print(f"injected shifts, {split}: slope {slope:.4f}, offset {offset:+.2f}, largest residual {worst:.3f} frames")

    noisy = made_activations(np.random.default_rng(NOISE_SEED))["blurred, noisy"]
    coverage(onsets["train"], [noisy(truth).astype(np.float32) for truth in truths[12]["train"]], rate)

    header("linear model trained with a delay of", "split")
    delays = (-4, 0, 4)
    weights = linear_model(recordings["train"][:LINEAR_TRAINING_RECORDINGS], delays)
    predicted = {
        split: [np.clip(with_neighbours(each) @ weights, 0, 1).astype(np.float32) for each in recordings[split]]
        for split in ("validation", "test")
    }
    of_delay = {
        delay: {split: [each[:, 12 * number : 12 * number + 12] for each in own] for split, own in predicted.items()}
        for number, delay in enumerate(delays)
    }
    for delay, by_split in of_delay.items():
        for split, own in by_split.items():
            row(str(delay), split, found=both(onsets[split], truths[12][split], own, rate))
    compensation(onsets, truths[12], of_delay[0], rate)

    for number, folder in enumerate(options.models):
        model, card = load_model(folder)
        if number == 0:
            header("model", "split")
        for split in ("validation", "test"):
            activations = [predict(model, each.features) for each in recordings[split]]
            found = both(onsets[split], truths[card["outputs"]][split], activations, rate)
            row(str(card["data"].get("loss")), split, found=found)
    if options.themes:
        themes(options.themes)


if __name__ == "__main__":
    main()
