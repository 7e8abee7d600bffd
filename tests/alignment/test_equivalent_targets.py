"""Soft-DTW's gradient is that of strong training with the equivalent targets and weights."""

import math

import pytest
import torch

from softscribe.alignment import StepWeights, Subsequence, align, bce_cost, soft_dtw
from softscribe.alignment.costs import cosine_cost, squared_error_cost
from softscribe.alignment.equivalent_targets import SMALLEST_WEIGHT, equivalent_targets

OPTIONS = [
    {},
    {"weights": StepWeights(diagonal=2), "gamma": 0.1},
    {"weights": StepWeights(horizontal=0.1), "gamma": 5.0},
    {"weights": StepWeights(horizontal=0), "gamma": 0.1},
    {"operator": "sparse"},
    {"operator": "hard"},
    {"boundaries": Subsequence(frames="both"), "weights": StepWeights(diagonal=2)},
]


def sequences(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 30, 6, generator=generator, dtype=torch.float64)
    targets = (torch.rand(3, 8, 6, generator=generator) < 0.4).double()
    return logits, targets, torch.tensor([30, 22, 9]), torch.tensor([5, 8, 1])


@pytest.mark.parametrize("options", OPTIONS)
def test_the_gradient_at_the_logits_is_that_of_weighted_strong_training(options):
    logits, targets, *counts = sequences()
    logits.requires_grad_()
    cost = bce_cost(logits, targets)
    cost.retain_grad()
    soft_dtw(cost, *counts, **options).sum().backward()
    per_frame, weights = equivalent_targets(cost.grad, targets)
    torch.testing.assert_close(
        logits.grad, weights[..., None] * (logits.detach().sigmoid() - per_frame), rtol=1e-9, atol=10 * SMALLEST_WEIGHT
    )
    # and so it is by autograd through an ordinary loss, frame by frame
    again = logits.detach().requires_grad_()
    strong = torch.nn.functional.binary_cross_entropy_with_logits(again, per_frame, reduction="none").sum(dim=2)
    (weights * strong).sum().backward()
    torch.testing.assert_close(logits.grad, again.grad, rtol=1e-9, atol=10 * SMALLEST_WEIGHT)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_same_for_squared_errors(options):
    frames, targets, *counts = sequences()
    frames.requires_grad_()
    cost = squared_error_cost(frames, targets)
    cost.retain_grad()
    soft_dtw(cost, *counts, **options).sum().backward()
    per_frame, weights = equivalent_targets(cost.grad, targets)
    torch.testing.assert_close(frames.grad, 2 * weights[..., None] * (frames.detach() - per_frame), rtol=1e-9, atol=20 * SMALLEST_WEIGHT)


def test_but_not_for_the_cosine():
    frames, targets, *counts = sequences()
    targets += 0.1
    frames.requires_grad_()
    cost = cosine_cost(frames, targets)
    cost.retain_grad()
    soft_dtw(cost, *counts).sum().backward()
    per_frame, weights = equivalent_targets(cost.grad, targets)
    again = frames.detach().requires_grad_()
    (weights * (1 - torch.nn.functional.cosine_similarity(again, per_frame, dim=2))).sum().backward()
    assert float((frames.grad - again.grad).abs().max()) > 0.01


def test_certain_alignment_gives_back_the_targets_of_its_path():
    targets = torch.eye(3)[None]
    frame_targets = torch.tensor([0, 0, 1, 2, 2, 2])
    cost = 50 * (1 - torch.nn.functional.one_hot(frame_targets, 3).float())[None]
    per_frame, weights = equivalent_targets(align(cost).gradient, targets)
    torch.testing.assert_close(per_frame[0], targets[0, frame_targets])
    torch.testing.assert_close(weights, torch.ones(1, 6))


def test_targets_are_means_and_never_nan():
    logits, targets, *counts = sequences()
    for options in OPTIONS:
        per_frame, weights = equivalent_targets(align(bce_cost(logits.float(), targets), *counts, **options).gradient, targets)
        assert per_frame.dtype == weights.dtype == torch.float32
        assert float(per_frame.min()) >= 0
        assert float(per_frame.max()) <= 1 + 1e-6
        assert ((weights == 0) | (weights >= SMALLEST_WEIGHT * 0.999)).all()
        assert (per_frame[weights == 0] == 0).all()
        assert (weights[2, counts[0][2] :] == 0).all()


def test_frames_without_a_gradient_are_masked():
    """With a horizontal weight of 0 frames that repeat a target teach nothing: they have no target."""
    cost = torch.tensor([[[0.0, 99.0], [0.0, 99.0], [0.0, 99.0], [99.0, 0.0], [99.0, 50.0]]])
    gradient = align(cost, weights=StepWeights(horizontal=0)).gradient
    per_frame, weights = equivalent_targets(gradient, torch.tensor([[[1, 0], [0, 1]]]))
    assert (weights > 0).tolist() == [[True, False, False, True, False]]
    assert per_frame[0].tolist() == [[1, 0], [0, 0], [0, 0], [0, 1], [0, 0]]


def test_padded_targets_may_hold_anything():
    logits, targets, *counts = sequences()
    gradient = align(bce_cost(logits, targets), *counts).gradient
    truth = equivalent_targets(gradient, targets)
    for item, count in enumerate(counts[1].tolist()):
        targets[item, count:] = torch.nan
    for found, expected in zip(equivalent_targets(gradient, targets), truth, strict=True):
        assert torch.equal(found, expected)


def test_no_gradient_flows():
    gradient = torch.ones(1, 2, 2).requires_grad_()
    assert not any(part.requires_grad for part in equivalent_targets(gradient, torch.ones(1, 2, 3).requires_grad_()))


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("gradient", "targets", "words"),
    [
        (torch.ones(2, 5, 4), torch.ones(2, 3, 6), "gradient, targets: shapes.*Remedy"),
        (torch.ones(5, 4), torch.ones(2, 4, 6), "gradient, targets: shapes.*Remedy"),
        (torch.ones(2, 5, 4), torch.ones(1, 4, 6), "gradient, targets: shapes.*Remedy"),
        (torch.ones(2, 5, 4), torch.ones(2, 4, 6, device="meta"), "targets: on meta.*Remedy"),
        (torch.tensor([math.inf, 1.0]).reshape(2, 1, 1), torch.ones(2, 1, 6), "gradient: item 0 has values below 0, infinite.*Remedy"),
        (torch.ones(2, 1, 1), torch.tensor([[[1.0, 1.0]], [[1.0, math.nan]]]), "targets: item 1 holds nan at target 0, output 1.*Remedy"),
        (torch.ones(2, 1, 1), torch.tensor([[[math.inf, 1.0]], [[1.0, 1.0]]]), "targets: item 0 holds inf at target 0, output 0.*Remedy"),
        (torch.ones(2, 5, 4, dtype=torch.int64), torch.ones(2, 4, 6), "gradient: torch.int64.*Remedy"),
        (torch.ones(2, 5, 4), torch.ones(2, 4, 6) * 1j, "targets: torch.complex64.*Remedy"),
        (torch.tensor([1.0, -1.0]).reshape(2, 1, 1), torch.ones(2, 1, 6), "gradient: item 1 has values below 0.*Remedy"),
        (
            torch.tensor([math.nan, 1.0]).reshape(2, 1, 1),
            torch.ones(2, 1, 6),
            "gradient: item 0 has values below 0, infinite, or NaN.*Remedy",
        ),
    ],
)
def test_what_is_refused(gradient, targets, words):
    with pytest.raises(ValueError, match=words):
        equivalent_targets(gradient, targets)
