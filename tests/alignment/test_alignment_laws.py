"""What holds for every alignment problem, whatever its steps, boundaries and operator."""

import math

import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from drawn_problems import BOUNDARIES, STEP_SETS, DrawnProblem, fits, per_cell, problems, random_costs
from softscribe.alignment import Alignment, BoundaryCell, BoundaryCells, Step, Subsequence, align, expected_alignment, soft_dtw
from softscribe.alignment.reference import reference_align

OPERATORS = ("soft", "hard", "sparse", "smooth")
quick = settings(deadline=None, max_examples=50)
few = settings(deadline=None, max_examples=30)


def solved(problem: DrawnProblem) -> Alignment:
    """Align, and pass over what has no path."""
    try:
        return align(*problem.arguments, **problem.options)
    except ValueError as error:
        if "has no path" not in str(error):
            raise
        return reject()


def with_tensors(steps: tuple[Step, ...], change) -> tuple[Step, ...]:
    """Replace every weight and cost that is a tensor."""
    return tuple(
        Step(step.frames, step.targets, *(change(value) if isinstance(value, Tensor) else value for value in (step.weight, step.cost)))
        for step in steps
    )


def assert_same(one: Alignment, other: Alignment) -> None:
    """Bit for bit; the entropy of smooth is not a number."""
    for found, wanted in zip(one, other, strict=True):
        assert torch.equal(found.nan_to_num(-7.0), wanted.nan_to_num(-7.0))


@quick
@given(problems(most=9), st.sampled_from([torch.float32, torch.float64]))
def test_padding_and_batching_never_matter(problem, dtype):
    problem = problem._replace(cost=problem.cost.to(dtype))
    together = solved(problem)
    for item, (frames, targets) in enumerate(problem.sizes()):
        only = slice(item, item + 1), slice(frames), slice(targets)
        options = {**problem.options, "steps": with_tensors(problem.steps, lambda value: value.expand(problem.cost.shape)[only])}  # noqa: B023
        alone = align(problem.cost[only], **options)
        part = Alignment(*(value[only] if value.ndim == 3 else value[only[0]] for value in together))
        assert_same(alone, part)
        inside = torch.zeros_like(problem.cost[0], dtype=torch.bool)
        inside[:frames, :targets] = True
        assert (together.gradient[item][~inside] == 0).all()
        assert (together.expected_alignment[item][~inside] == 0).all()


@few
@given(problems(most=6))
def test_permuting_the_batch_permutes_the_result(problem):
    one = solved(problem)
    order = torch.arange(len(problem.cost)).flip(0)
    permuted = problem._replace(
        cost=problem.cost[order],
        frame_counts=problem.frame_counts[order],
        target_counts=problem.target_counts[order],
        steps=with_tensors(problem.steps, lambda value: value.expand(problem.cost.shape)[order]),
    )
    assert_same(solved(permuted), Alignment(*(value[order] for value in one)))


@few
@given(problems(most=6))
def test_the_parts_agree_with_the_whole(problem):
    whole = solved(problem)
    cost = problem.cost.clone().requires_grad_()
    losses = soft_dtw(cost, *problem.arguments[1:], **problem.options)
    shares = torch.linspace(-1, 2, len(losses), dtype=torch.float64)
    (losses * shares).sum().backward()
    torch.testing.assert_close(losses, whole.losses, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(cost.grad, shares[:, None, None] * whole.gradient, atol=1e-12, rtol=0)
    assert torch.equal(expected_alignment(*problem.arguments, **problem.options), whole.expected_alignment)
    with torch.no_grad():  # no gradient wanted: another way through the kernels
        torch.testing.assert_close(soft_dtw(*problem.arguments, **problem.options), whole.losses, atol=1e-12, rtol=1e-12)


@settings(deadline=None, max_examples=15)
@given(problems(most=11))
def test_the_reference_agrees(problem):
    found = solved(problem)
    cost = problem.cost.nan_to_num(0.0)
    wanted = reference_align(cost, *problem.arguments[1:], **problem.options)
    torch.testing.assert_close(found.losses, wanted.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.gradient, wanted.gradient, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.expected_alignment, wanted.expected_alignment, atol=1e-8, rtol=0)


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


def proportional_steps(name: str, per_frame: float, per_target: float, seed: int) -> tuple[Step, ...]:
    """Steps whose weight is what they advance; their added costs are any."""
    return tuple(
        Step(frames, targets, per_frame * frames + per_target * targets, per_cell((12, 1), -1, 1, seed + frames + 10 * targets))
        for frames, targets in STEP_SETS[name]
    )


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
    cost = random_costs(2, 12, 9, seed=seed)
    counts = torch.tensor([12, 7]), torch.tensor([9, 7])
    options = {"steps": proportional_steps(steps, *per, seed), "boundaries": BOUNDARIES[boundaries], "operator": operator, "gamma": 2.0}
    assume(fits(options["steps"], options["boundaries"]))
    one, other = (align(c, *counts, **options) for c in (cost, cost + constant))
    totals = 1 + per[0] * (counts[0].double() - 1) + per[1] * (counts[1].double() - 1)
    torch.testing.assert_close(one.gradient, other.gradient, atol=1e-8, rtol=0)
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


@quick
@given(problems(most=7, operators=("soft", "hard", "sparse")), st.integers(0, 99))
def test_a_dearer_cell_never_makes_the_loss_smaller(problem, seed):
    dearer = problem.cost + random_costs(*problem.cost.shape, seed=seed).clamp(min=0)
    assert (solved(problem._replace(cost=dearer)).losses - solved(problem).losses).min() >= -1e-9


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


@quick
@given(problems(most=7, operators=("soft", "sparse", "smooth")))
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
    one = solved(problem)
    other = align(
        problem.cost.mT, problem.target_counts, problem.frame_counts, **{**problem.options, "steps": steps, "boundaries": boundaries}
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


@quick
@given(problems(most=8, operators=("soft", "hard", "sparse")))
def test_what_is_covered(problem):
    """Fixed ends: no frame is missed if no step skips one; each is passed exactly once if every step advances by one."""
    problem = problem._replace(boundaries=BOUNDARIES["fixed"])
    found = solved(problem)
    open_steps = [step for step in problem.steps if not (isinstance(step.weight, float) and math.isinf(step.weight))]
    assert found.expected_alignment.min() >= 0
    assert found.expected_alignment.max() <= 1 + 1e-9
    assert (found.path_entropy >= 0).all()
    for item, (frames, targets) in enumerate(problem.sizes()):
        expected = found.expected_alignment[item, :frames, :targets]
        for axis, passed in (("frames", expected.sum(dim=1)), ("targets", expected.sum(dim=0))):
            advances = {getattr(step, axis) for step in open_steps}
            if max(advances) <= 1:
                assert passed.min() >= 1 - 1e-9
            if advances == {1}:
                torch.testing.assert_close(passed, torch.ones_like(passed))


@quick
@given(problems(most=8, operators=("soft",)))
def test_entropy_is_the_distance_of_loss_and_expected_path_cost(problem):
    found = solved(problem)
    torch.testing.assert_close(problem.gamma * found.path_entropy, found.expected_path_cost - found.losses, atol=1e-8, rtol=0)
