"""The steps of an alignment path and what they cost."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class StepWeights:
    """Weights of the three classical steps: each multiplies the cost of the cell that the step arrives at.

    The weights are named because published code orders them in contradictory ways. Entering the start cell costs 1 x C whatever the
    weights.

    Args:
        horizontal: of the step to the next frame and the same target (the target is repeated); in [0, inf].
        vertical: of the step to the next target and the same frame; in [0, inf].
        diagonal: of the step to the next frame and the next target; in [0, inf].

    Infinity blocks a step: no path takes it, even where cells cost nothing or less. 0 makes a step free. Weights 1-1-2 favour no
    direction: then, and whenever diagonal = horizontal + vertical, a constant added to the cost matrix leaves the gradient as it is.
    Weights 1-1-1 favour the diagonal.

    Source: J. Zeitler, M. Krause, M. Mueller, "Soft dynamic time warping with variable step weights", ICASSP 2024.

    Raises:
        ValueError: a weight is negative or not a number.

    >>> StepWeights(diagonal=2)
    StepWeights(horizontal=1.0, vertical=1.0, diagonal=2)
    """

    horizontal: int | float = 1.0
    vertical: int | float = 1.0
    diagonal: int | float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
                raise ValueError(
                    f"{field.name}: the weight {weight!r} is not a number >= 0. Remedy: 0 or more, or math.inf to block the step."
                )

    def factors_and_costs(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Return what multiplies the arrival cell's cost and what is added to it, for horizontal, vertical and diagonal.

        A blocked step multiplies by 0 and adds infinity, so that no cost can open it and infinity never meets a zero.

        >>> StepWeights(vertical=math.inf, diagonal=2).factors_and_costs()
        ((1.0, 0.0, 2.0), (0.0, inf, 0.0))
        """
        weights = (self.horizontal, self.vertical, self.diagonal)
        horizontal, vertical, diagonal = (0.0 if math.isinf(weight) else float(weight) for weight in weights)
        horizontal_cost, vertical_cost, diagonal_cost = (math.inf if math.isinf(weight) else 0.0 for weight in weights)
        return (horizontal, vertical, diagonal), (horizontal_cost, vertical_cost, diagonal_cost)


EQUAL_WEIGHTS = StepWeights()
"""1-1-1: soft-DTW as first published."""
