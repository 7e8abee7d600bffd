"""The soft-DTW divergence: 0 between equals and at a minimum there, never seen below 0; and what it is refused for."""

import itertools
import math

import pytest
import torch

from alignment.finite_differences import gradients_and_slopes
from softscribe.alignment import StepWeights, bce_cost, soft_dtw
from softscribe.alignment.costs import cosine_cost, negative_log_probability_cost, squared_error_cost
from softscribe.alignment.divergence import soft_dtw_divergence
from softscribe.alignment.reference import reference_soft_dtw


def absolute_cost(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x[:, :, None] - y[:, None]).abs().sum(dim=3)


def global_alignment_cost(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    half = squared_error_cost(x, y) / 2
    return half + torch.log(2 - torch.exp(-half))


COSTS = [squared_error_cost, cosine_cost, absolute_cost, global_alignment_cost]
WEIGHTS = [StepWeights(), StepWeights(diagonal=2), StepWeights(horizontal=0.1, vertical=0.1)]


def sequences(
    items: int, x_length: int, y_length: int, outputs: int, scale: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (scale * torch.randn(items, length, outputs, generator=generator, dtype=torch.float64) for length in (x_length, y_length))
    return x, y


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("cost_function", COSTS)
def test_it_is_the_definition(cost_function, weights):
    x, y = sequences(3, 7, 5, 2)
    options = {"gamma": 0.7, "weights": weights}
    terms = [reference_soft_dtw(cost_function(*pair), **options) for pair in ((x, y), (x, x), (y, y))]
    torch.testing.assert_close(soft_dtw_divergence(x, y, cost_function=cost_function, **options), terms[0] - (terms[1] + terms[2]) / 2)


@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("cost_function", COSTS)
def test_zero_and_stationary_between_equals_and_symmetric(cost_function, weights, gamma):
    x, y = sequences(4, 6, 6, 3)
    options = {"gamma": gamma, "weights": weights, "cost_function": cost_function}
    torch.testing.assert_close(soft_dtw_divergence(x, y, **options), soft_dtw_divergence(y, x, **options), rtol=1e-9, atol=1e-9)
    same = x.clone().requires_grad_()
    losses = soft_dtw_divergence(same, x, **options)
    assert float(losses.detach().abs().max()) < 1e-10 * (1 + gamma)
    losses.sum().backward()
    # the absolute value has a kink there, torch's derivative of which is 0
    assert float(same.grad.abs().max()) < 1e-8


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("cost_function", COSTS)
def test_never_seen_below_zero(cost_function, weights):
    for lengths, outputs in itertools.product(((1, 2), (3, 3), (2, 9), (5, 6)), (1, 4)):
        of_scales = [sequences(50, *lengths, outputs, scale) for scale in (0.01, 1.0)]
        if lengths[0] == lengths[1]:
            for x, y in of_scales:
                y[25:] = x[25:] + 0.01 * y[25:]
        x, y = (torch.cat(both) for both in zip(*of_scales, strict=True))
        for gamma in (1.0,) if cost_function is global_alignment_cost else (0.01, 1.0, 100.0):
            lowest = float(soft_dtw_divergence(x, y, cost_function=cost_function, gamma=gamma, weights=weights).min())
            assert lowest >= -1e-12 * (1 + gamma)


@pytest.mark.parametrize(
    ("x", "y", "diagonal", "wanted"),
    [
        ([1, -2, 0], [1, -1, 1], 0, -0.0684),
        ([1, -2, 0], [1, -1, 1], 1, 1.723),
        ([0, 3, 0], [1], math.inf, -2.104),
        ([0, 3, 0], [1], 9, 6.0),
    ],
)
def test_diagonals_that_bring_it_below_zero_are_refused(x, y, diagonal, wanted):
    x, y = (torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1) for values in (x, y))
    options = {"gamma": 1.0, "weights": StepWeights(diagonal=diagonal)}
    between, *within = (reference_soft_dtw(squared_error_cost(*pair), **options) for pair in ((x, y), (x, x), (y, y)))
    divergence = (between - sum(within) / 2).item()
    assert divergence == pytest.approx(wanted, rel=1e-3)
    if divergence >= 0:
        assert soft_dtw_divergence(x, y, **options).item() == pytest.approx(divergence)
    else:
        with pytest.raises(ValueError, match=r"weights: .*negative.*Remedy"):
            soft_dtw_divergence(x, y, **options)


def test_soft_dtw_is_minimised_elsewhere_and_the_divergence_is_not():
    x = torch.tensor([[[0.0], [1.0], [0.0], [2.0]]], dtype=torch.float64)
    for loss_of, blurs in (
        (lambda y: soft_dtw(squared_error_cost(x, y), gamma=2.0), True),
        (lambda y: soft_dtw_divergence(x, y, gamma=2.0), False),
    ):
        y = x.clone().requires_grad_()
        loss_of(y).sum().backward()
        assert (float(y.grad.abs().max()) > 0.1) == blurs


@pytest.mark.parametrize("cost_function", [squared_error_cost, cosine_cost])
def test_finite_differences_and_padding(cost_function):
    x, y = sequences(3, 5, 4, 2)
    counts = torch.tensor([5, 2, 3]), torch.tensor([1, 4, 4])
    padded_x, padded_y = x.clone(), y.clone()
    for item in range(3):
        padded_x[item, counts[0][item] :] = torch.nan
        padded_y[item, counts[1][item] :] = torch.inf
    arguments = padded_x.requires_grad_(), padded_y.requires_grad_()
    losses = soft_dtw_divergence(*arguments, *counts, cost_function=cost_function, gamma=0.5)
    alone = [
        soft_dtw_divergence(x[b : b + 1, :n], y[b : b + 1, :m], cost_function=cost_function, gamma=0.5)
        for b, (n, m) in enumerate(zip(counts[0].tolist(), counts[1].tolist(), strict=True))
    ]
    torch.testing.assert_close(losses, torch.cat(alone))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(losses.sum(), arguments))

    def losses_of(x: torch.Tensor, y: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return soft_dtw_divergence(x, y, *(axis[items] for axis in counts), cost_function=cost_function, gamma=0.5)

    gradients, (slopes,) = gradients_and_slopes(losses_of, x, y)
    for gradient, slope in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(gradient, slope, atol=1e-7, rtol=0)


def test_float32_passes_the_check_of_symmetry():
    x, y = (10 + vectors for vectors in sequences(3, 50, 40, 72))
    truth = soft_dtw_divergence(x, y)
    torch.testing.assert_close(soft_dtw_divergence(x.float(), y.float()).double(), truth, rtol=1e-4, atol=1e-2)


X, Y = sequences(2, 5, 4, 3)
WITH_ZEROS = X.clone()
WITH_ZEROS[1, 2] = 0


def shifted_cost(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return squared_error_cost(x, y) + 1


def one_way_cost(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x[:, :, None] - y[:, None]).relu().sum(dim=3)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((X, Y), {"cost_function": bce_cost}, "cost_function: bce_cost compares logits and targets.*Remedy"),
        ((X, Y), {"cost_function": negative_log_probability_cost}, "cost_function: negative_log_probability_cost compares.*Remedy"),
        ((X, Y), {"cost_function": shifted_cost}, "cost_function: item 0 of x costs 1 between vector 0 and itself.*Remedy"),
        ((X, Y), {"cost_function": one_way_cost}, "cost_function: not symmetric for item 0 of x.*Remedy"),
        ((WITH_ZEROS, Y), {"cost_function": cosine_cost}, "cost_function: item 1 of x costs 1 between vector 2 and itself.*zeros"),
        ((X, Y), {"cost_function": "x"}, "cost_function: 'x' is no function.*Remedy"),
        ((X, Y), {"cost_function": lambda x, y: torch.zeros(2, 9, 9)}, r"cost_function: returned shape \(2, 9, 9\).*here \(2, 5, 4\)"),
        ((X, Y), {"cost_function": lambda x, y: None}, "cost_function: returned a NoneType.*Remedy"),
        ((X, Y[0]), {}, r"x, y: shapes \(2, 5, 3\) and \(4, 3\).*Remedy"),
        ((X, Y[:, :, :2]), {}, "x, y: shapes.*Remedy"),
        ((X, Y[:, :0]), {}, "x, y: shapes.*Remedy"),
        ((X.numpy(), Y), {}, "x: a ndarray.*Remedy"),
        ((X, Y.long()), {}, "y: torch.int64.*Remedy"),
        ((X / torch.tensor([1.0, 0.0])[:, None, None], Y), {}, "x: item 1 holds -?(inf|nan) at vector 0, output 0.*Remedy"),
        ((X, Y * math.nan), {}, "y: item 0 holds nan at vector 0, output 0.*Remedy"),
        ((X, Y), {"weights": StepWeights(diagonal=math.inf)}, "weights: .*diagonal=inf.*negative.*Remedy"),
        ((X, Y, torch.tensor([5, 6])), {}, "frame_counts: item 1 has 6.*Remedy"),
        ((X, Y, None, torch.tensor([4, 0])), {}, "target_counts: item 1 has 0.*Remedy"),
        ((X, Y, None, torch.tensor([4.0, 1.0])), {}, "target_counts: torch.float32.*Remedy"),
        ((X, Y), {"gamma": 0.0}, "gamma: 0.0.*Remedy"),
        ((X, Y), {"weights": StepWeights(horizontal=0.1)}, "weights: .*horizontal=0.1.*Remedy"),
        ((X, Y), {"weights": StepWeights(horizontal=math.inf)}, "weights: .*horizontal=inf.*Remedy"),
        ((X, Y), {"weights": StepWeights(diagonal=0.9)}, "weights: .*diagonal=0.9.*negative.*Remedy"),
        ((X, Y), {"weights": StepWeights(horizontal=0.1, vertical=0.1, diagonal=0)}, "weights: .*diagonal=0.*negative.*Remedy"),
        ((X, Y), {"validate": "no"}, "validate: 'no'.*Remedy"),
    ],
)
def test_what_is_refused(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        soft_dtw_divergence(*arguments, **options)
