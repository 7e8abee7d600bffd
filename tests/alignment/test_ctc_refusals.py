"""What CTC, multi-label CTC and their graph refuse: a ValueError that names argument, item and remedy. For types see test_refusals.py."""

import math

import numpy as np
import pytest
import torch

from softscribe.alignment import ctc_graph, ctc_loss, multi_label_ctc_loss

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
