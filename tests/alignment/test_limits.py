"""Numbers at the ends of their range: finite results, or a ValueError that says what is too large; NaN and infinity are never hidden."""

import math
import warnings

import pytest
import torch

from softscribe.alignment import BoundaryCell, BoundaryCells, Step, StepWeights, align, expected_alignment, minimum, soft_dtw

pytestmark = pytest.mark.usefixtures("without_shape_types")
COST = torch.zeros(2, 5, 4)
CLASSICAL = StepWeights().steps()
HUGE = 10**400


@pytest.mark.parametrize("operator", ["soft", "hard", "sparse", "smooth"])
@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.float32, 2e38), (torch.float32, -2e38), (torch.float64, 1e308), (torch.float64, -1e308)]
)
def test_losses_beyond_the_range_of_the_type(dtype, fill, operator):
    cost = torch.ones(2, 5, 4, dtype=dtype)
    cost[1] = fill
    for function in (soft_dtw, align):
        with pytest.raises(ValueError, match=f"cost: item 1 has the loss .*beyond the range of {dtype}.*Remedy"):
            function(cost, operator=operator)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        *((dtype, {"boundaries": BoundaryCells(start=(BoundaryCell(0, 0, weight=1e60),))}) for dtype in (torch.float16, torch.float32)),
        *((dtype, {"steps": (Step(1, 0), Step(0, 1), Step(1, 1, 1e60))}) for dtype in (torch.float16, torch.bfloat16, torch.float32)),
        *((dtype, {"steps": (Step(1, 0), Step(0, 1), Step(1, 1, torch.tensor(1e60, dtype=torch.float64)))}) for dtype in (torch.float32,)),
        *((dtype, {"weights": StepWeights(diagonal=1e60)}) for dtype in (torch.float16, torch.float32)),
        (torch.float16, {"weights": StepWeights(horizontal=1e6, diagonal=1e6)}),
    ],
)
def test_weights_whose_gradient_is_beyond_the_range_of_the_type(dtype, options):
    """Costs of 0: all losses are finite."""
    with pytest.raises(ValueError, match=rf"cost: item 0 has the gradient .* at frame \d, target \d, beyond the range of {dtype}.*Remedy"):
        soft_dtw(torch.zeros(2, 5, 4, dtype=dtype, requires_grad=True), **options)
    assert soft_dtw(COST.to(dtype), **options).isfinite().all()  # no gradient is wanted
    assert soft_dtw(torch.zeros(2, 5, 4, dtype=torch.float64, requires_grad=True), **options).isfinite().all()
    if dtype == torch.float32:
        with pytest.raises(ValueError, match=r"beyond the range of torch\.float32"):
            align(COST, **options)


@pytest.mark.parametrize("operator", ["soft", "sparse", "smooth"])
@pytest.mark.parametrize("gamma", [1e-320, 1e-300, 1e-45, 1e-30, 1e30, 1e300, 1e308])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, -1.0, 1e30])
def test_extreme_numbers_give_finite_results_or_say_so(dtype, gamma, operator, scale):
    cost = scale * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype).abs()
    for function in (soft_dtw, align, expected_alignment):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = function(cost, gamma=gamma, operator=operator)
        except ValueError as error:
            assert "Remedy" in str(error)  # noqa: PT017
        else:
            parts = found if isinstance(found, tuple) else (found,)
            for part in parts[:4] if operator == "smooth" else parts:
                assert torch.isfinite(part).all()
            if gamma < 1e-20 and function is align:
                hard = align(cost, operator="hard")
                torch.testing.assert_close(found.losses, hard.losses)
                torch.testing.assert_close(found.gradient, hard.gradient)


@pytest.mark.parametrize("operator", ["soft", "hard", "sparse", "smooth"])
def test_minimum_hides_nothing(operator):
    for dtype in (torch.float32, torch.float64):
        assert math.isnan(minimum(torch.tensor([1.0, math.nan, 2.0], dtype=dtype), operator))
        assert not minimum(torch.tensor([1.0, -math.inf], dtype=dtype), operator).isfinite()
    for values in (torch.zeros(0), torch.zeros(()), torch.zeros(3, 0), [1.0, 2.0], torch.ones(2, dtype=torch.int64), torch.ones(2) * 1j):
        with pytest.raises(ValueError, match=r"(values|dim): .*Remedy"):
            minimum(values, operator, dim=-1)


@pytest.mark.parametrize("size", [10**6, 2**31 - 1])
def test_a_step_that_is_longer_than_the_item_is_never_taken(size):
    for dtype in (torch.float32, torch.float64):
        for further in (Step(size, 1), Step(0, size), Step(size, size)):
            steps = (*CLASSICAL, further)
            assert torch.equal(soft_dtw(COST.to(dtype), steps=steps), soft_dtw(COST.to(dtype), steps=CLASSICAL))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Step(1, 1, HUGE),
        lambda: Step(1, 1, 1, -HUGE),
        lambda: BoundaryCell(0, 0, weight=HUGE),
        lambda: StepWeights(diagonal=HUGE),
        lambda: soft_dtw(COST, gamma=HUGE),
    ],
)
def test_integers_beyond_all_floats(make):
    with pytest.raises(ValueError, match=r"(weight|cost|diagonal|gamma): .*Remedy"):
        make()


def test_padding_of_the_steps_tensors_is_padding_too():
    weight = torch.ones(2, 5, 4)
    weight[1, 4] = math.nan
    counts = torch.tensor([5, 4]), torch.tensor([4, 4])
    steps = (Step(1, 0, weight), Step(0, 1), Step(1, 1, 1.0, weight))
    assert torch.equal(soft_dtw(COST, *counts, steps=steps), soft_dtw(COST, *counts, steps=(Step(1, 0), Step(0, 1), Step(1, 1, 1.0, 1.0))))
