"""CTC as soft-DTW against torch's own, against all of its paths counted one by one, and its forced alignments."""

import itertools
import math

import numpy as np
import pytest
import torch

from alignment.finite_differences import gradients_and_slopes
from softscribe.alignment import ctc_graph, ctc_loss, expected_alignment, hard_path


def batch(frames: int, labels: int, classes: int, seed: int = 0, items: int = 5) -> tuple[torch.Tensor, ...]:
    """Logits with NaN for padding, labels with nonsense for padding, many repeats, and counts that leave a path."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(items, frames, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, classes, (items, labels), generator=generator)
    target_counts = torch.randint(0, labels + 1, (items,), generator=generator)
    target_counts[0], target_counts[-1] = labels, 0
    repeats = torch.tensor([sum(a == b for a, b in itertools.pairwise(row[:count])) for row, count in zip(targets, target_counts)])  # noqa: B905
    fewest = (target_counts + repeats).clamp(min=1)
    assert int(fewest.max()) <= frames
    frame_counts = fewest + (torch.rand(items, generator=generator) * (frames + 1 - fewest)).long()
    frame_counts[0], frame_counts[1] = frames, fewest[1]
    for item in range(items):
        logits[item, frame_counts[item] :] = torch.nan
        targets[item, target_counts[item] :] = -100
    return logits, targets, frame_counts, target_counts


def torch_loss(log_probs, labels, frame_counts, target_counts, blank: int = 0, reduction: str = "none") -> torch.Tensor:
    return torch.nn.functional.ctc_loss(
        log_probs.nan_to_num(-1.0).transpose(0, 1), labels.clamp(min=0), frame_counts, target_counts, blank=blank, reduction=reduction
    )


@pytest.mark.parametrize(("dtype", "value_tolerance", "gradient_tolerance"), [(torch.float64, 1e-11, 1e-11), (torch.float32, 2e-6, 2e-5)])
@pytest.mark.parametrize(("frames", "labels", "classes"), [(1, 1, 3), (12, 5, 3), (40, 12, 6), (9, 4, 2), (120, 40, 30), (6, 0, 4)])
def test_losses_are_torchs_and_so_are_gradients_at_the_logits(frames, labels, classes, dtype, value_tolerance, gradient_tolerance):
    for seed in range(4):
        logits, targets, frame_counts, target_counts = batch(frames, labels, classes, seed)
        inside = torch.arange(frames) < frame_counts[:, None]
        found, gradients = [], []
        for loss_of, number_type in ((ctc_loss, dtype), (torch_loss, torch.float64)):
            given = logits.nan_to_num(0.0).to(number_type).requires_grad_()
            losses = loss_of(given.log_softmax(dim=2).where(inside[..., None], torch.nan), targets, frame_counts, target_counts)
            (losses * torch.arange(1, 6)).sum().backward()
            found.append(losses.detach().double())
            gradients.append(given.grad.double())
        torch.testing.assert_close(*found, rtol=value_tolerance, atol=value_tolerance)
        torch.testing.assert_close(*gradients, rtol=0, atol=gradient_tolerance)


def test_the_mean_of_torch_is_over_losses_per_label():
    logits, labels, *counts = batch(40, 12, 6)
    assert 0 in counts[1]
    log_probs = logits.log_softmax(dim=2)
    ours = (ctc_loss(log_probs, labels, *counts) / counts[1].clamp(min=1)).mean()
    torch.testing.assert_close(ours, torch_loss(log_probs, labels, *counts, reduction="mean"), rtol=1e-11, atol=0)


@pytest.mark.parametrize("blank", [0, 2, 4])
def test_any_class_may_be_the_blank(blank):
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(2, 20, 5, generator=generator, dtype=torch.float64).log_softmax(dim=2)
    labels = torch.randint(1, 5, (2, 6), generator=generator)
    labels = torch.where(labels == blank, 0, labels)
    counts = torch.tensor([20, 20]), torch.tensor([6, 6])
    torch.testing.assert_close(ctc_loss(log_probs, labels, blank=blank), torch_loss(log_probs, labels, *counts, blank=blank))


def enumerated(frame_scores, blank_scores, repeated, blank_weight=1.0, repeat_weight=1.0) -> float:
    """Minus the log of the sum over all sequences of symbols that collapse to the labels.

    A symbol is a label's index, or -1 for the blank. Labels that are equal are told apart by their index, so they need not collapse:
    what would merge, because no blank stands between equal ones, is left out instead.
    """
    frames, labels = frame_scores.shape
    total = []
    for symbols in itertools.product(range(-1, labels), repeat=frames):
        if [key for key, _ in itertools.groupby(symbols) if key >= 0] != list(range(labels)):
            continue
        pairs = list(itertools.pairwise((None, *symbols)))
        if any(now >= 0 and before == now - 1 and before >= 0 and repeated[now] for before, now in pairs):
            continue
        if blank_weight == math.inf and -1 in symbols:
            continue
        score = 0.0
        for frame, (before, now) in enumerate(pairs):
            if now == -1:
                score += blank_weight * blank_scores[frame]
            else:
                score += (repeat_weight if before == now else 1.0) * frame_scores[frame, now]
        total.append(score)
    return -torch.logsumexp(torch.tensor(total, dtype=torch.float64), dim=0).item()


@pytest.mark.parametrize(
    ("blank_weight", "repeat_weight"), [(1, 1), (2, 1), (1.0, 0.1), (0, 0.5), (math.inf, 1), (math.inf, 0.1), (0.5, 0)]
)
@pytest.mark.parametrize("labels", [[1], [1, 2], [2, 1, 2], [1, 1], [1, 1, 2], []])
def test_all_paths_counted(labels, blank_weight, repeat_weight):
    log_probs = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(dim=2)
    repeated = [False, *(a == b for a, b in itertools.pairwise(labels))][: len(labels)]
    weights = {"blank_weight": blank_weight, "repeat_weight": repeat_weight}
    given = torch.tensor([labels], dtype=torch.int64).reshape(1, len(labels))
    if blank_weight == math.inf and (any(repeated) or not labels):
        with pytest.raises(ValueError, match=r"blank_weight: item 0 .*Remedy"):
            ctc_loss(log_probs, given, **weights)
        return
    truth = enumerated(log_probs[0][:, labels], log_probs[0, :, 0], repeated, **weights)
    assert ctc_loss(log_probs, given, **weights).item() == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize(("blank_weight", "repeat_weight"), [(1.0, 1.0), (2.0, 0.1), (math.inf, 0.5)])
def test_gradients_by_finite_differences_of_scores_that_are_not_normalised(blank_weight, repeat_weight):
    log_probs = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[1, 3, 1], [2, 3, -1]])

    def losses(scores, items):
        counts = torch.tensor([6, 5])[items], torch.tensor([3, 2])[items]
        return ctc_loss(scores, labels[items], *counts, blank_weight=blank_weight, repeat_weight=repeat_weight)

    (gradient,), ((slopes,),) = gradients_and_slopes(losses, log_probs)
    torch.testing.assert_close(gradient, slopes, atol=1e-7, rtol=0)


def test_the_gradient_is_minus_the_probability_of_emission():
    log_probs = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(dim=2).requires_grad_()
    ctc_loss(log_probs, torch.tensor([[1, 2, 2, 4], [3, 3, 3, 1]])).sum().backward()
    torch.testing.assert_close(-log_probs.grad.sum(dim=2), torch.ones(2, 30, dtype=torch.float64))
    assert float(log_probs.grad.max()) <= 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_widened(dtype):
    log_probs = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2).to(dtype).requires_grad_()
    wide = log_probs.detach().float().requires_grad_()
    labels = torch.tensor([[1, 2, 2, 4], [3, 3, 3, 1]])
    losses, same = ctc_loss(log_probs, labels), ctc_loss(wide, labels)
    assert torch.equal(losses, same)
    losses.sum().backward()
    same.sum().backward()
    assert torch.equal(log_probs.grad, wide.grad.to(dtype))


def test_the_graph_gives_forced_alignments_and_posteriors():
    """A network that is sure: the best path is what it says, and so is the expected alignment."""
    states = torch.tensor([0, 1, 1, 2, 3, 4, 4, 5, 5, 6])  # blank, a, a, blank, a, blank, blank, b, b, blank
    emitted = torch.tensor([0, 1, 1, 0, 1, 0, 0, 2, 2, 0])
    log_probs = (9 * torch.nn.functional.one_hot(emitted, 3).double()).log_softmax(dim=1)[None]
    repeated = torch.tensor([[False, True, False]])
    graph = ctc_graph(-log_probs[:, :, [1, 1, 2]], -log_probs[:, :, 0], repeated)
    assert graph.cost.shape == (1, 10, 7)
    path = hard_path(graph.cost, None, graph.state_counts, **graph.options)[0]
    assert path.tolist() == [list(cell) for cell in enumerate(states.tolist())]
    posterior = expected_alignment(graph.cost, None, graph.state_counts, **graph.options)
    torch.testing.assert_close(posterior[0], torch.nn.functional.one_hot(states, 7).double(), rtol=0, atol=0.02)


@pytest.mark.usefixtures("without_shape_types")
def test_numbers_may_be_those_of_numpy():
    given = torch.zeros(2, 5, 3), torch.tensor([[1, 2, 1], [1, 1, 2]])
    plain = ctc_loss(*given, blank=0, blank_weight=2, repeat_weight=0.5)
    assert torch.equal(plain, ctc_loss(*given, blank=np.int64(0), blank_weight=np.int64(2), repeat_weight=np.float32(0.5)))


def test_classes_that_no_label_names_may_be_impossible():
    log_probs = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    impossible = log_probs.clone()
    impossible[:, :, 2] = -math.inf
    labels = torch.tensor([[1, 3, 2]]), None, torch.tensor([2])  # the 2 is padding
    assert torch.equal(ctc_loss(impossible, *labels), ctc_loss(log_probs, *labels))
