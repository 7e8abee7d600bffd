"""CTC as soft-DTW against torch's own, against all of its paths counted one by one, and against autograd through another recursion."""

import itertools
import math

import numpy as np
import pytest
import torch

from softscribe.alignment import ctc_graph, ctc_loss, expected_alignment, hard_path, multi_label_ctc_loss
from softscribe.alignment.reference import reference_soft_dtw


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
    log_probs = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[1, 3, 1], [2, 3, -1]])

    def losses(scores):
        counts = torch.tensor([6, 5]), torch.tensor([3, 2])
        return ctc_loss(scores, labels, *counts, blank_weight=blank_weight, repeat_weight=repeat_weight)

    assert torch.autograd.gradcheck(losses, (log_probs,))


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
    assert path.tolist() == list(enumerate(states.tolist())) or path.tolist() == [list(cell) for cell in enumerate(states.tolist())]
    posterior = expected_alignment(graph.cost, None, graph.state_counts, **graph.options)
    torch.testing.assert_close(posterior[0], torch.nn.functional.one_hot(states, 7).double(), rtol=0, atol=0.02)


# Multi-label CTC


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
    published = torch_loss(
        torch.cat((blank_scores[:, :, None], scores), dim=2), torch.arange(1, 8)[None], torch.tensor([25]), torch.tensor([7])
    )
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

    def losses(*given):
        return multi_label_ctc_loss(*given, targets, *counts, blank_weight=blank_weight, repeat_weight=repeat_weight)

    assert torch.autograd.gradcheck(losses, (logits.requires_grad_(), blank_logits.requires_grad_()))


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


# What is refused

LOG_PROBS, LABELS = torch.zeros(2, 5, 3), torch.tensor([[1, 2, 1], [1, 1, 2]])


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((LOG_PROBS[0], LABELS), {}, "log_probs, labels: shapes.*Remedy"),
        ((LOG_PROBS, LABELS[:1]), {}, "log_probs, labels: shapes.*Remedy"),
        ((LOG_PROBS, LABELS.float()), {}, "labels: torch.float32.*Remedy"),
        ((LOG_PROBS.long(), LABELS), {}, "log_probs: torch.int64.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank": 3}, r"blank: 3.*Remedy: one of the classes, in \[0, 3\)"),
        ((LOG_PROBS, LABELS), {"blank": 2}, "labels: item 0 has the blank, 2, at target 1.*Remedy"),
        ((LOG_PROBS, LABELS + 1), {}, r"labels: item 0 has 3 at target 1, outside \[0, 3\).*Remedy"),
        ((LOG_PROBS, LABELS, torch.tensor([5, 3])), {}, "frame_counts: item 1 has 3 frames, too few for 3 labels and 1 blanks.*Remedy"),
        ((LOG_PROBS, LABELS, torch.tensor([5, 6])), {}, r"frame_counts: item 1 has 6, outside \[1, 5\].*Remedy"),
        ((LOG_PROBS, LABELS, torch.tensor([0, 5])), {}, "frame_counts: item 0 has 0, outside.*Remedy"),
        ((LOG_PROBS, LABELS, torch.tensor([5.0, 5.0])), {}, "frame_counts: torch.float32.*Remedy"),
        ((LOG_PROBS, LABELS, None, torch.tensor([3, 4])), {}, r"target_counts: item 1 has 4, outside \[0, 3\].*Remedy"),
        ((LOG_PROBS, LABELS, None, torch.tensor([3, -1])), {}, "target_counts: item 1 has -1, outside.*Remedy"),
        ((LOG_PROBS, LABELS, None, torch.tensor([3])), {}, "target_counts: shape.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank_weight": -1}, "blank_weight: -1.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank_weight": math.nan}, "blank_weight: nan.*Remedy"),
        ((LOG_PROBS, LABELS), {"repeat_weight": math.inf}, "repeat_weight: inf.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank_weight": math.inf}, "blank_weight: item 1 has equal labels side by side.*Remedy"),
        ((LOG_PROBS, LABELS, None, torch.tensor([0, 1])), {"blank_weight": math.inf}, "blank_weight: item 0 has no labels.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank": np.float64(0)}, "blank: .*Remedy"),
        ((LOG_PROBS, LABELS), {"blank": True}, "blank: True.*Remedy"),
        ((LOG_PROBS, LABELS), {"blank_weight": "1"}, "blank_weight: '1'.*Remedy"),
        ((LOG_PROBS, LABELS), {"repeat_weight": 10**400}, "repeat_weight: 10+[.].*Remedy"),
        ((LOG_PROBS, LABELS.bool()), {}, "labels: torch.bool.*Remedy"),
        ((LOG_PROBS[:, :, :0], LABELS), {}, "log_probs, labels: shapes.*Remedy"),
        ((LOG_PROBS.log(), LABELS), {}, r"log_probs: item 0 holds -inf at frame 0, class 0.*Remedy"),
        ((LOG_PROBS / (torch.arange(3) != 2), LABELS), {}, r"log_probs: item 0 holds nan at frame 0, class 2.*Remedy"),
    ],
)
def test_what_ctc_refuses(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        ctc_loss(*arguments, **options)


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2, 5), torch.zeros(2, 5), torch.zeros(2, 3, 4)), "logits, blank_logits, targets: shapes.*Remedy"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 4), torch.zeros(2, 3, 4)), "logits, blank_logits, targets: shapes.*Remedy"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 5), torch.zeros(2, 3, 5)), "logits, blank_logits, targets: shapes.*Remedy"),
        (
            (torch.full((2, 5, 4), math.nan), torch.zeros(2, 5), torch.zeros(2, 1, 4)),
            "logits: item 0 holds nan at frame 0, output 0.*Remedy",
        ),
        ((torch.zeros(2, 5, 4), torch.full((2, 5), math.inf), torch.zeros(2, 1, 4)), "blank_logits: item 0 holds inf at frame 0.*Remedy"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 5).long(), torch.zeros(2, 3, 4)), "blank_logits: torch.int64.*Remedy"),
        ((torch.zeros(2, 5, 4).long(), torch.zeros(2, 5), torch.zeros(2, 3, 4)), "logits: torch.int64.*Remedy"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 5), torch.full((2, 1, 4), 2.0)), "targets: item 0 has values outside.*Remedy"),
        ((torch.zeros(2, 5, 4), torch.zeros(2, 5), torch.zeros(2, 4, 4)), "frame_counts: item 0 has 5 frames, too few for 4 labels and 3"),
    ],
)
def test_what_multi_label_ctc_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        multi_label_ctc_loss(*arguments)


GRAPH = {"label_cost": torch.zeros(2, 5, 3), "blank_cost": torch.zeros(2, 5), "repeated": torch.zeros(2, 3, dtype=torch.bool)}


@pytest.mark.usefixtures("without_shape_types")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"blank_cost": torch.zeros(2, 4)}, r"label_cost, blank_cost, repeated: shapes .* \(2, 4\) and \(2, 3\) do not fit.*Remedy"),
        ({"label_cost": torch.zeros(5, 3)}, "label_cost, blank_cost, repeated: shapes.*Remedy"),
        ({"label_cost": np.zeros((2, 5, 3))}, "label_cost: a ndarray.*Remedy"),
        ({"repeated": torch.zeros(2, 3, dtype=torch.int64)}, "repeated: torch.int64.*Remedy"),
        ({"target_counts": [3, 3]}, "target_counts: a list.*Remedy"),
        ({"target_counts": torch.tensor([3, 4])}, r"target_counts: item 1 has 4, outside \[0, 3\].*Remedy"),
    ],
)
def test_graphs_that_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        ctc_graph(**(GRAPH | changed))


@pytest.mark.usefixtures("without_shape_types")
def test_numbers_may_be_those_of_numpy():
    plain = ctc_loss(LOG_PROBS, LABELS, blank=0, blank_weight=2, repeat_weight=0.5)
    assert torch.equal(plain, ctc_loss(LOG_PROBS, LABELS, blank=np.int64(0), blank_weight=np.int64(2), repeat_weight=np.float32(0.5)))


def test_classes_that_no_label_names_may_be_impossible():
    log_probs = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    impossible = log_probs.clone()
    impossible[:, :, 2] = -math.inf
    labels = torch.tensor([[1, 3, 2]]), None, torch.tensor([2])  # the 2 is padding
    assert torch.equal(ctc_loss(impossible, *labels), ctc_loss(log_probs, *labels))
