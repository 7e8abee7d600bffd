"""Types, layouts, the module, and names of weights."""

import math

import pytest
import torch

from softscribe.alignment import EQUAL_WEIGHTS, SoftDTW, Step, StepWeights, align, soft_dtw


def random_cost(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_types(dtype, autocast):
    cost = random_cost(2, 20, 6).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses = soft_dtw(cost, gamma=0.1)
        losses.sum().backward()
    inside = torch.float64 if dtype == torch.float64 else torch.float32
    assert losses.dtype == inside
    assert cost.grad.dtype == dtype
    widened = cost.detach().to(inside).requires_grad_()
    alone = soft_dtw(widened, gamma=0.1)
    alone.sum().backward()
    assert torch.equal(losses, alone)
    assert torch.equal(cost.grad, widened.grad.to(dtype))


def test_layout_of_the_memory_does_not_matter():
    cost = random_cost(6, 5, 4).transpose(0, 2)
    assert torch.equal(soft_dtw(cost), soft_dtw(cost.contiguous()))
    every_other = random_cost(4, 20, 10)[:, ::2, ::2]
    assert torch.equal(soft_dtw(every_other), soft_dtw(every_other.contiguous()))


def test_the_cost_is_left_as_it_was():
    cost = random_cost(2, 6, 6)
    before = cost.clone()
    align(cost)
    assert torch.equal(cost, before)


def test_an_empty_batch_has_no_losses():
    cost = torch.zeros(0, 4, 3, requires_grad=True)
    losses = soft_dtw(cost)
    losses.sum().backward()
    assert losses.shape == (0,)
    assert cost.grad.shape == (0, 4, 3)


def test_the_module_is_the_function():
    cost = random_cost(2, 7, 5)
    counts = torch.tensor([7, 3]), torch.tensor([2, 5])
    weights = StepWeights(horizontal=0.5, diagonal=2)
    module = SoftDTW(gamma=0.3, weights=weights)
    assert torch.equal(module(cost, *counts), soft_dtw(cost, *counts, gamma=0.3, weights=weights))
    assert "gamma=0.3" in repr(module)
    assert list(module.parameters()) == []


@pytest.mark.usefixtures("without_shape_types")
def test_the_gamma_of_the_module_may_be_set_anew():
    cost, weights = random_cost(2, 7, 5), StepWeights(horizontal=0.5, diagonal=2)
    module = SoftDTW(gamma=10, weights=weights)
    for gamma in (3.0, 1, 0.1):
        module.gamma = gamma
        assert module.gamma == gamma
        assert f"gamma={gamma}" in repr(module)
        assert torch.equal(module(cost), soft_dtw(cost, gamma=gamma, weights=weights))
    for bad in (0, -1.0, math.nan, math.inf, True, "1", None, torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"gamma: .*Remedy"):
            module.gamma = bad
    assert module.gamma == 0.1
    assert torch.equal(module(cost), soft_dtw(cost, gamma=0.1, weights=weights))


@pytest.mark.usefixtures("without_shape_types")  # which would be checked 300 times
def test_training_on_the_loss_finds_the_path():
    truth = torch.repeat_interleave(torch.arange(4), 6)
    logits = torch.zeros(1, 24, 4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        soft_dtw(-logits.log_softmax(dim=2), gamma=0.5, weights=StepWeights(diagonal=2)).sum().backward()
        optimizer.step()
    found = logits.detach()[0].argmax(dim=1)
    assert (found.diff() >= 0).all()
    assert (found == truth).float().mean() > 0.7


def test_weights_have_names_and_no_positions():
    with pytest.raises(TypeError):
        StepWeights(1, 1, 2)
    assert StepWeights() == EQUAL_WEIGHTS


def test_a_path_of_one_cell_needs_no_step():
    closed = StepWeights(horizontal=math.inf, vertical=math.inf, diagonal=math.inf)
    assert align(torch.full((1, 1, 1), 3.0), weights=closed).losses.item() == 3.0


def test_what_happens_to_the_callers_steps_afterwards_does_not_matter():
    weight = torch.ones(5)
    steps = [Step(1, 0, weight), Step(0, 1), Step(1, 1)]
    module, cost = SoftDTW(steps=steps), random_cost(1, 8, 5).requires_grad_()
    loss = module(cost).sum()
    (before,) = torch.autograd.grad(loss, cost, retain_graph=True)
    weight.mul_(9)
    steps[2] = "nonsense"
    (after,) = torch.autograd.grad(loss, cost)
    assert torch.equal(before, after)
    assert torch.equal(module(cost).sum(), loss)
