"""What holds for every alignment problem, whatever its steps, boundaries and operator.

The classical problem is drawn beside all others, in wider ranges. For what holds of it alone see test_classical_case.py.
"""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from drawn_problems import BOUNDARIES, STEP_SETS, DrawnProblem, classical_problems, fits, per_cell, problems, random_costs, solved
from softscribe.alignment import BoundaryCell, BoundaryCells, Step, StepWeights, Subsequence, align

OPERATORS = ("soft", "hard", "sparse", "smooth")
quick = settings(deadline=None, max_examples=50)


@quick
@given(problems(operators=("soft",)), st.sampled_from([-0.7, 2.0]))
def test_a_constant_leaves_the_gradient_exactly_if_all_paths_weigh_the_same(problem, constant):
    problem = problem._replace(cost=0.3 * problem.cost, gamma=5.0)
    one = solved(problem)
    other = solved(problem._replace(cost=problem.cost + constant))
    for item in range(len(problem.cost)):
        totals = [sum(weight for _, weight, _ in path) for path in problem.graph(item).paths()]
        unmoved = (one.gradient[item] - other.gradient[item]).abs().max() < 1e-9
        assert unmoved == (max(totals) - min(totals) < 1e-6)
        if unmoved:
            assert (other.losses - one.losses)[item].item() == pytest.approx(constant * totals[0], abs=1e-9)


@pytest.mark.parametrize("weights", [StepWeights(), StepWeights(horizontal=0.1), StepWeights(diagonal=1.5)], ids=str)
def test_by_which_amount_a_constant_changes_the_gradient_of_other_weights(weights):
    cost = random_costs(1, 12, 9, seed=3, scale=1.0)
    difference = align(cost, weights=weights).gradient - align(cost + 2, weights=weights).gradient
    assert difference.abs().max() > 0.01


def proportional_steps(name: str, per_frame: float, per_target: float, seed: int) -> tuple[Step, ...]:
    """Steps whose weight is what they advance; their added costs are any."""
    return tuple(
        Step(frames, targets, per_frame * frames + per_target * targets, per_cell((SOME_SIZE, 1), -1, 1, seed + frames + 10 * targets))
        for frames, targets in STEP_SETS[name]
    )


SOME_SIZE = 12
TELESCOPING = ("fixed", *(name for name in BOUNDARIES if "compensated" in name))


@quick
@given(
    st.sampled_from(list(STEP_SETS)),
    st.sampled_from(TELESCOPING),
    st.sampled_from(OPERATORS),
    st.tuples(st.floats(0.25, 2), st.floats(0.25, 2)),
    st.floats(-20, 20),
    st.integers(0, 99),
)
def test_so_it_is_when_weights_are_proportional_to_what_steps_advance(steps, boundaries, operator, per, constant, seed):
    """weight = a frames + b targets, ends fixed or compensated: every path weighs 1 + a (N - 1) + b (M - 1), with every operator."""
    counts = torch.tensor([SOME_SIZE, 7]), torch.tensor([9, 7])
    cost = random_costs(2, SOME_SIZE, 9, seed=seed)
    steps = proportional_steps(steps, *per, seed)
    assume(fits(steps, BOUNDARIES[boundaries]))
    assert_constant_telescopes(DrawnProblem(cost, *counts, steps, BOUNDARIES[boundaries], operator, 2.0), per, constant, tolerance=1e-8)


@quick
@given(classical_problems(), st.tuples(st.floats(0, 3), st.floats(0, 3)), st.floats(-20, 20))
def test_so_it_is_in_the_classical_case_if_the_diagonal_weighs_as_much_as_both_others(problem, per, constant):
    weights = StepWeights(horizontal=per[0], vertical=per[1], diagonal=sum(per))
    assert_constant_telescopes(problem._replace(steps=weights.steps(), weights=weights), per, constant, tolerance=1e-9)


def assert_constant_telescopes(problem: DrawnProblem, per: tuple[float, float], constant: float, tolerance: float) -> None:
    """A constant leaves the gradient as it is, and the loss grows by the constant times what every path weighs."""
    one, other = solved(problem), solved(problem._replace(cost=problem.cost + constant))
    totals = 1 + per[0] * (problem.frame_counts.double() - 1) + per[1] * (problem.target_counts.double() - 1)
    torch.testing.assert_close(one.gradient, other.gradient, atol=tolerance, rtol=0)
    torch.testing.assert_close(one.gradient.sum(dim=(1, 2)), totals, atol=1e-8, rtol=0)
    torch.testing.assert_close(other.losses - one.losses, constant * totals, atol=1e-8, rtol=0)


@quick
@given(problems(most=6), st.floats(-2, 2), st.floats(-2, 2))
def test_costs_proportional_to_what_steps_advance_change_the_loss_alone(problem, per_frame, per_target):
    problem = problem._replace(boundaries=BOUNDARIES["fixed"])
    one = solved(problem)
    steps = tuple(Step(s.frames, s.targets, s.weight, s.cost + per_frame * s.frames + per_target * s.targets) for s in problem.steps)
    other = solved(problem._replace(steps=steps))
    added = per_frame * (problem.frame_counts.double() - 1) + per_target * (problem.target_counts.double() - 1)
    torch.testing.assert_close(other.losses - one.losses, added, atol=1e-9, rtol=0)
    if problem.operator != "hard":  # where paths tie, the last bit decides
        torch.testing.assert_close(one.gradient, other.gradient, atol=1e-8, rtol=0)


@settings(deadline=None, max_examples=80)
@given(
    st.one_of(problems(most=7, operators=("soft", "hard", "sparse")), classical_problems()), st.integers(0, 99), st.sampled_from([2.0, 5.0])
)
def test_a_dearer_cell_never_makes_the_loss_smaller(problem, seed, scale):
    dearer = problem._replace(cost=problem.cost + random_costs(*problem.cost.shape, seed=seed, scale=scale).clamp(min=0))
    assert (solved(dearer).losses - solved(problem).losses).min() >= -1e-9


@quick
@given(problems(most=7), st.sampled_from([0.25, 0.5, 3.0]))
def test_costs_and_gamma_scale_together(problem, factor):
    """Costs of the problem's own, too."""
    one = solved(problem)
    boundaries = problem.boundaries
    if isinstance(boundaries, BoundaryCells):
        sets = (
            tuple(BoundaryCell(c.frame, c.target, weight=c.weight, cost=factor * c.cost) for c in s)
            for s in (boundaries.start, boundaries.end)
        )
        boundaries = BoundaryCells(*sets)
    steps = tuple(Step(s.frames, s.targets, s.weight, factor * s.cost) for s in problem.steps)
    other = solved(problem._replace(cost=factor * problem.cost, steps=steps, boundaries=boundaries, gamma=factor * problem.gamma))
    torch.testing.assert_close(other.losses, factor * one.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(other.path_entropy, one.path_entropy, atol=1e-8, rtol=0, equal_nan=True)
    if problem.operator != "hard":
        torch.testing.assert_close(other.gradient, one.gradient, atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=80)
@given(st.one_of(problems(most=7, operators=("soft", "sparse", "smooth")), classical_problems()))
def test_swapping_frames_and_targets_swaps_everything(problem):
    """Up to the order in which steps and cells come, which matters to no operator but where hard finds a tie."""

    def swapped(value: float | Tensor) -> float | Tensor:
        return value.expand(problem.cost.shape).mT if isinstance(value, Tensor) else value

    boundaries = problem.boundaries
    if isinstance(boundaries, Subsequence):
        boundaries = Subsequence(frames=boundaries.targets, targets=boundaries.frames, compensated=boundaries.compensated)
    else:
        sets = (tuple(BoundaryCell(c.target, c.frame, weight=c.weight, cost=c.cost) for c in s) for s in (boundaries.start, boundaries.end))
        boundaries = BoundaryCells(*sets)
    steps = tuple(Step(s.targets, s.frames, swapped(s.weight), swapped(s.cost)) for s in problem.steps)
    weights = problem.weights and StepWeights(
        horizontal=problem.weights.vertical, vertical=problem.weights.horizontal, diagonal=problem.weights.diagonal
    )
    one = solved(problem)
    other = solved(
        DrawnProblem(
            problem.cost.mT,
            problem.target_counts,
            problem.frame_counts,
            steps,
            boundaries,
            problem.operator,
            problem.gamma,
            weights,
        )
    )
    torch.testing.assert_close(other.losses, one.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(other.gradient, one.gradient.mT, atol=1e-9, rtol=0)
    torch.testing.assert_close(other.expected_alignment, one.expected_alignment.mT, atol=1e-9, rtol=0)


REVERSED = {"start": "end", "end": "start", "both": "both", None: None}


@quick
@given(st.sampled_from(list(STEP_SETS)), st.sampled_from(list(BOUNDARIES)), st.integers(0, 99), st.sampled_from([0.1, 2.0]))
def test_with_unit_weights_time_has_no_direction(name, boundary, seed, gamma):
    """Softmin alone, since it does not care in which order it meets the paths; with other weights the cell of arrival is charged."""
    cost = random_costs(1, 9, 7, seed=seed)
    steps = tuple(Step(*advance, 1.0, 0.1 * advance[1]) for advance in STEP_SETS[name])
    forwards, backwards = BOUNDARIES[boundary], BOUNDARIES[boundary]
    assume(fits(steps, forwards))
    if isinstance(forwards, Subsequence):
        backwards = Subsequence(frames=REVERSED[forwards.frames], targets=REVERSED[forwards.targets], compensated=forwards.compensated)
    else:  # every path pays 1 x C at the first cell and nothing but a penalty at the last
        pairs = [(cell.frame % 9, cell.target % 7, cell.cost) for cell in (*forwards.start, *forwards.end)]
        first, last = pairs[: len(forwards.start)], pairs[len(forwards.start) :]

        def cells(places: list, weight: float, mirrored: bool) -> tuple[BoundaryCell, ...]:
            return tuple(BoundaryCell(8 - n if mirrored else n, 6 - m if mirrored else m, weight=weight, cost=c) for n, m, c in places)

        forwards = BoundaryCells(start=cells(first, 1, False), end=cells(last, 0, False))
        backwards = BoundaryCells(start=cells(last, 1, True), end=cells(first, 0, True))
    one = align(cost, steps=steps, boundaries=forwards, gamma=gamma)
    other = align(cost.flip(1, 2), steps=steps, boundaries=backwards, gamma=gamma)
    torch.testing.assert_close(other.losses, one.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(other.gradient.flip(1, 2), one.gradient, atol=1e-9, rtol=0)
    torch.testing.assert_close(other.expected_alignment.flip(1, 2), one.expected_alignment, atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=100)
@given(st.one_of(problems(most=8, operators=("soft", "hard", "sparse")), classical_problems()))
def test_what_is_covered(problem):
    """Fixed ends: both are passed, no frame is missed if no step skips one; each is passed once if every step advances by one."""
    problem = problem._replace(boundaries=BOUNDARIES["fixed"])
    found = solved(problem)
    open_steps = [step for step in problem.steps if not (isinstance(step.weight, float) and math.isinf(step.weight))]
    assert found.expected_alignment.min() >= 0
    assert found.expected_alignment.max() <= 1 + 1e-12
    assert (found.path_entropy >= 0).all()
    for item, (frames, targets) in enumerate(problem.sizes()):
        expected = found.expected_alignment[item, :frames, :targets]
        assert expected[0, 0] == pytest.approx(1)
        assert expected[-1, -1] == pytest.approx(1)
        for axis, passed in (("frames", expected.sum(dim=1)), ("targets", expected.sum(dim=0))):
            advances = {getattr(step, axis) for step in open_steps}
            if max(advances) <= 1:
                assert passed.min() >= 1 - 1e-12
            if advances == {1}:
                torch.testing.assert_close(passed, torch.ones_like(passed))


@quick
@given(problems(most=8, operators=("soft",)))
def test_entropy_is_the_distance_of_loss_and_expected_path_cost(problem):
    found = solved(problem)
    torch.testing.assert_close(problem.gamma * found.path_entropy, found.expected_path_cost - found.losses, atol=1e-8, rtol=0)
