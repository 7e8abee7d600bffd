"""Costs between vectors, and of classes, against broadcasting in float64. For `bce_cost` see test_bce_cost.py."""

import pytest
import torch

from softscribe.alignment.costs import cosine_cost, negative_log_probability_cost, squared_error_cost

COSTS = [squared_error_cost, cosine_cost]


def sequences(scale: float = 1.0, offset: float = 0.0, outputs: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames, targets = (scale * torch.randn(3, length, outputs, generator=generator, dtype=torch.float64) + offset for length in (40, 17))
    return frames, targets


def broadcast(cost_function, frames: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    x, y = frames.double()[:, :, None], targets.double()[:, None]
    if cost_function is squared_error_cost:
        return (x - y).square().sum(dim=3)
    return 1 - torch.nn.functional.cosine_similarity(x, y, dim=3, eps=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("cost_function", COSTS)
def test_values_and_gradients_in_float64(cost_function, scale):
    frames, targets = (vectors.requires_grad_() for vectors in sequences(scale))
    upstream = torch.randn(3, 40, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = cost_function(frames, targets), broadcast(cost_function, frames, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14 * scale**2 + 1e-14)
    for found, truth in zip(
        torch.autograd.grad((upstream * ours).sum(), (frames, targets)),
        torch.autograd.grad((upstream * theirs).sum(), (frames, targets)),
        strict=True,
    ):
        torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-12 * (scale + 1 / scale))


@pytest.mark.parametrize("cost_function", COSTS)
def test_finite_differences_once_and_twice(cost_function):
    arguments = tuple(vectors[:, :3, :4].clone().requires_grad_() for vectors in sequences())
    assert torch.autograd.gradcheck(cost_function, arguments)
    assert torch.autograd.gradgradcheck(cost_function, arguments)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_squared_errors_of_close_vectors_do_not_cancel_in_float32(offset):
    frames = sequences(offset=offset, outputs=72)[0].float()
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    for distance in (1e-1, 1e-2, 1e-3):
        close = frames + distance * noise
        truth = broadcast(squared_error_cost, frames, close)
        found = squared_error_cost(frames, close).double()
        torch.testing.assert_close(found, truth, rtol=2e-7, atol=3e-15 * float(frames.double().square().sum(dim=2).max()))


@pytest.mark.parametrize("cost_function", COSTS)
def test_a_sequence_costs_nothing_with_itself(cost_function):
    frames, _ = sequences(3.0, offset=5.0)
    for vectors, limit in ((frames, 1e-11), (frames.float(), 1e-11)):
        own = cost_function(vectors, vectors)
        assert float(own.diagonal(dim1=1, dim2=2).abs().max()) < limit
        torch.testing.assert_close(own, own.mT, rtol=0, atol=1e-11)
        assert float(own.min()) > -limit


def test_cosine_takes_no_notice_of_length_however_extreme():
    frames, targets = (vectors.float() for vectors in sequences())
    truth = cosine_cost(frames, targets)
    torch.testing.assert_close(cosine_cost(frames * 1e-30, targets * 1e30), truth, rtol=0, atol=1e-6)
    assert float(truth.min()) >= 0
    assert float(truth.max()) <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors_cost_1_and_get_no_gradient(dtype):
    frames, targets = (vectors.to(dtype) for vectors in sequences())
    frames[1, 5] = targets[1, 3] = 0
    frames.requires_grad_()
    targets.requires_grad_()
    cost = cosine_cost(frames, targets)
    assert (cost[1, 5] == 1).all()
    assert (cost[1, :, 3] == 1).all()
    cost.square().sum().backward()
    assert (frames.grad[1, 5] == 0).all()
    assert (targets.grad[1, 3] == 0).all()
    assert frames.grad.isfinite().all()
    assert targets.grad.isfinite().all()
    assert (frames.grad[0] != 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cost_function", COSTS)
def test_low_precision_is_widened_first_and_its_gradient_narrowed_last(cost_function, dtype):
    low = [vectors.to(dtype).requires_grad_() for vectors in sequences()]
    wide = [vectors.detach().float().requires_grad_() for vectors in low]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = cost_function(*low)
        cost.mean().backward()
    same = cost_function(*wide)
    same.mean().backward()
    assert cost.dtype == torch.float32
    assert torch.equal(cost, same)
    for narrow, full in zip(low, wide, strict=True):
        assert narrow.grad.dtype == dtype
        assert torch.equal(narrow.grad, full.grad.to(dtype))


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("cost_function", COSTS)
def test_settings_for_fast_products_do_not_matter(cost_function, precision):
    frames, targets = (vectors.float() for vectors in sequences(outputs=72))
    truth = cost_function(frames, targets)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(cost_function(frames, targets), truth)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("cost_function", COSTS)
def test_nothing_of_four_axes_is_made(cost_function):
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            sizes.extend(part.numel() for part in (result if isinstance(result, tuple | list) else [result]) if torch.is_tensor(part))
            return result

    frames, targets = torch.randn(2, 50, 8, requires_grad=True), torch.rand(2, 40, 8)
    with Watch():
        cost_function(frames, targets).sum().backward()
    assert max(sizes) == 2 * 50 * 40


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("label_dtype", [torch.int32, torch.int64])
def test_log_probabilities_are_picked_by_class(dtype, label_dtype):
    logits, _ = sequences()
    log_probs = logits.log_softmax(dim=2).to(dtype).requires_grad_()
    labels = torch.randint(12, (3, 17), generator=torch.Generator().manual_seed(1), dtype=label_dtype)
    cost = negative_log_probability_cost(log_probs, labels)
    assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for item, label in ((0, 3), (2, 16)):
        assert torch.equal(cost[item, :, label], -log_probs[item, :, labels[item, label]].to(cost.dtype))
    cost.sum().backward()
    counts = torch.nn.functional.one_hot(labels.long(), 12).sum(dim=1).to(dtype)
    assert torch.equal(log_probs.grad, -counts[:, None].expand(log_probs.shape))


def test_classes_that_no_target_has_may_be_impossible():
    log_probs = torch.tensor([[[-0.7, -0.7, -torch.inf]]]).requires_grad_()
    cost = negative_log_probability_cost(log_probs, torch.tensor([[0, 1]]))
    cost.sum().backward()
    assert cost.isfinite().all()
    assert torch.equal(log_probs.grad, torch.tensor([[[-1.0, -1.0, 0.0]]]))


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("frames", "targets", "words"),
    [
        (torch.zeros(2, 5), torch.zeros(2, 4, 5), r"frames, targets: shapes \(2, 5\) and .*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 12), "frames, targets: shapes.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(1, 4, 3), "frames, targets: shapes.*Remedy"),
        (torch.zeros(2, 5, 3, dtype=torch.int64), torch.zeros(2, 4, 3), "frames: torch.int64.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 3, dtype=torch.bool), "targets: torch.bool.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, 3, device="meta"), "targets: on meta.*Remedy"),
    ],
)
@pytest.mark.parametrize("cost_function", COSTS)
def test_vectors_that_are_refused(cost_function, frames, targets, words):
    with pytest.raises(ValueError, match=words):
        cost_function(frames, targets)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("log_probs", "labels", "words"),
    [
        (torch.zeros(2, 5), torch.zeros(2, 4, dtype=torch.int64), "log_probs, labels: shapes.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(3, 4, dtype=torch.int64), "log_probs, labels: shapes.*Remedy"),
        (torch.zeros(2, 5, 3, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64), "log_probs: torch.int64.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4), "labels: torch.float32.*Remedy"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 4, dtype=torch.int64, device="meta"), "labels: on meta.*Remedy"),
        (torch.zeros(2, 5, 3), torch.tensor([[0, 1], [2, 3]]), r"labels: item 1 has 3 at target 1, outside \[0, 3\).*Remedy"),
        (torch.zeros(2, 5, 3), torch.tensor([[0, -1], [2, 2]]), "labels: item 0 has -1 at target 1.*Remedy"),
    ],
)
def test_labels_that_are_refused(log_probs, labels, words):
    with pytest.raises(ValueError, match=words):
        negative_log_probability_cost(log_probs, labels)
