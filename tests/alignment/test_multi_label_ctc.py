"""Multi-label CTC against autograd through another recursion, the published loss, finite differences, and the reference."""

import itertools
import math

import pytest
import torch

from alignment.finite_differences import gradients_and_slopes
from softscribe.alignment import ctc_graph, multi_label_ctc_loss
from softscribe.alignment.reference import reference_soft_dtw


def published_scores(logits, blank_logits, targets) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of targets and of the blank, as published: from the log-probabilities (B, 2, N, 1 + K) of off and on, the blank first."""
    outputs = torch.cat((blank_logits[:, :, None], logits), dim=2)
    off, on = torch.nn.functional.logsigmoid(-outputs), torch.nn.functional.logsigmoid(outputs)
    padded = torch.cat((torch.zeros_like(targets[:, :, :1]), targets), dim=2)
    return on @ padded.mT + off @ (1 - padded).mT, on[:, :, 0]


def multi_hot(frames: int, labels: int, outputs: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, frames, outputs, generator=generator, dtype=torch.float64)
    blank_logits = torch.randn(3, frames, generator=generator, dtype=torch.float64)
    targets = (torch.rand(3, labels, outputs, generator=generator) < 0.4).double()
    targets[0, 1] = targets[0, 0]
    return logits, blank_logits, targets


def recursion(scores, blank_scores, repeated) -> torch.Tensor:
    """CTC's forward variables by plain log-sum-exp over lists of states: autograd finds the derivative. For one item."""
    frames, labels = scores.shape
    emission = [blank_scores if state % 2 == 0 else scores[:, state // 2] for state in range(2 * labels + 1)]
    forward = {state: emission[state][0] for state in (0, 1) if state < len(emission)}
    for frame in range(1, frames):
        following = {}
        for state in range(len(emission)):
            before = [state, state - 1]
            if state % 2 and state >= 3 and not repeated[state // 2]:
                before.append(state - 2)
            reached = [forward[origin] for origin in before if origin in forward]
            if reached:
                following[state] = torch.logsumexp(torch.stack(reached), dim=0) + emission[state][frame]
        forward = following
    return -torch.logsumexp(torch.stack([forward[state] for state in forward if state >= len(emission) - 2]), dim=0)


@pytest.mark.parametrize(("frames", "labels", "outputs"), [(5, 2, 3), (25, 7, 12), (60, 20, 4)])
def test_multi_label_loss_and_gradient_are_those_of_a_plain_recursion(frames, labels, outputs):
    arguments = tuple(tensor.requires_grad_() for tensor in multi_hot(frames, labels, outputs)[:2])
    targets = multi_hot(frames, labels, outputs)[2]
    losses = multi_label_ctc_loss(*arguments, targets)
    scores, blank_scores = published_scores(*arguments, targets)
    repeated = [[False, *(torch.equal(a, b) for a, b in itertools.pairwise(item))] for item in targets]
    assert repeated[0][1]
    truth = torch.stack([recursion(*item) for item in zip(scores, blank_scores, repeated, strict=True)])
    torch.testing.assert_close(losses, truth, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(losses.sum(), arguments), torch.autograd.grad(truth.sum(), arguments, retain_graph=True), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_published_value_but_not_its_gradient():
    """The published loss hands scores to torch's ctc_loss. Its value is ours; what it sends back is not the derivative of that value."""
    logits, blank_logits, targets = multi_hot(25, 7, 12)
    item = slice(1, 2)  # no two targets are equal: each is a class of its own
    arguments = tuple(tensor[item].requires_grad_() for tensor in (logits, blank_logits))
    scores, blank_scores = published_scores(*arguments, targets[item])
    assert len(targets[item][0].unique(dim=0)) == 7
    of_classes = torch.cat((blank_scores[:, :, None], scores), dim=2).transpose(0, 1)
    published = torch.nn.functional.ctc_loss(of_classes, torch.arange(1, 8)[None], torch.tensor([25]), torch.tensor([7]), reduction="none")
    ours = multi_label_ctc_loss(*arguments, targets[item])
    torch.testing.assert_close(ours, published)
    derivative, sent_back = (torch.autograd.grad(losses.sum(), arguments, retain_graph=True)[1] for losses in (ours, published))
    assert float((derivative - sent_back).abs().max()) > 0.1


@pytest.mark.parametrize(("blank_weight", "repeat_weight"), [(1.0, 1.0), (2.0, 0.1), (math.inf, 1.0)])
def test_multi_label_gradients_by_finite_differences(blank_weight, repeat_weight):
    logits, blank_logits, targets = multi_hot(6, 3, 2, seed=4)
    targets[0, 1] = 1 - targets[0, 0]
    targets = torch.tensor([[[0, 1], [1, 1], [0, 1]]]).expand(3, 3, 2)
    counts = torch.tensor([6, 5, 3]), torch.tensor([3, 1, 2])

    def losses(logits, blank_logits, items):
        of_items = targets[items], counts[0][items], counts[1][items]
        return multi_label_ctc_loss(logits, blank_logits, *of_items, blank_weight=blank_weight, repeat_weight=repeat_weight)

    gradients, (slopes,) = gradients_and_slopes(losses, logits, blank_logits)
    for gradient, slope in zip(gradients, slopes, strict=True):
        torch.testing.assert_close(gradient, slope, atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64])
def test_multi_label_padding_never_matters(dtype):
    logits, blank_logits, targets = multi_hot(20, 6, 5)
    frame_counts, target_counts = torch.tensor([20, 13, 7]), torch.tensor([6, 4, 0])
    alone = torch.cat(
        [
            multi_label_ctc_loss(logits[b : b + 1, :frames], blank_logits[b : b + 1, :frames], targets[b : b + 1, :labels])
            for b, (frames, labels) in enumerate(zip(frame_counts.tolist(), target_counts.tolist(), strict=True))
        ]
    )
    targets = targets.to(dtype)
    for item in range(3):
        logits[item, frame_counts[item] :] = torch.nan
        blank_logits[item, frame_counts[item] :] = torch.inf
        targets[item, target_counts[item] :] = torch.nan if dtype == torch.float32 else 1
    arguments = logits.requires_grad_(), blank_logits.requires_grad_()
    losses = multi_label_ctc_loss(*arguments, targets, frame_counts, target_counts)
    torch.testing.assert_close(losses, alone)
    for gradient, frame_axis in zip(torch.autograd.grad(losses.sum(), arguments), (1, 1), strict=True):
        assert gradient.isfinite().all()
        assert all(
            (gradient[item].narrow(frame_axis - 1, count, 20 - count) == 0).all() for item, count in enumerate(frame_counts.tolist())
        )


def test_graph_through_the_reference():
    logits, blank_logits, targets = multi_hot(9, 3, 4)
    scores, blank_scores = published_scores(logits, blank_logits, targets)
    repeated = torch.tensor([[False, True, False], [False] * 3, [False] * 3])
    graph = ctc_graph(-scores, -blank_scores, repeated, torch.tensor([3, 2, 0]), blank_weight=2.0, repeat_weight=0.1)
    truth = reference_soft_dtw(graph.cost, None, graph.state_counts, **graph.options)
    ours = multi_label_ctc_loss(logits, blank_logits, targets, None, torch.tensor([3, 2, 0]), blank_weight=2.0, repeat_weight=0.1)
    torch.testing.assert_close(ours, truth)
