"""The figures of docs/alignment.md that are experiments: what goes wrong, and what helps. Numbers that the page states are printed."""

import math
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from alignment_sheet import WEIGHTS, Scene, curves, draw, mark, scene, sheet
from softscribe.alignment import TWO_ONE_STEPS, Step, StepWeights, Subsequence, align, bce_cost, expected_alignment, soft_dtw
from softscribe.alignment.ctc_graph import ctc_graph
from softscribe.alignment.equivalent_targets import equivalent_targets
from softscribe.plots.canvas import INK, WRITTEN

STEPS = 121
"""Of each training."""


def ctc_blank() -> Figure:
    """Descent on the logits themselves, from equal ones: nothing but the loss decides."""

    def ctc(costs: Tensor) -> Tensor:
        graph = ctc_graph(costs[:, :, 1:], costs[:, :, 0], torch.zeros(1, 5, dtype=torch.bool))
        return soft_dtw(graph.cost, **graph.options)

    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "CTC": ctc,
        "soft-DTW of the labels": lambda costs: soft_dtw(costs[:, :, 1:], weights=StepWeights(vertical=math.inf)),
    }
    figure, panels = sheet(3)
    shares: dict[str, list[float]] = {name: [] for name in losses}
    for panel, (name, loss) in zip(panels[1:], losses.items(), strict=True):
        logits = torch.zeros(60, 6)
        for _ in range(400):
            shares[name].append(float(logits.softmax(1)[:, 0].mean()))
            logits.requires_grad_()
            logits = (logits - torch.autograd.grad(loss(-logits.log_softmax(1)[None]).sum(), logits)[0]).detach()
        draw(panel, logits.softmax(1), name, rows="")
        panel.set(yticks=range(6), yticklabels="-ABCDE")
        print(f"blank, {name}: after 0, 10, 399 steps", *(f"{shares[name][step]:.3f}" for step in (0, 10, 399)))
    curves(panels[0], "mean probability of the blank", "step", range(1, 401), shares)
    panels[0].set(xscale="log", ylim=(0, 1))
    return figure


def collapse() -> Figure:
    """Eight frames in which the network is certain of one wrong target."""
    figure, panels = sheet(4)
    for panel, count, name in zip(panels, (0, 8, 8, 8), ("1-1-1", *WEIGHTS), strict=True):
        played, corrupted = _corrupted(7, count, silent=False)
        draw(panel, expected_alignment(played.cost, weights=WEIGHTS[name])[0], f"{count} corrupted, {name}")
        panel.step(range(60), played.truth, where="mid", color=INK, linewidth=0.7)
        mark(panel, corrupted)
    for silent, count in ((False, 0), (False, 1), (False, 3), (False, 8), (True, 1), (True, 8)):
        for name, weights in {**WEIGHTS, "0-1-1": StepWeights(horizontal=0)}.items():
            rows = []
            for seed in range(20):
                played, corrupted = _corrupted(seed, count, silent)
                result = align(played.cost, weights=weights)
                E, H = result.expected_alignment[0], result.gradient[0]
                right = (E[torch.arange(60), played.truth] / E.sum(1)).mean()
                rows.append(torch.stack([right, E.sum(0).max(), H[corrupted].sum() / max(count, 1)]))
            numbers = "right {:.2f}, longest {:.1f}, H {:.2f}".format(*torch.stack(rows).mean(0).tolist())
            print(f"collapse, {count} frames hear {'silence' if silent else 'one wrong target'}, {name}: {numbers}")
    return figure


def _corrupted(seed: int, count: int, silent: bool) -> tuple[Scene, Tensor]:
    played = scene(seed=seed)
    corrupted = torch.randperm(60, generator=played.generator)[:count]
    played.logits[corrupted] = torch.full((12,), -10.0) if silent else 8 * (2 * played.chords[5] - 1)
    return played, corrupted


def training() -> Figure:
    """A linear model learns 16 scenes from noisy features: only the loss differs."""
    figure, (left, right) = sheet(2, 2.2)
    for certainty in (1.5, 1.0, 0.5):
        scores, longest = {}, {}
        for name in (*WEIGHTS, "frame-wise truth"):
            scores[name], longest[name] = _learn(certainty, WEIGHTS.get(name))
        for name in WEIGHTS:
            scores[f"stretched {name}"], longest[f"stretched {name}"] = _learn(certainty, WEIGHTS[name], stretched=True)
        for name in scores:
            print(f"training, certainty {certainty}, {name}: F {scores[name][-1]:.2f}, longest {longest[name][-1]:.0f}")
    curves(left, "F-measure of frames", "step", range(STEPS), dict(list(scores.items())[:4]), "upper left")
    curves(right, "frames (of 60) on the target that has most", "step", range(STEPS), dict(list(longest.items())[:3]), None)
    left.set(ylim=(0, 0.85))
    right.set(ylim=(0, 60))
    return figure


def _learn(certainty: float, weights: StepWeights | None, stretched: bool = False) -> tuple[list[float], list[float]]:
    """F-measure before every step, and the expected frames on the target that has most. Without weights: from the truth."""
    scenes = [scene(certainty=certainty, seed=seed) for seed in range(16)]
    features, targets = torch.stack([item.logits for item in scenes]), torch.stack([item.chords for item in scenes])
    truth = torch.stack([item.chords[item.truth] for item in scenes])
    if stretched:
        targets = targets[:, torch.arange(60) * 12 // 60]
    torch.manual_seed(0)
    model = torch.nn.Linear(12, 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scores, longest = [], []
    for _ in range(STEPS):
        logits = model(features)
        hits = ((logits > 0) & (truth > 0)).sum()
        scores.append(float(2 * hits / ((logits > 0).sum() + truth.sum())))
        if weights is None:
            longest.append(math.nan)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        else:
            cost = bce_cost(logits, targets)
            longest.append(float(expected_alignment(cost, weights=weights).sum(1).amax(1).mean()))
            loss = soft_dtw(cost, weights=weights).mean() / 60
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return scores, longest


def diagonalization() -> Figure:
    figure, panels = sheet(4, 2.2)
    played = scene(certainty=0.3, seed=4)
    stretched = bce_cost(played.logits[None], played.chords[None, torch.arange(60) * 12 // 60])
    distances = (torch.arange(60)[:, None] - torch.arange(60)) ** 2
    for column, name in enumerate(("1-1-1", "1-1-2")):
        E = expected_alignment(torch.full((1, 60, 60), 12 * math.log(2)), weights=WEIGHTS[name])[0]
        draw(panels[column], E, f"logits 0, {name}")
        draw(panels[column + 2], expected_alignment(stretched, weights=WEIGHTS[name])[0], f"weak logits, {name}")
        panels[column + 2].step(range(60), 5 * played.truth + 2, where="mid", color=WRITTEN, linewidth=0.8)
        print(f"diagonalization, logits 0, {name}: distance from the diagonal {float((E * distances).sum() / E.sum()) ** 0.5:.1f} frames")
    return figure


def blurring() -> Figure:
    played = scene(certainty=2.0, seed=5)
    figure, panels = sheet(4, 1.8)
    for panel, gamma in zip(panels, (0.1, 1, 10, 100), strict=True):
        H = align(played.cost, gamma=gamma, weights=WEIGHTS["1-1-2"]).gradient
        equivalent = equivalent_targets(H, played.chords[None]).targets[0]
        draw(panel, equivalent, rf"$\gamma$ = {gamma:g}", WRITTEN, rows="pitch class")
        undecided = float(((equivalent > 0.05) & (equivalent < 0.95)).float().mean())
        print(f"blurring, gamma {gamma:g}: {undecided:.0%} of the equivalent targets between .05 and .95")
    return figure


def lag() -> Figure:
    """Two targets; the evidence changes from one to the other in the middle, in the same way seen from either end."""
    frames = torch.arange(61, dtype=torch.float64) - 30
    evidence = 6 * torch.tanh(frames / 3)
    cost = torch.stack([torch.nn.functional.softplus(evidence), torch.nn.functional.softplus(-evidence)], dim=1)[None]

    def late(gamma: float, weights: StepWeights) -> float:
        first, second = expected_alignment(cost, gamma=gamma, weights=weights)[0].sum(0).tolist()
        return (first - second) / 2

    figure, (left, right) = sheet(2, 2.1)
    horizontal = [step / 50 for step in range(1, 51)]
    lates = {f"$\\gamma$ = {gamma:g}": [late(gamma, StepWeights(horizontal=weight)) for weight in horizontal] for gamma in (3.0, 1.0, 0.1)}
    curves(left, "weights x-1-1: frames too late", "horizontal weight x", horizontal, lates)
    forwards, backwards = (expected_alignment(matrix, weights=WEIGHTS[".1-1-1"])[0] for matrix in (cost, cost.flip(1, 2)))
    ways = {"charged on arrival": forwards[:, 1], "the reversed problem": backwards.flip(0, 1)[:, 1]}
    curves(
        right, ".1-1-1: E of the second target", "frame, counted from the change", frames, {**ways, "their mean": sum(ways.values()) / 2}
    )
    right.set(xlim=(-12, 12))
    for weights in ((1, 1, 1), (1, 1, 2), (0.5, 1, 1), (0.1, 1, 1), (0, 1, 1)):
        values = (
            late(gamma, StepWeights(**dict(zip(("horizontal", "vertical", "diagonal"), weights, strict=True)))) for gamma in (0.1, 1, 3)
        )
        print(f"lag, {weights}, gamma .1, 1, 3:", *(f"{value:.2f}" for value in values))
    return figure


def subsequence() -> Figure:
    """Five of the chords are to be found among twelve."""
    figure, panels = sheet(3, 1.8)
    ends = {
        "fixed": {},
        "uncompensated": {"boundaries": Subsequence(frames="both", compensated=False)},
        "compensated": {"boundaries": Subsequence(frames="both")},
    }
    for certainty in (2.0, 0.7):
        played = scene(certainty=certainty, seed=2)
        begin, end = int((played.truth < 3).sum()), int((played.truth < 8).sum())
        for panel, (name, options) in zip(panels, ends.items(), strict=True):
            E = expected_alignment(bce_cost(played.logits[None], played.chords[None, 3:8]), weights=WEIGHTS["1-1-2"], **options)[0]
            print(f"subsequence, {name}, certainty {certainty}: passes {float(E.sum(1).clamp(max=1).sum()):.1f} frames; true {end - begin}")
            if certainty == 0.7:
                draw(panel, E, name)
                panel.vlines([begin - 0.5, end - 0.5], -0.5, 4.5, color=WRITTEN, linewidth=0.9)
    return figure


def steps() -> Figure:
    figure, panels = sheet(4)
    flat = expected_alignment(torch.zeros(1, 30, 20), steps=TWO_ONE_STEPS)[0]
    draw(panels[0], flat > 0, "2-1 steps: reachable", largest=1.6)
    draw(panels[1], flat, "2-1 steps: mean of all paths", largest=0.5)
    played = scene(frames=30, targets=8, certainty=2.0, seed=6)
    corrupted = torch.tensor([8, 15, 22])
    played.logits[corrupted] *= -2
    for panel, name, more in zip(
        panels[2:], ("three steps", "and skipping"), ((), (Step(2, 0, cost=8.0), Step(2, 1, cost=8.0))), strict=True
    ):
        E = expected_alignment(played.cost, steps=(*StepWeights().steps(), *more))[0]
        draw(panel, E, name)
        mark(panel, corrupted)
        print(f"steps, {name}: passes corrupted frames with probability", *(f"{value:.2f}" for value in E.sum(1)[corrupted].tolist()))
    return figure


def negative() -> Figure:
    cost = scene(certainty=2.0, seed=5).cost.double()
    gammas = torch.logspace(-1, 2.5, 71).tolist()
    results = [align(cost, gamma=gamma) for gamma in gammas]
    figure, (panel,) = sheet(1, 2.2, width=5.2)
    paid, entropies = ([float(getattr(result, name)) for result in results] for name in ("expected_path_cost", "path_entropy"))
    priced = [gamma * entropy for gamma, entropy in zip(gammas, entropies, strict=True)]
    curves(
        panel,
        "",
        r"$\gamma$",
        gammas,
        {"loss": [float(result.losses) for result in results], "expected path cost": paid, r"$\gamma\times$ path entropy": priced},
    )
    panel.axhline(0, color=INK, linewidth=0.6)
    panel.set(ylim=(-600, 900), xscale="log")
    return figure


FIGURES = (ctc_blank, collapse, training, diagonalization, blurring, lag, subsequence, steps, negative)
