"""An alignment problem: everything but the costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from softscribe.alignment.boundaries import FIXED, Boundaries, Subsequence
from softscribe.alignment.operators import Operator, check_operator
from softscribe.alignment.steps import EQUAL_WEIGHTS, Step, StepWeights


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Which paths there are, what they cost besides C, and which minimum is taken over them: the options of `soft_dtw`.

    >>> Problem(weights=StepWeights(diagonal=2)).path_steps[2]
    Step(frames=1, targets=1, weight=2, cost=0.0)
    """

    gamma: int | float = 1.0
    weights: StepWeights = EQUAL_WEIGHTS
    steps: Sequence[Step] | None = None
    boundaries: Boundaries = FIXED
    operator: Operator = "soft"

    def __post_init__(self) -> None:
        check_operator(self.operator, self.gamma)
        if not isinstance(self.weights, StepWeights):
            raise ValueError(f"weights: {self.weights!r}. Remedy: StepWeights(horizontal=..., vertical=..., diagonal=...), or steps=(...).")
        if isinstance(self.boundaries, type) or not isinstance(self.boundaries, Boundaries):
            raise ValueError(f"boundaries: {self.boundaries!r}. Remedy: FIXED, Subsequence(...) or BoundaryCells(...).")
        if self.steps is None:
            return
        if not isinstance(self.steps, Sequence) or not self.steps or not all(isinstance(step, Step) for step in self.steps):
            raise ValueError(f"steps: {self.steps!r}. Remedy: a tuple of at least one Step(frames, targets, weight, cost).")
        object.__setattr__(self, "steps", tuple(self.steps))  # the caller's list may change
        if self.weights != EQUAL_WEIGHTS:
            raise ValueError("weights, steps: both are given. Remedy: steps alone; StepWeights is shorthand for three of them.")

    @property
    def path_steps(self) -> Sequence[Step]:
        """All steps."""
        return self.weights.steps() if self.steps is None else self.steps

    @property
    def is_classical(self) -> bool:
        """Whether the classical three steps, softmin and fixed ends are all there is, so that the fast kernels can take it."""
        return self.steps is None and self.operator == "soft" and self.boundaries == FIXED

    @property
    def always_has_path(self) -> bool:
        """Whether items of any size have a path, as is plain if steps to the next frame and to the next target are open everywhere."""
        open_everywhere = {(step.frames, step.targets) for step in self.path_steps if step.is_open_everywhere}
        return {(1, 0), (0, 1)} <= open_everywhere and (self.boundaries == FIXED or isinstance(self.boundaries, Subsequence))

    def depth(self, shape: Sequence[int]) -> int:
        """Return how many anti-diagonals the longest step reaches back that fits into a cost matrix (B, N, M), and one more.

        >>> Problem(steps=(Step(2, 1), Step(1, 0), Step(1, 900))).depth((1, 30, 20))
        4
        """
        _, frames, targets = shape
        fitting = [step.frames + step.targets for step in self.path_steps if step.frames < frames and step.targets < targets]
        return 1 + max(fitting, default=0)

    def on_cpu(self) -> "Problem":
        """Return the problem with steps whose tensors are on the CPU, where their values are looked at."""
        if self.steps is None:
            return self
        return replace(self, steps=tuple(step.on_cpu() for step in self.steps))
