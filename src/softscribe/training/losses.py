"""What training minimises: `sdtw` finds the time itself, `static` takes evenly timed targets as true, `strong` knows the truth."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softscribe.alignment import Alignment, StepWeights, align, bce_cost, gpu_is_usable, soft_dtw, time_symmetric_soft_dtw
from softscribe.alignment.time_symmetry import reversed_in_time
from softscribe.errors import InputError, concerning
from softscribe.health import health_numbers
from softscribe.sound import HcqtSettings
from softscribe.training.energy import check_energy_features, energy_loss
from softscribe.training.schedules import Schedule
from softscribe.training.segments import Batch

DIAGONAL_PRIOR_VARIANCE_FRAMES = 1000.0
"""The variance of the diagonal prior's Gaussian, in squared frames (Zeitler, Krause, Mueller, ISMIR 2023)."""

RELIEF_GAMMA_FACTOR, RELIEF_PRIOR = 10.0, 10.0
"""What a relief of 1 multiplies gamma by and adds to the diagonal prior."""


@runtime_checkable
class Loss(Protocol):
    """What the training module needs of a loss."""

    needs_truth: bool

    def __call__(self, logits: Tensor, batch: Batch, progress: float) -> Tensor:
        """Return the loss of a batch, a scalar, when the share `progress` of the training is done."""

    def validation_cost(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return a cost per item that does not change its meaning during training. Shape: (B,)"""

    def schedules(self) -> dict[str, Schedule]:
        """Return what changes during training, by name."""

    def in_force(self, progress: float) -> dict[str, float]:
        """Return the values of these that the loss uses when the share `progress` of the training is done."""


@runtime_checkable
class AligningLoss(Loss, Protocol):
    """What pictures, evaluation and the health check need besides, of a loss that aligns.

    Attributes:
        relief: in [0, 1], set by whoever watches over the training (`HealthCheck`): pulls the alignment away from a collapse.

    Both methods are called without gradients, with tensors on the CPU.
    """

    relief: float

    def final_alignment(self, cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> Tensor:
        """Return the probabilities of passing each cell, as training has them in the end. Shape: (B, N, M)"""

    def health(self, logits: Tensor, batch: Batch, seed: int) -> dict[str, float]:
        """Return numbers of a batch by name, which do not change their meaning during training; `HealthMonitor` judges those that
        `softscribe.health.LIMITS` name, NaN for one that is not known; all are logged."""


class SdtwLoss:
    """Soft-DTW between frames and score targets over the binary cross-entropy, per frame.

    Args:
        gamma: the softmin temperature; it refers to the cross-entropy SUMMED over the outputs.
        diagonal_prior: the weight of a cost that grows away from the evenly timed alignment (`diagonal_prior_cost`).
        horizontal, vertical, diagonal: the step weights (`softscribe.alignment.StepWeights`).
        energy: the weight of the auxiliary loss that ties predictions to the energy of their own input (`energy_loss`).
        time_symmetric: align forwards and backwards in time (`softscribe.alignment.time_symmetric_soft_dtw`).

    All but the last are numbers, or settings of a `Schedule`.

    Validation takes the expected path cost at the FINAL gamma and step weights, without prior and auxiliary loss, so that it can be
    compared over a whole run; the mean over the directions of time that training aligns in.

    Attributes:
        relief: see `AligningLoss`; raises gamma and prior above their schedules.
    """

    needs_truth = False
    relief = 0.0

    def __init__(
        self,
        gamma: float | Mapping[str, Any],
        diagonal_prior: float | Mapping[str, Any],
        horizontal: float | Mapping[str, Any] = 1.0,
        vertical: float | Mapping[str, Any] = 1.0,
        diagonal: float | Mapping[str, Any] = 2.0,
        energy: float | Mapping[str, Any] = 0.0,
        time_symmetric: bool = False,
    ) -> None:
        self.gamma, self.diagonal_prior, self.energy = (
            _schedule(name, value) for name, value in (("gamma", gamma), ("diagonal_prior", diagonal_prior), ("energy", energy))
        )
        self.step_weights = {
            name: _schedule(name, weight) for name, weight in (("horizontal", horizontal), ("vertical", vertical), ("diagonal", diagonal))
        }
        self.time_symmetric = time_symmetric
        if min(self.gamma.start, self.gamma.final) <= 0:
            raise InputError(f"loss.gamma: from {self.gamma.start} to {self.gamma.final}. Remedy: positive temperatures, such as 1.")
        for name, schedule in {"diagonal_prior": self.diagonal_prior, "energy": self.energy, **self.step_weights}.items():
            if min(schedule.start, schedule.final) < 0:
                raise InputError(f"loss.{name}: from {schedule.start} to {schedule.final}. Remedy: at least 0.")
        if not isinstance(time_symmetric, bool):
            raise InputError(f"loss.time_symmetric: {time_symmetric!r}. Remedy: true or false.")

    def __call__(self, logits: Float[Tensor, "B N K"], batch: Batch, progress: float) -> Float[Tensor, ""]:
        cost = bce_cost(logits, batch.targets)
        if (weight := self._prior_weight(progress)) > 0:
            cost = cost + weight * diagonal_prior_cost(batch.frame_counts, batch.target_counts, *cost.shape[1:])
        # Without kernels for its GPU an alignment runs on the CPU; autograd carries the gradient back to the logits' device.
        device = logits.device if logits.device.type == "cpu" or gpu_is_usable() else torch.device("cpu")
        cost, frame_counts, target_counts = (tensor.to(device) for tensor in (cost, batch.frame_counts, batch.target_counts))
        aligned = time_symmetric_soft_dtw if self.time_symmetric else soft_dtw
        losses = aligned(cost, frame_counts, target_counts, gamma=self._temperature(progress), weights=self.weights(progress))
        loss = (losses / frame_counts).mean().to(logits.device)
        if (energy := self.energy(progress)) > 0:
            loss = loss + energy * energy_loss(logits, batch.features, batch.frame_counts).mean()
        return loss

    def _temperature(self, progress: float) -> float:
        return self.gamma(progress) * RELIEF_GAMMA_FACTOR**self.relief

    def _prior_weight(self, progress: float) -> float:
        return self.diagonal_prior(progress) + RELIEF_PRIOR * self.relief

    def check_features(self, settings: HcqtSettings) -> None:
        """Refuse features that the auxiliary loss would read wrongly.

        Raises:
            InputError: it has a weight, and the features are not those that it knows.
        """
        if max(self.energy.start, self.energy.final) > 0:
            check_energy_features(settings)

    def weights(self, progress: float = 1.0) -> StepWeights:
        """Return the step weights when the share `progress` of the training is done; at its end by default."""
        return StepWeights(**{name: schedule(progress) for name, schedule in self.step_weights.items()})

    def final_alignment(
        self, cost: Float[Tensor, "B N M"], frame_counts: Int[Tensor, " B"], target_counts: Int[Tensor, " B"]
    ) -> Float[Tensor, "B N M"]:
        """Return E as training has it in the end: at the final gamma and step weights, with a prior if one stays, and, if it aligns in both
        directions of time, their mean."""
        counts = frame_counts, target_counts
        alignments = self._final_alignments(cost + self._final_prior(*counts, *cost.shape[1:]), *counts)
        if not self.time_symmetric:
            return alignments[0].expected_alignment
        forwards, backwards = (each.expected_alignment for each in alignments)
        return (forwards + reversed_in_time(backwards, *counts)) / 2

    def _final_alignments(self, cost: Tensor, frame_counts: Tensor, target_counts: Tensor) -> list[Alignment]:
        """Forwards, and backwards if training aligns in both directions of time."""
        costs = [cost, reversed_in_time(cost, frame_counts, target_counts)] if self.time_symmetric else [cost]
        return [align(each, frame_counts, target_counts, **self._final_options()) for each in costs]

    def _final_options(self) -> dict[str, Any]:
        """Return what training aligns with in the end, as options of `softscribe.alignment.align`."""
        return {"gamma": self.gamma.final, "weights": self.weights()}

    def _final_prior(
        self, frame_counts: Int[Tensor, " B"], target_counts: Int[Tensor, " B"], frames: int, targets: int
    ) -> Float[Tensor, "B N M"]:
        """Return what is added to the cost for a cell's place when training ends: 0 unless a prior stays."""
        return self.diagonal_prior.final * diagonal_prior_cost(frame_counts, target_counts, frames, targets)

    def validation_cost(self, logits: Float[Tensor, "B N K"], batch: Batch) -> Float[Tensor, " B"]:
        alignments = self._final_alignments(bce_cost(logits, batch.targets), batch.frame_counts, batch.target_counts)
        return torch.stack([each.expected_path_cost for each in alignments]).mean(dim=0) / batch.frame_counts

    def health(self, logits: Float[Tensor, "B N K"], batch: Batch, seed: int) -> dict[str, float]:
        """Return all of `health_numbers`, with what training aligns with in the end; the mean over the directions of time it aligns in."""
        counts = batch.frame_counts, batch.target_counts
        cost = bce_cost(logits, batch.targets)
        options: dict[str, Any] = {"seed": seed, **self._final_options()}
        prior = self._final_prior(*counts, *cost.shape[1:])
        numbers = health_numbers(cost, *counts, targets=batch.targets, logits=logits, prior=prior, **options)
        if not self.time_symmetric:
            return numbers
        targets = reversed_in_time(batch.targets, counts[1], torch.ones_like(counts[1]))  # rows change places, and outputs do not
        cost, prior = (reversed_in_time(matrix, *counts) for matrix in (cost, prior))
        backwards = health_numbers(cost, *counts, targets=targets, prior=prior, **options)
        # Re-warped at random, few repetitions may say nothing in one direction.
        return numbers | {name: float(torch.tensor([numbers[name], backwards[name]]).nanmean()) for name in backwards}

    def schedules(self) -> dict[str, Schedule]:
        others = {name: schedule for name, schedule in {"energy": self.energy, **self.step_weights}.items() if schedule.shape != "constant"}
        return {"gamma": self.gamma, "diagonal_prior": self.diagonal_prior, **others}

    def in_force(self, progress: float) -> dict[str, float]:
        values = {name: schedule(progress) for name, schedule in self.schedules().items()}
        return values | {"gamma": self._temperature(progress), "diagonal_prior": self._prior_weight(progress)}


def _schedule(name: str, value: float | Mapping[str, Any]) -> Schedule:
    with concerning(f"loss.{name}"):
        return Schedule.of(value)


class StrongLoss:
    """Binary cross-entropy against the frame-wise truth, summed over the outputs: the upper baseline, never weak training."""

    needs_truth = True

    def __call__(self, logits: Float[Tensor, "B N K"], batch: Batch, progress: float) -> Float[Tensor, ""]:
        return self.validation_cost(logits, batch).mean()

    def validation_cost(self, logits: Float[Tensor, "B N K"], batch: Batch) -> Float[Tensor, " B"]:
        if batch.truth is None:
            raise InputError("loss=strong: a segment has no truth. Remedy: give every recording a truth file, or use loss=sdtw_annealed.")
        return framewise_cost(logits, batch.truth, batch.frame_counts)

    def schedules(self) -> dict[str, Schedule]:
        return {}

    def in_force(self, progress: float) -> dict[str, float]:
        return {}


class StaticLoss:
    """Binary cross-entropy against targets spread over the frames in advance: the baseline that alignment has to beat.

    It needs one target per frame (targets=stretched or stretched_by_score).
    """

    needs_truth = False

    def __call__(self, logits: Float[Tensor, "B N K"], batch: Batch, progress: float) -> Float[Tensor, ""]:
        return self.validation_cost(logits, batch).mean()

    def validation_cost(self, logits: Float[Tensor, "B N K"], batch: Batch) -> Float[Tensor, " B"]:
        if not torch.equal(batch.frame_counts, batch.target_counts):
            raise InputError("loss=static needs one target per frame. Remedy: targets=stretched or targets=stretched_by_score.")
        return framewise_cost(logits, batch.targets, batch.frame_counts)

    def schedules(self) -> dict[str, Schedule]:
        return {}

    def in_force(self, progress: float) -> dict[str, float]:
        return {}


def aligning(loss: Loss) -> AligningLoss:
    """Return the loss itself if it aligns, else one to align the results of others with: 1-1-2 and gamma 1."""
    return loss if isinstance(loss, AligningLoss) else SdtwLoss(gamma=1.0, diagonal_prior=0.0)


LOSSES: dict[str, Callable[..., Loss]] = {"sdtw": SdtwLoss, "strong": StrongLoss, "static": StaticLoss}
"""Name -> class. A loss of your own, which has all that `Loss` asks for, joins by `LOSSES["mine"] = Mine`; one that has what `AligningLoss`
asks for, too, is watched, drawn and evaluated by its own alignment."""


def create_loss(settings: Mapping[str, Any]) -> Loss:
    """Build the loss that `settings` describe: its `name`, and the remaining settings as keyword arguments.

    Raises:
        InputError: the name is not in `LOSSES`, or a setting is not one of the loss's.
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in LOSSES:
        raise InputError(f"loss.name: {name!r} is not known. Remedy: one of {', '.join(sorted(LOSSES))}.")
    try:
        return LOSSES[name](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"loss: {error}. Remedy: give only settings that the loss {name!r} takes.") from error


def framewise_cost(logits: Float[Tensor, "B N K"], truth: Float[Tensor, "B N K"], frame_counts: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the mean over each item's frames of the binary cross-entropy summed over the outputs. Shape: (B,)"""
    cost = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none").sum(dim=2)
    frames = torch.arange(cost.shape[1], device=cost.device)
    return torch.where(frames < frame_counts[:, None], cost, 0.0).sum(dim=1) / frame_counts


def diagonal_prior_cost(
    frame_counts: Int[Tensor, " B"], target_counts: Int[Tensor, " B"], frames: int, targets: int
) -> Float[Tensor, "B N M"]:
    """Return a cost in [0, 1) that grows with a cell's distance from the evenly timed alignment.

    1 - exp(-d^2 / (2 variance)), where d counts the frames from frame n to those that an even distribution gives to target m (0 inside).
    Source: J. Zeitler, M. Krause, M. Mueller, "Stabilizing training with soft dynamic time warping", ISMIR 2023.

    >>> counts = torch.tensor([4])
    >>> (diagonal_prior_cost(counts, torch.tensor([2]), 4, 2) == 0).int()[0].T.tolist()
    [[1, 1, 0, 0], [0, 0, 1, 1]]
    """
    frame = torch.arange(frames, device=frame_counts.device)[None, :, None]
    target = torch.arange(targets, device=frame_counts.device)[None, None, :]
    share = (frame_counts / target_counts)[:, None, None]
    first, last = (target * share).ceil(), ((target + 1) * share).ceil() - 1
    distance = torch.maximum(first - frame, frame - last).clamp(min=0)
    return 1 - torch.exp(-(distance**2) / (2 * DIAGONAL_PRIOR_VARIANCE_FRAMES))
