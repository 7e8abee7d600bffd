"""Soft-DTW as a function that autograd goes through: each item's share, going back twice, and second derivatives, which are refused."""

from functools import partial

import pytest
import torch

from softscribe.alignment import Step, Subsequence, align, bce_cost, expected_alignment, soft_dtw


def random_cost(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_each_item_gets_its_own_share_of_the_gradient():
    cost = random_cost(3, 8, 5).requires_grad_()
    shares = torch.tensor([2.0, 0.0, -1.5])
    (soft_dtw(cost) * shares).sum().backward()
    torch.testing.assert_close(cost.grad, shares[:, None, None] * align(cost).gradient)


def test_values_without_gradient():
    cost = random_cost(2, 6, 6).requires_grad_()
    with torch.no_grad():
        assert torch.equal(soft_dtw(cost), soft_dtw(cost).detach())
    assert not expected_alignment(cost).requires_grad
    assert not any(part.requires_grad for part in align(cost))


def test_backward_may_be_called_again():
    """The first time gives its memory away, and may be changed by whoever has it; the second time is as good."""
    cost, shares = random_cost(2, 9, 5).requires_grad_(), torch.tensor([1.0, -3.0])
    losses = soft_dtw(cost)
    (first,) = torch.autograd.grad((losses * shares).sum(), cost, retain_graph=True)
    expected = first.clone()
    first.zero_()
    for _ in range(2):
        (again,) = torch.autograd.grad((losses * shares).sum(), cost, retain_graph=True)
        torch.testing.assert_close(again, expected, rtol=0, atol=0)
    (losses * shares).sum().backward(retain_graph=True)
    (losses * shares).sum().backward()
    torch.testing.assert_close(cost.grad, 2 * expected)


TOTALS = {"sum": lambda losses: losses.sum(), "squares": lambda losses: (losses**2).sum()}


def of_logits(logits: torch.Tensor) -> torch.Tensor:
    return soft_dtw(bce_cost(logits, random_cost(2, 5, 4, seed=1)))


OTHER_PROBLEMS = {
    "steps": {"steps": (Step(1, 0), Step(0, 1), Step(1, 1, 2.0, 0.5))},
    "boundaries": {"boundaries": Subsequence(frames="both")},
    **{operator: {"operator": operator} for operator in ("sparse", "smooth", "hard")},
}
LOSSES = {
    "classical": soft_dtw,
    "of logits": of_logits,
    **{name: partial(soft_dtw, **options) for name, options in OTHER_PROBLEMS.items()},
}


@pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS)
@pytest.mark.parametrize("losses_of", LOSSES.values(), ids=LOSSES)
def test_a_second_derivative_is_refused_and_not_silently_wrong(losses_of, total):
    given = random_cost(2, 6, 4).requires_grad_()
    (alone,) = torch.autograd.grad(total(losses_of(given)), given)
    (gradient,) = torch.autograd.grad(total(losses_of(given)), given, create_graph=True)
    assert torch.equal(gradient, alone)
    for differentiate in (lambda loss: torch.autograd.grad(loss, given, retain_graph=True), lambda loss: loss.backward(retain_graph=True)):
        for loss in (gradient.sum(), (gradient**2).sum() + given.sum()):
            with pytest.raises(ValueError, match=r"second derivatives.*Remedy"):
                differentiate(loss)
    assert given.grad is None


def test_so_it_is_in_what_the_losses_are_multiplied_by():
    cost, factor = random_cost(2, 6, 4).requires_grad_(), torch.tensor(2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(factor * soft_dtw(cost).sum(), cost, create_graph=True)
    with pytest.raises(ValueError, match=r"second derivatives.*Remedy"):
        torch.autograd.grad(gradient.sum() + factor**2, factor)


def test_backward_may_make_a_graph_that_nobody_differentiates():
    cost = random_cost(2, 6, 4).requires_grad_()
    loss = soft_dtw(cost).sum()
    (gradient,) = torch.autograd.grad(loss, cost, create_graph=True)
    (again,) = torch.autograd.grad(loss, cost)
    assert gradient.requires_grad
    torch.testing.assert_close(gradient.detach(), align(cost).gradient)
    torch.testing.assert_close(again, align(cost).gradient)
