"""The cost matrix against torch's own binary cross-entropy, cell by cell in float64."""

import pytest
import torch

from softscribe.alignment import StepWeights, bce_cost, soft_dtw


def sequences(scale: float, seed: int = 0, soft: bool = False, outputs: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(3, 40, outputs, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 17, outputs, generator=generator, dtype=torch.float64)
    return logits, targets if soft else (targets < 0.3).double()


def broadcast(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    shape = (logits.shape[0], logits.shape[1], targets.shape[1], logits.shape[2])
    pairs = logits[:, :, None].expand(shape), targets[:, None].expand(shape)
    return torch.nn.functional.binary_cross_entropy_with_logits(*pairs, reduction="none").sum(dim=3)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_value_and_gradient_in_float64(scale, soft):
    logits, targets = sequences(scale, soft=soft)
    upstream = torch.randn(3, 40, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    targets.requires_grad_()
    for_us = torch.autograd.grad((upstream * bce_cost(logits, targets)).sum(), (logits, targets))
    for_torch = torch.autograd.grad((upstream * broadcast(logits, targets)).sum(), (logits, targets))
    torch.testing.assert_close(bce_cost(logits, targets), broadcast(logits, targets), atol=1e-12 * (1 + scale), rtol=1e-12)
    for ours, theirs in zip(for_us, for_torch, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11 * (1 + scale), rtol=1e-11)


def test_finite_differences_once_and_twice():
    logits, targets = (sequence[:, :3, :4].clone().requires_grad_() for sequence in sequences(2.0, soft=True))
    assert torch.autograd.gradcheck(bce_cost, (logits, targets))
    assert torch.autograd.gradgradcheck(bce_cost, (logits, targets))


@pytest.mark.parametrize("scale", [1.0, 30.0, 100.0])
def test_float32_loses_nothing_on_wide_logits(scale):
    logits, targets = sequences(scale, outputs=72)
    truth = broadcast(logits.float().double(), targets)
    found = bce_cost(logits.float(), targets.float())
    assert found.dtype == torch.float32
    assert float((found - truth).abs().max()) < 1e-5 * (1 + scale)  # relative to sums of 72 logits, an error of a few float32 digits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_widened_first_and_its_gradient_narrowed_last(dtype):
    logits, targets = sequences(3.0)
    low = logits.to(dtype).requires_grad_()
    wide = low.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = bce_cost(low, targets.to(dtype))
        cost.mean().backward()
    same = bce_cost(wide, targets.float())
    same.mean().backward()
    assert cost.dtype == torch.float32
    assert torch.equal(cost, same)
    assert low.grad.dtype == dtype
    assert torch.equal(low.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_settings_for_fast_products_neither_matter_nor_change(precision):
    logits, targets = (sequence.float() for sequence in sequences(30.0, outputs=72))
    truth = bce_cost(logits, targets)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        settings = torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
        assert torch.equal(bce_cost(logits, targets), truth)
        assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision) == settings
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float32])
def test_targets_of_any_type(dtype):
    logits, targets = sequences(2.0)
    torch.testing.assert_close(bce_cost(logits, targets.to(dtype)), broadcast(logits, targets))


def test_nothing_of_four_axes_is_made():
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            sizes.extend(
                part.numel() for part in (result if isinstance(result, tuple | list) else [result]) if isinstance(part, torch.Tensor)
            )
            return result

    logits, targets = torch.randn(2, 50, 8, requires_grad=True), torch.rand(2, 40, 8)
    with Watch():
        bce_cost(logits, targets).sum().backward()
    assert max(sizes) == 2 * 50 * 40


def test_the_gradient_through_both_is_that_of_soft_targets():
    """dL/dx = h (p - y'), where h is H's row sum and y' the mean of the targets under H: strong training on soft targets."""
    logits, targets = sequences(2.0)
    logits.requires_grad_()
    cost = bce_cost(logits, targets)
    cost.retain_grad()
    soft_dtw(cost, gamma=2.0, weights=StepWeights(diagonal=2)).sum().backward()
    row_sums = cost.grad.sum(dim=2, keepdim=True)
    blurred = cost.grad @ targets / row_sums
    torch.testing.assert_close(logits.grad, row_sums * (logits.detach().sigmoid() - blurred), atol=1e-10, rtol=1e-8)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        (torch.zeros(2, 5), torch.zeros(2, 4, 5), "logits, targets: shapes.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 12), "logits, targets: shapes.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(1, 4, 3), "logits, targets: shapes.*Remedy"),
        (torch.zeros(2, 5, 3, dtype=torch.int64), torch.zeros(2, 4, 3), "logits: torch.int64"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 3, device="meta"), "targets: on meta.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 3, dtype=torch.complex64), "targets: torch.complex64"),
        (torch.zeros(2, 5, 3), torch.tensor([0.0, 1.5]).view(2, 1, 1).expand(2, 4, 3), "targets: item 1 has values outside"),
        (torch.zeros(2, 5, 3), torch.full((2, 4, 3), torch.nan), "targets: item 0 has values outside"),
        (torch.zeros(2, 5, 3), torch.full((2, 4, 3), -1), "targets: item 0 has values outside"),
    ],
)
def test_what_is_refused(logits, targets, words):
    with pytest.raises(ValueError, match=words):
        bce_cost(logits, targets)
