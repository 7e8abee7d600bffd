"""Is soft-DTW right on this machine's GPU? The checks of `check_gpu.py` that have nothing to do with time.

Every check returns how many cases it looked at, its largest error, and its faults in words: none if all is right. The truth is the float64
reference or, where that takes too long or knows too little, the float64 kernel of the CPU, which the project's tests hold to the reference.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from softscribe.alignment import (
    TWO_ONE_STEPS,
    BoundaryCell,
    BoundaryCells,
    Step,
    StepWeights,
    Subsequence,
    align,
    ctc_loss,
    multi_label_ctc_loss,
    soft_dtw,
)
from softscribe.alignment.reference import reference_soft_dtw

LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}
"""The largest error of a gradient, and of anything else divided by 1 + its size."""

SHAPES = [(1, 1, 1), (2, 1, 70), (2, 70, 1), (3, 33, 65), (4, 300, 257), (2, 700, 300)]
LARGE_SHAPE = (2, 2100, 1100)  # several tiles and several phases of the fast kernels
COMMON_SHAPE = (2, 280, 270)  # more frames on an anti-diagonal than a block of the common kernels has threads
GAMMAS = [0.01, 0.1, 1.0, 10.0, 100.0]
WEIGHTS = [(1.0, 1.0, 1.0), (1.0, 1.0, 2.0), (0.1, 1.0, 1.0), (0.0, 1.0, 1.0)]
WEIGHTS += [(math.inf, 1.0, 2.0), (1.0, math.inf, 1.0), (1.0, 1.0, math.inf)]  # a step is blocked
MOST_CELLS_OF_ALL_WEIGHTS = 10_000  # the reference is slow
ONE_ONE_TWO = StepWeights(diagonal=2)
_per_cell = torch.rand(COMMON_SHAPE, generator=torch.Generator().manual_seed(0)) + 0.5
_varied = torch.linspace(0.5, 2.0, COMMON_SHAPE[2])
COMMON_OPTIONS: dict[str, dict[str, Any]] = {  # of the common kernels
    "hard": {"operator": "hard"},
    "sparse": {"operator": "sparse"},
    "smooth": {"operator": "smooth"},
    "2-1 steps": {"steps": TWO_ONE_STEPS},
    "tensors by target": {"steps": (Step(1, 0, weight=_varied), Step(0, 1, cost=-_varied), Step(1, 1, weight=2.0))},
    "tensors by cell": {"steps": (Step(1, 0, weight=_per_cell), Step(0, 1), Step(1, 1, cost=0.5))},
    "subsequence": {"boundaries": Subsequence(frames="both")},
    "boundary cells": {
        "boundaries": BoundaryCells(
            start=(BoundaryCell(0, 0, weight=1.0), BoundaryCell(5, 0, weight=0.5, cost=0.2)),
            end=(BoundaryCell(-1, -1, weight=0.0), BoundaryCell(-4, -1, weight=1.5, cost=-0.3)),
        )
    },
}


@dataclass
class Tally:
    """What a check has found.

    >>> tally = Tally()
    >>> tally.compare("case 1", torch.tensor([1.0]), torch.tensor([1.5]), limit=0.1)
    >>> tally.expect("case 2", True)
    >>> tally.report()
    {'cases': 2, 'largest error': 0.5, 'where': 'case 1', 'faults': ['case 1: an error of 0.5']}
    """

    cases: int = 0
    largest_error: float = 0.0
    where: str = ""
    faults: list[str] = field(default_factory=list)

    def compare(self, case: str, ours: Tensor, truth: Tensor, *, limit: float) -> None:
        """Count a case, and a fault if something is further away than that, or infinite or NaN where the other is not."""
        self.cases += 1
        ours, truth = ours.detach().cpu().double(), truth.detach().cpu().double()
        known = truth.isfinite()
        if not torch.equal(ours.isnan(), truth.isnan()) or not torch.equal(ours.isfinite(), known):
            self.faults.append(f"{case}: finite where it should not be, or the other way round")
            return
        error = float((ours - truth)[known].abs().max()) if known.any() else 0.0
        if error > self.largest_error:
            self.largest_error, self.where = error, case
        if error > limit:
            self.faults.append(f"{case}: an error of {error:.3g}")

    def compare_numbers(self, case: str, ours: Tensor, truth: Tensor, *, limit: float) -> None:
        """Compare numbers of any size: relative to 1 + their size."""
        scale = 1 + truth.detach().cpu().double().nan_to_num(0.0, 0.0, 0.0).abs()
        self.compare(case, ours.detach().cpu().double() / scale, truth.detach().cpu().double() / scale, limit=limit)

    def expect(self, case: str, holds: bool) -> None:
        """Count a case, and a fault if it does not hold."""
        self.cases += 1
        if not holds:
            self.faults.append(case)

    def report(self) -> dict[str, Any]:
        return {"cases": self.cases, "largest error": self.largest_error, "where": self.where, "faults": self.faults}


def loss_and_gradient(cost: Tensor, *counts: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    cost = cost.detach().requires_grad_()
    losses = soft_dtw(cost, *counts, **options)
    (gradient,) = torch.autograd.grad(losses.sum(), cost)
    return losses.detach(), gradient


def random_batch(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return costs whose padding is NaN, and counts of which the first item's are full."""
    generator = torch.Generator().manual_seed(sum(shape))
    cost = torch.rand(shape, generator=generator) * 4 - 0.5
    frame_counts, target_counts = (torch.randint(math.ceil(size / 2), size + 1, shape[:1], generator=generator) for size in shape[1:])
    frame_counts[0], target_counts[0] = shape[1:]
    for item in range(shape[0]):
        cost[item, frame_counts[item] :] = math.nan
        cost[item, :, target_counts[item] :] = math.nan
    return cost, frame_counts, target_counts


def check_fast_kernels(device: str) -> Tally:
    """Compare losses and gradients with the reference."""
    tally = Tally()
    for shape in SHAPES:
        cost, *counts = random_batch(shape)
        for gamma in GAMMAS:
            for weights in WEIGHTS if math.prod(shape) <= MOST_CELLS_OF_ALL_WEIGHTS else WEIGHTS[:2]:
                named = StepWeights(**dict(zip(("horizontal", "vertical", "diagonal"), weights, strict=True)))
                exact_cost = cost.nan_to_num(0.0).double().requires_grad_()
                exact = reference_soft_dtw(exact_cost, *counts, gamma=gamma, weights=named)
                (exact_gradient,) = torch.autograd.grad(exact[exact.isfinite()].sum() + 0 * exact_cost.sum(), exact_cost)
                on_device = [part.to(device) for part in (cost, *counts)]
                losses, gradient = loss_and_gradient(*on_device, gamma=gamma, weights=named)
                case = f"{shape}, gamma {gamma}, weights {weights}"
                # A loss is gamma times a logarithm, whose rounding error grows with gamma.
                tally.compare_numbers(f"{case}, losses", losses / max(gamma, 1), exact / max(gamma, 1), limit=LIMITS[torch.float32])
                tally.compare(f"{case}, gradient", gradient, exact_gradient, limit=LIMITS[torch.float32])
    cost = torch.rand(2, 90, 70, device=device).half()
    tally.expect("float16 is not computed as float32", torch.equal(soft_dtw(cost), soft_dtw(cost.float())))
    return tally


def check_many_tiles(device: str) -> Tally:
    """Compare losses and gradients of large matrices with the CPU's float64 kernel."""
    tally = Tally()
    cost, *counts = random_batch(LARGE_SHAPE)
    for gamma in (0.01, 1.0, 100.0):
        for weights in (StepWeights(), ONE_ONE_TWO):
            options = {"gamma": gamma, "weights": weights}
            losses, gradient = loss_and_gradient(*(part.to(device) for part in (cost, *counts)), **options)
            exact, exact_gradient = loss_and_gradient(cost.double(), *counts, **options)
            tally.compare_numbers(f"gamma {gamma}, {weights}, losses", losses, exact, limit=LIMITS[torch.float32])
            tally.compare(f"gamma {gamma}, {weights}, gradient", gradient, exact_gradient, limit=LIMITS[torch.float32])
    return tally


def check_common_kernels(device: str) -> Tally:
    """Compare all that `align` returns, and losses and gradients of `soft_dtw`, with the CPU's float64 kernel."""
    tally = Tally()
    cost, *counts = random_batch(COMMON_SHAPE)
    for name, options in {"classical": {}, **COMMON_OPTIONS}.items():
        exact = align(cost.double(), *counts, **options)
        for dtype, limit in LIMITS.items():
            on_device = [part.to(device) for part in (cost.to(dtype), *counts)]
            result = align(*on_device, **options)
            for quantity, ours, truth in zip(exact._fields, result, exact, strict=True):
                compare = tally.compare if truth.ndim == 3 else tally.compare_numbers
                compare(f"align, {name}, {dtype}, {quantity}", ours, truth, limit=limit)
            losses, gradient = loss_and_gradient(*on_device, **options)
            tally.compare_numbers(f"soft_dtw, {name}, {dtype}, losses", losses, exact.losses, limit=limit)
            tally.compare(f"soft_dtw, {name}, {dtype}, gradient", gradient, exact.gradient, limit=limit)
    return tally


def check_ctc(device: str) -> Tally:
    """Compare CTC with torch's on the CPU in float64, at the logits, and multi-label CTC with ours there."""
    tally = Tally()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 60, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(1, 9, (3, 20), generator=generator)
    counts = torch.tensor([60, 50, 44]), torch.tensor([20, 12, 0])
    multi_hot = torch.nn.functional.one_hot(labels, 9).double()

    def ours(logits: Tensor, labels: Tensor, *counts: Tensor) -> Tensor:
        return ctc_loss(logits.log_softmax(2), labels, *counts)

    def torch_own(logits: Tensor, labels: Tensor, *counts: Tensor) -> Tensor:
        return torch.nn.functional.ctc_loss(logits.log_softmax(2).transpose(0, 1), labels, *counts, reduction="none")

    def multi_label(logits: Tensor, targets: Tensor, *counts: Tensor) -> Tensor:
        return multi_label_ctc_loss(logits, logits[:, :, 0], targets, *counts)

    def at_logits(loss: Callable[..., Tensor], device: str, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        leaf = logits.to(device).requires_grad_()
        losses = loss(leaf, *(argument.to(device) for argument in (*arguments, *counts)))
        return losses, torch.autograd.grad(losses.sum(), leaf)[0]

    for name, loss, truth, targets in (("ctc_loss", ours, torch_own, labels), ("multi-label", multi_label, multi_label, multi_hot)):
        parts = zip(("losses", "gradient"), at_logits(loss, device, targets), at_logits(truth, "cpu", targets), strict=True)
        for quantity, found, exact in parts:
            tally.compare_numbers(f"{name}, {quantity}", found, exact, limit=LIMITS[torch.float64])
    return tally


def check_bad_values(device: str) -> Tally:
    """Look whether `validate=True` refuses what is wrong, and the loss is no number without it."""
    tally = Tally()
    two_sizes = torch.tensor([9, 9]), torch.tensor([7, 7])
    problems = {"fast": {}, **{name: COMMON_OPTIONS[name] for name in ("hard", "sparse", "smooth", "subsequence")}}
    for name, options in problems.items():
        for wrong in ("nan", "no frame", "too many frames", "no target", "too many targets", "none"):
            cost, (frame_counts, target_counts) = torch.rand(2, 9, 7), (counts.clone() for counts in two_sizes)
            if wrong == "nan":
                cost[1, 4, 3] = math.nan
            elif wrong != "none":
                (frame_counts if "frame" in wrong else target_counts)[1] = 0 if "no " in wrong else 10
            arguments = [part.to(device) for part in (cost, frame_counts, target_counts)]
            for function in (soft_dtw, align):
                try:
                    function(*arguments, validate=True, **options)
                    refused = False
                except ValueError:
                    refused = True
                case = f"{name}, {function.__name__}, {wrong}: {'not ' if wrong != 'none' else ''}refused"
                tally.expect(case, refused == (wrong != "none"))
            if device != "cpu":  # where values are always looked at
                losses, _ = loss_and_gradient(*arguments, **options)
                tally.expect(f"{name}, {wrong}: wrong losses {losses.tolist()}", losses.isfinite().tolist() == [True, wrong == "none"])
    _check_bad_labels(tally, device)
    return tally


def _check_bad_labels(tally: Tally, device: str) -> None:
    """The same for CTC: without a look at them, labels that are no classes must neither be read by nor give a number."""
    log_probs = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2).to(device)
    for wrong in (None, 0, 5, -1, 2**40):
        labels = torch.tensor([[1, 2, 3], [1, 2, 3]], device=device)
        if wrong is not None:
            labels[1, 1] = wrong
        try:
            ctc_loss(log_probs, labels, validate=True)
            refused = False
        except ValueError:
            refused = True
        tally.expect(f"CTC, label {wrong}: {'not ' if wrong is not None else ''}refused", refused == (wrong is not None))
        if device != "cpu":
            losses = ctc_loss(log_probs, labels)
            tally.expect(f"CTC, label {wrong}: wrong losses {losses.tolist()}", losses.isfinite().tolist() == [True, wrong is None])
