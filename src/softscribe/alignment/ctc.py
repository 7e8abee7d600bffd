"""Connectionist temporal classification (CTC) as soft-DTW: it is soft-DTW on a graph of its own, with gamma 1.

Every frame emits one of M labels, in their order, or the blank, which says nothing. A label may last for several frames; blanks may stand
before, between and after labels, and have to stand between two equal ones. So the targets of the alignment are the 2M + 1 STATES

    blank, label 1, blank, label 2, ..., label M, blank

and every step goes to the next frame: Step(1, 0) stays in a state, Step(1, 1) goes to the next one, Step(1, 2) skips a blank between two
labels that differ. Paths start in one of the first two states and end in one of the last two. What a cell costs is minus the
log-probability of the state's symbol in that frame, so that softmin at gamma 1 gives minus the log-probability of the whole sequence.

`ctc_graph` returns just that: a cost matrix, steps and boundaries, which `align`, `expected_alignment` and `hard_path` (the most likely
path) take as well.

Sources: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification", ICML 2006; C. Weiss, G. Peeters,
"Training deep pitch-class representations with a multi-label CTC loss", ISMIR 2021; J. Zeitler, M. Mueller, "A unified perspective on CTC
and SDTW using differentiable DTW", 2025 (CTC as soft-DTW, and the weights).
"""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softscribe.alignment import checks
from softscribe.alignment.arguments import FLOATING, INTEGER, REAL, check_tensors, whole_number
from softscribe.alignment.backends import check_flag
from softscribe.alignment.costs import bce_cost, check_labels, negative_log_probability_cost
from softscribe.alignment.ctc_graph import ctc_graph
from softscribe.alignment.soft_dtw import soft_dtw


def ctc_loss(
    log_probs: Float[Tensor, "B N K"],
    labels: Int[Tensor, "B M"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    blank: int = 0,
    blank_weight: int | float = 1.0,
    repeat_weight: int | float = 1.0,
    validate: bool = False,
) -> Float[Tensor, " B"]:
    """Return minus the log-probability that the frames emit an item's labels.

    With weights of 1 the loss is that of `torch.nn.functional.ctc_loss(..., reduction="none")`, and so is the gradient at the logits that
    a log_softmax made log-probabilities of. The gradient at `log_probs` is not: here it is the derivative, minus the probability that a
    frame emits a class; torch's is what log_softmax turns into the same thing, and wrong for anything else.

    Args:
        log_probs: of K classes in every frame, such as `logits.log_softmax(dim=2)`. They need not be normalised, but finite for
            the blank and the labels.
        labels: classes in their order, without blanks; padding may hold anything.
        frame_counts: frames of every item, in [1, N]; what lies beyond never matters. None: N.
        target_counts: labels of every item, in [0, M]: without a label all frames are to be blank. None: M.
        blank: the class that is the blank.
        blank_weight: multiplies the cost of every blank, that of a first one included: 1 is CTC; more makes labels last longer; infinity
            forbids them, so that neighbouring labels may not be equal.
        repeat_weight: multiplies the cost of every frame of a label but its first; finite.
        validate: look at values on a GPU, too, which makes it wait. On a CPU they are always looked at. Without it, on a GPU, an item with
            a log-probability that is not finite where paths pass, with a label that is the blank or no class, or with a count out of range,
            has the loss NaN, one with too few frames infinity.

    Weights other than 1 are those of Zeitler and Mueller (their blank weights are 1, 2 and infinity; there a first blank has weight 1).
    CTC runs where the log-probabilities are, by the common kernels.

    Returns:
        The losses, in nats, neither averaged nor divided by lengths: (B,), float64 for float64 log-probabilities, else float32.

    Raises:
        ValueError: an argument has the wrong type, shape, device or range, a log-probability that is needed is not finite, or an item has
            too few frames for its labels.

    Source: A. Graves et al., "Connectionist temporal classification", ICML 2006.

    One label in two frames is emitted as (blank, label), (label, blank) or (label, label):

    >>> ctc_loss(torch.tensor([[[0.6, 0.4], [0.5, 0.5]]]).log(), torch.tensor([[1]])).neg().exp()
    tensor([0.7000])
    """
    check_tensors(log_probs=(log_probs, "B N K", FLOATING), labels=(labels, "B M?", INTEGER))
    classes = log_probs.shape[2]
    blank_class = whole_number(blank)
    if blank_class is None or not 0 <= blank_class < classes:
        raise ValueError(f"blank: {blank!r}. Remedy: one of the classes, in [0, {classes}).")
    looked_at = _looked_at(log_probs, validate)
    frame_counts, target_counts = _checked_counts("log_probs", log_probs, labels, frame_counts, target_counts, looked_at)
    inside = _inside(labels, target_counts)
    blanks = inside & (labels == blank_class)
    if looked_at and blanks.any():
        item, target = blanks.nonzero()[0].tolist()
        raise ValueError(
            f"labels: item {item} has the blank, {blank_class}, at target {target}. Remedy: labels alone; blanks come by themselves."
        )
    labels = labels.long().where(inside, blank_class)
    if looked_at:
        check_labels(labels, classes)
        _check_emitted(log_probs, labels, frame_counts, blank_class)
    wrong = blanks | (labels < 0) | (labels >= classes)
    labels = labels.where(~wrong, blank_class)
    repeated = torch.zeros_like(inside)
    repeated[:, 1:] = labels[:, 1:] == labels[:, :-1]
    log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    label_cost, blank_cost = negative_log_probability_cost(log_probs, labels), -log_probs[:, :, blank_class]
    if not looked_at:
        label_cost = label_cost.masked_fill(wrong[:, None], math.nan)
    return _loss(label_cost, blank_cost, repeated & inside, frame_counts, target_counts, blank_weight, repeat_weight, looked_at)


def multi_label_ctc_loss(
    logits: Float[Tensor, "B N K"],
    blank_logits: Float[Tensor, "B N"],
    targets: Shaped[Tensor, "B M K"],
    frame_counts: Int[Tensor, " B"] | None = None,
    target_counts: Int[Tensor, " B"] | None = None,
    *,
    blank_weight: int | float = 1.0,
    repeat_weight: int | float = 1.0,
    validate: bool = False,
) -> Float[Tensor, " B"]:
    """Return the CTC loss of sequences of multi-hot targets, K outputs that are each on or off (MCTC with epsilon, "MCTC:WE").

    A frame emits target y if the blank is off and every output is on or off as y has it; it emits the blank if the blank is on, whatever
    the outputs are. In log-probabilities, with p = sigmoid(logits) and q = sigmoid(blank_logits):

        target:  sum over k of y_k log p_k + (1 - y_k) log(1 - p_k),  plus log(1 - q)
        blank:   log q

    These do not sum to 1 over anything, which the published loss, torch's `ctc_loss` fed with them, presumes on its way back: it
    trains along something that is no derivative. The value here is the published one, the gradient its derivative.

    Source: C. Weiss, G. Peeters, "Training deep pitch-class representations with a multi-label CTC loss", ISMIR 2021.

    A network that returns log-probabilities (B, 2, N, 1 + K) of off and on, with the blank as output 0, as published, has
    `logits = log_probs[:, 1, :, 1:] - log_probs[:, 0, :, 1:]` and `blank_logits = log_probs[:, 1, :, 0] - log_probs[:, 0, :, 0]`.

    Args:
        logits: outputs of a network before the sigmoid.
        blank_logits: the blank's.
        targets: 0 or 1, or anything in between; neighbours that are equal need a blank between them. Padding may hold anything.
        frame_counts: as for `ctc_loss`, and so are all that follow.

    Returns:
        The losses, in nats, neither averaged nor divided by lengths: (B,), float64 for float64 logits, else float32.

    Raises:
        ValueError: an argument has the wrong type, shape, device or range, a logit is not finite, or an item has too few frames for its
            targets. The range of targets is looked at on a CPU only.

    >>> multi_label_ctc_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.ones(1, 1, 3)).neg().exp()  # 2/2 x 1/16 + 1/16 x 1/16
    tensor([0.0664])
    """
    check_tensors(logits=(logits, "B N K", FLOATING), blank_logits=(blank_logits, "B N", FLOATING), targets=(targets, "B M? K", REAL))
    looked_at = _looked_at(logits, validate)
    frame_counts, target_counts = _checked_counts("logits", logits, targets, frame_counts, target_counts, looked_at)
    if looked_at:
        checks.check_finite(logits.detach(), frame_counts, None, "logits", ("frame", "output"))
        checks.check_finite(blank_logits.detach()[:, :, None], frame_counts, None, "blank_logits", ("frame", "output"))
    inside, frames_inside = _inside(targets, target_counts), _inside(logits, frame_counts)
    targets = targets.where(inside[:, :, None], 0)
    repeated = torch.zeros_like(inside)
    repeated[:, 1:] = (targets[:, 1:] == targets[:, :-1]).all(dim=2)
    # Zeros for padding: NaN there would come back as a gradient, through 0 x NaN.
    label_cost = bce_cost(logits.where(frames_inside[:, :, None], 0), targets)
    blank_logits = blank_logits.where(frames_inside, 0).to(label_cost.dtype)
    not_blank_cost, blank_cost = (-torch.nn.functional.logsigmoid(sign * blank_logits) for sign in (-1, 1))
    label_cost = label_cost + not_blank_cost[:, :, None]
    return _loss(label_cost, blank_cost, repeated & inside, frame_counts, target_counts, blank_weight, repeat_weight, looked_at)


def _loss(
    label_cost: Tensor,
    blank_cost: Tensor,
    repeated: Tensor,
    frame_counts: Tensor,
    target_counts: Tensor,
    blank_weight: int | float,
    repeat_weight: int | float,
    looked_at: bool,
) -> Tensor:
    graph = ctc_graph(label_cost, blank_cost, repeated, target_counts, blank_weight=blank_weight, repeat_weight=repeat_weight)
    if looked_at:
        _check_feasible(frame_counts, target_counts, repeated, blanks_allowed=blank_weight != math.inf)
    return soft_dtw(graph.cost, frame_counts, graph.state_counts, validate=looked_at, **graph.options)


def _looked_at(values: Tensor, validate: bool) -> bool:
    """Return whether values are looked at."""
    check_flag(validate)
    return validate or values.device.type == "cpu"


def _checked_counts(
    owner: str, frames: Tensor, targets: Tensor, frame_counts: Tensor | None, target_counts: Tensor | None, looked_at: bool
) -> tuple[Tensor, Tensor]:
    """Check types, shapes, devices and, if they are looked at, values of both, and return them as int64."""
    frame_counts = checks.checked_count("frame_counts", frame_counts, owner, frames, frames.shape[1])
    target_counts = checks.checked_count("target_counts", target_counts, owner, frames, targets.shape[1])
    if looked_at:
        checks.check_range("frame_counts", frame_counts, 1, frames.shape[1])
        checks.check_range("target_counts", target_counts, 0, targets.shape[1])
    return frame_counts, target_counts


def _check_emitted(log_probs: Tensor, labels: Tensor, frame_counts: Tensor, blank_class: int) -> None:
    """Raise ValueError if a log-probability is not finite that is neither padding nor of a class that no label of the item names."""
    if torch.isfinite(log_probs).all():
        return
    emitted = torch.zeros(len(labels), 1, log_probs.shape[2], dtype=torch.bool, device=labels.device)
    emitted[:, :, blank_class] = True
    emitted.scatter_(2, labels[:, None], True)
    checks.check_finite(log_probs.detach().where(emitted, 0), frame_counts, None, "log_probs", ("frame", "class"))


def _inside(sequences: Tensor, counts: Tensor) -> Tensor:
    """Where sequences (B, length, ...) are not padding. Shape: (B, length)"""
    return torch.arange(sequences.shape[1], device=sequences.device) < counts[:, None]


def _check_feasible(frame_counts: Tensor, target_counts: Tensor, repeated: Tensor, *, blanks_allowed: bool) -> None:
    """Raise ValueError if an item has no path, and say why, before any recursion."""
    repetitions = repeated.sum(dim=1)
    if not blanks_allowed:
        impossible = (repetitions > 0) | (target_counts == 0)
        if impossible.any():
            item = int(impossible.int().argmax())
            reason = "has equal labels side by side" if repetitions[item] else "has no labels"
            raise ValueError(f"blank_weight: item {item} {reason}, which takes blanks. Remedy: a finite weight, or leave the item out.")
    too_short = frame_counts < target_counts + repetitions
    if too_short.any():
        item = int(too_short.int().argmax())
        frames, labels, blanks = (int(counts[item]) for counts in (frame_counts, target_counts, repetitions))
        raise ValueError(
            f"frame_counts: item {item} has {frames} frames, too few for {labels} labels and {blanks} blanks between equal ones. "
            "Remedy: more frames per second, fewer labels, or leave the item out."
        )
