"""Alarms: from health numbers to words, with evidence and a remedy.

A training loop of any kind measures now and then, and asks:

    monitor = HealthMonitor()
    ...
    numbers = health_numbers(cost, targets=targets, logits=logits, gamma=gamma, weights=weights, seed=step)
    for alarm in monitor.observe(numbers, progress=step / steps):
        print(alarm)

Take the temperature, weights and prior that training ends with, so that numbers can be compared over a whole run: the prior apart from the
cost, as `prior`, and none if it fades.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softscribe.health.activation_health import activation_health
from softscribe.health.alignment_health import alignment_health, counted, target_groups
from softscribe.health.diagonalization import diagonalization


@dataclass(frozen=True)
class Alarm:
    """What went wrong, how it shows, and what helps.

    >>> print(Alarm("collapse", "largest_target_share 0.93, healthy up to 0.50", "health=act"))
    collapse: largest_target_share 0.93, healthy up to 0.50. Remedy: health=act.
    """

    name: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. Remedy: {self.remedy}."


@dataclass(frozen=True)
class Limit:
    """The range in which a number is healthy, and from which progress of the training on that is asked for.

    >>> Limit("blur", "entry_spread_share", highest=0.3).broken_by(0.631)
    'entry_spread_share 0.63, healthy up to 0.30'
    """

    alarm: str
    number: str
    lowest: float = -math.inf
    highest: float = math.inf
    from_progress: float = 0.0

    def broken_by(self, value: float) -> str | None:
        """Return in words how a value leaves the range; None if it does not, or is NaN: not known."""
        for end, beyond in ((self.highest, value > self.highest), (self.lowest, value < self.lowest)):
            if beyond:
                return f"{self.number} {value:.2f}, {self.ends()[end]}"
        return None

    def ends(self) -> dict[float, str]:
        """Return where the range ends, each end in words.

        >>> Limit("shift", "time_shift_frames", lowest=-3.0, highest=3.0).ends()
        {3.0: 'healthy up to 3.00', -3.0: 'healthy from -3.00'}
        """
        words = {self.highest: "healthy up to", self.lowest: "healthy from"}
        return {end: f"{word} {end:.2f}" for end, word in words.items() if math.isfinite(end)}


LIMITS = (
    Limit("collapse", "largest_target_share", highest=0.5),
    Limit("collapse", "largest_frame_share", highest=0.5),
    Limit("collapse", "density_ratio", lowest=0.25, from_progress=0.1),
    Limit("collapse", "target_gini", highest=0.65, from_progress=0.3),
    Limit("diagonalization", "rewarp_following", highest=0.6, from_progress=0.25),
    Limit("diagonalization", "neutral_distance_ratio", lowest=0.35, from_progress=0.25),
    Limit("blur", "entry_spread_share", highest=0.3, from_progress=0.25),
    Limit("shift", "time_shift_frames", lowest=-3.0, highest=3.0, from_progress=0.25),
)
"""How they were set, and how often they are right, stands in docs/health_study.md."""

FEWEST_TARGETS = 4
"""Of two or three targets played unevenly, one often takes more than half of the frames with good reason."""
NUMBERS_OF_COLLAPSE = ("largest_target_share", "target_gini", "largest_frame_share")

REMEDIES = {
    "collapse": "stretched targets with loss=sdtw_annealed; with unique ones loss.horizontal=0.1 loss.diagonal=1; a higher gamma or prior "
    "at first",
    "diagonalization": "a diagonal prior that ends, or a lower one; step weights 1-1-2; more steps",
    "blur": "let gamma end lower, near 1 for the sum over 12 outputs",
    "shift": "time_shift=compensate takes back what is below half a second, after training; loss.time_symmetric=true, loss.energy and "
    "model=mcnn_short keep it small",
}

BEYOND_GOING_BACK = frozenset({"shift", "diagonalization", "blur"})
"""Alarms that earlier weights with a higher gamma and prior do not help: a shift comes again, and is taken back after training; towards a
diagonal and a blur they would pull even more."""


class HealthMonitor:
    """Turns health numbers into alarms: one when limits of it, the same or not, were broken `patience` times in a row, and another only
    after all of them were kept again.

    Args:
        limits: see `LIMITS`.
        patience: observations in a row, in each of which some limit of the alarm was broken.

    Attributes:
        healthy: whether the last observation kept all limits, those too that are not asked for yet, but for alarms of
            `BEYOND_GOING_BACK`, and knew at least one of these numbers: weights that one may go back to.
        judged: the alarms that might have sounded: of which a number was known, and asked for, in `patience` observations in a row.

    Raises:
        ValueError: the patience is below 1.

    >>> monitor = HealthMonitor(patience=2)
    >>> [len(monitor.observe({"largest_target_share": 0.9}, progress=progress)) for progress in (0.0, 0.1, 0.2)]
    [0, 1, 0]
    """

    def __init__(self, limits: tuple[Limit, ...] = LIMITS, patience: int = 2) -> None:
        if patience < 1:
            raise ValueError(f"patience: {patience}. Remedy: at least 1.")
        self.limits = limits
        self.patience = patience
        self.broken: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        self.healthy = False
        self.judged: set[str] = set()

    def never_judged(self) -> list[str]:
        """Return the alarms that could not have sounded, whatever the numbers: that they are silent says nothing.

        >>> monitor = HealthMonitor()
        >>> for progress in (0.2, 0.5, 1.0):
        ...     _ = monitor.observe({"largest_target_share": 0.2, "entry_spread_share": 0.1}, progress=progress)
        >>> monitor.never_judged()
        ['diagonalization', 'shift']
        """
        return sorted({limit.alarm for limit in self.limits} - self.judged)

    def observe(self, numbers: Mapping[str, float], *, progress: float) -> list[Alarm]:
        """Return the alarms that these numbers raise, when the share `progress` of the training is done.

        Numbers that are missing or NaN are not known, and keep every limit.

        Raises:
            ValueError: the progress is not in [0, 1], or one of the numbers is none.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress: {progress}. Remedy: the share of the training that is done, from 0 to 1.")
        given: Mapping[str, Any] = numbers
        for name, number in given.items():
            if not isinstance(number, Real):
                raise ValueError(f"numbers: {name} is {number!r}. Remedy: a number; NaN if it is not known.")
        evidence: dict[str, list[str]] = {}
        known = [limit for limit in self.limits if not math.isnan(numbers.get(limit.number, math.nan))]
        asked = {limit.alarm for limit in known if progress >= limit.from_progress}
        self.asked = {name: self.asked.get(name, 0) + 1 for name in asked}
        self.judged |= {name for name, observations in self.asked.items() if observations >= self.patience}
        self.healthy = any(limit.alarm not in BEYOND_GOING_BACK for limit in known)
        for limit in self.limits:
            words = limit.broken_by(numbers.get(limit.number, math.nan))
            self.healthy = self.healthy and (words is None or limit.alarm in BEYOND_GOING_BACK)
            if words and progress >= limit.from_progress:
                evidence.setdefault(limit.alarm, []).append(words)
        self.broken = {name: self.broken.get(name, 0) + 1 for name in evidence}
        return [
            Alarm(name, "; ".join(words), REMEDIES.get(name, "see docs/health.md"))
            for name, words in evidence.items()
            if self.broken[name] == self.patience
        ]

    def forget(self) -> None:
        """Begin anew: what comes next is judged as if no limit had been broken, so that what still fails sounds again."""
        self.broken, self.asked, self.healthy = {}, {}, False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, as plain values."""
        return {"broken": dict(self.broken), "asked": dict(self.asked), "healthy": self.healthy, "judged": sorted(self.judged)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state.

        Raises:
            ValueError: it is none.
        """
        counts = [state.get("broken"), state.get("asked")]
        counted = all(isinstance(each, Mapping) and all(type(count) is int and count >= 0 for count in each.values()) for each in counts)
        names = state.get("judged")
        if (
            not counted
            or type(state.get("healthy")) is not bool
            or not isinstance(names, list)
            or not all(type(name) is str for name in names)
        ):
            raise ValueError(f"state: {dict(state)}. Remedy: what state_dict() returned.")
        self.broken, self.asked, self.healthy, self.judged = dict(state["broken"]), dict(state["asked"]), state["healthy"], set(names)


def health_numbers(
    cost: Float[Tensor, "B N M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    targets: Shaped[Tensor, "B M K"],
    logits: Float[Tensor, "B N K"] | None = None,
    prior: Float[Tensor, "B N M"] | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Return all health numbers of a batch by name: means over its items, NaN where no item has one.

    Items of fewer than four targets are left out of the shares and the Gini coefficient: one target of one has all frames by nature.

    Args:
        cost: what frames cost with targets, without a prior.
        frame_counts, target_counts: as for `softscribe.alignment.soft_dtw`.
        targets: what the cost compares frames with.
        logits: the network's outputs before the sigmoid; without them the numbers of `ActivationHealth` are missing.
        prior: what the training adds to the cost for a cell's place alone, whatever the targets, and does not let fade.
        seed: decides the re-warping of `diagonalization`.
        options: `gamma`, `weights`, `steps`, `boundaries` and `operator` of the loss that is trained with (`softscribe.alignment.align`).

    Raises:
        ValueError: see `soft_dtw`; or targets, logits or the prior do not fit the cost, or the seed is no whole number from 0.

    >>> targets = torch.eye(3).repeat_interleave(4, dim=0)[None]
    >>> sorted(health_numbers(20 * (1 - targets @ targets.mT), targets=targets))[:2]
    ['entry_spread_frames', 'entry_spread_share']
    """
    if logits is not None and (not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != cost.shape[:2]):
        given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"logits: {given} for costs of {tuple(cost.shape)}. Remedy: (B, N, K), the outputs that the costs are of.")
    parts: list[Any] = [diagonalization(cost, frame_counts, target_counts, targets=targets, prior=prior, seed=seed, **options)]
    in_force = cost if prior is None else cost + prior.to(cost)
    aligned = alignment_health(in_force, frame_counts, target_counts, targets=targets, **options)
    groups = target_groups(*counted(cost, frame_counts, target_counts)[::2], targets)
    too_few = groups.amax(dim=1) + 1 < FEWEST_TARGETS
    parts.append(aligned._replace(**{name: getattr(aligned, name).masked_fill(too_few, torch.nan) for name in NUMBERS_OF_COLLAPSE}))
    if logits is not None:
        parts.append(activation_health(logits, targets, frame_counts, target_counts))
    return {name: float(torch.nanmean(values)) for part in parts for name, values in part._asdict().items()}
