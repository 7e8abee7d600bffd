"""What does not matter to an alignment: padding, company in the batch, its order, and how much of the result is asked for.

Problems of all kinds are drawn, and classical ones beside them, whose losses and gradients in float32 come from kernels of their own.
"""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drawn_problems import DrawnProblem, classical_problems, problems, solved
from softscribe.alignment import Alignment, Step, expected_alignment, soft_dtw
from softscribe.alignment.reference import reference_align

few = settings(deadline=None, max_examples=30)
dtypes = st.sampled_from([torch.float32, torch.float64])


def losses_and_gradient(problem: DrawnProblem) -> tuple[Tensor, Tensor]:
    """What a training step computes, each item with a share of its own: of classical problems in float32 by the fast kernels."""
    cost = problem.cost.clone().requires_grad_()
    losses = soft_dtw(cost, *problem.arguments[1:], **problem.options)
    losses.square().sum().backward()
    return losses.detach(), cost.grad


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


@settings(deadline=None, max_examples=80)
@given(st.one_of(problems(most=9), classical_problems()), dtypes, st.sampled_from([0.0, -1e30, 1e30, math.inf, -math.inf, math.nan]))
def test_padding_and_batching_never_matter(problem, dtype, garbage):
    """Bit for bit, and the gradient of padding is 0."""
    problem = problem._replace(cost=problem.cost.to(dtype).where(~problem.cost.isnan(), garbage))
    together = solved(problem)
    of_training = losses_and_gradient(problem)
    for item, (frames, targets) in enumerate(problem.sizes()):
        only = slice(item, item + 1), slice(frames), slice(targets)
        alone = problem._replace(
            cost=problem.cost[only],
            frame_counts=problem.frame_counts[only[0]],
            target_counts=problem.target_counts[only[0]],
            steps=with_tensors(problem.steps, lambda value: value.expand(problem.cost.shape)[only]),  # noqa: B023
        )
        part = Alignment(*(value[only] if value.ndim == 3 else value[only[0]] for value in together))
        assert_same(solved(alone), part)
        for found, wanted in zip(losses_and_gradient(alone), (of_training[0][only[0]], of_training[1][only]), strict=True):
            assert torch.equal(found, wanted)
        inside = torch.zeros_like(problem.cost[0], dtype=torch.bool)
        inside[:frames, :targets] = True
        for matrix in (together.gradient, together.expected_alignment, of_training[1]):
            assert (matrix[item][~inside] == 0).all()


@few
@given(st.one_of(problems(most=6), classical_problems()), dtypes)
def test_permuting_the_batch_permutes_the_result(problem, dtype):
    problem = problem._replace(cost=problem.cost.to(dtype))
    one = solved(problem)
    order = torch.arange(len(problem.cost)).flip(0)
    permuted = problem._replace(
        cost=problem.cost[order],
        frame_counts=problem.frame_counts[order],
        target_counts=problem.target_counts[order],
        steps=with_tensors(problem.steps, lambda value: value.expand(problem.cost.shape)[order]),
    )
    assert_same(solved(permuted), Alignment(*(value[order] for value in one)))
    for found, wanted in zip(losses_and_gradient(permuted), losses_and_gradient(problem), strict=True):
        assert torch.equal(found, wanted[order])


@settings(deadline=None, max_examples=60)
@given(st.one_of(problems(most=6), classical_problems(most=9, scale=1.0, gammas=(0.4, 1.0, 5.0))), dtypes)
def test_the_parts_agree_with_the_whole(problem, dtype):
    """One kernel computes them to the last bit; the classical losses and gradients in float32 come from another than all else."""
    problem = problem._replace(cost=problem.cost.to(dtype))
    whole = solved(problem)
    other_kernel = problem.weights is not None and dtype == torch.float32
    tolerance = {"atol": 2e-6, "rtol": 1e-6} if other_kernel else {"atol": 0.0, "rtol": 0.0}
    cost = problem.cost.clone().requires_grad_()
    losses = soft_dtw(cost, *problem.arguments[1:], **problem.options)
    shares = torch.linspace(-1, 2, len(losses), dtype=dtype)
    (losses * shares).sum().backward()
    torch.testing.assert_close(losses, whole.losses, **tolerance)
    torch.testing.assert_close(cost.grad, shares[:, None, None] * whole.gradient, **tolerance)
    assert torch.equal(expected_alignment(*problem.arguments, **problem.options), whole.expected_alignment)
    with torch.no_grad():  # no gradient wanted: another way through the kernels
        torch.testing.assert_close(soft_dtw(*problem.arguments, **problem.options), whole.losses, **tolerance)
    if problem.weights is not None:
        products = (problem.cost.nan_to_num().double() * whole.gradient.double()).sum(dim=(1, 2))
        torch.testing.assert_close(whole.expected_path_cost.double(), products, atol=1e-5, rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(problems(most=11))
def test_the_reference_agrees(problem):
    found = solved(problem)
    cost = problem.cost.nan_to_num(0.0)
    wanted = reference_align(cost, *problem.arguments[1:], **problem.options)
    torch.testing.assert_close(found.losses, wanted.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.gradient, wanted.gradient, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.expected_alignment, wanted.expected_alignment, atol=1e-8, rtol=0)
