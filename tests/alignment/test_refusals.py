"""Arguments of the wrong kind or size: a ValueError that names argument, item and remedy; never a silent infinity or NaN.

For steps, weights, boundaries, and items without a path see test_refused_problems.py.
"""

import math
import re

import pytest
import torch

from softscribe.alignment import (
    SoftDTW,
    Step,
    StepWeights,
    Subsequence,
    align,
    bce_cost,
    cosine_cost,
    ctc_graph,
    ctc_loss,
    equivalent_targets,
    expected_alignment,
    hard_path,
    minimum,
    multi_label_ctc_loss,
    negative_log_probability_cost,
    soft_dtw,
    soft_dtw_divergence,
    squared_error_cost,
)

pytestmark = pytest.mark.usefixtures("without_shape_types")
COST = torch.zeros(2, 5, 4)
FUNCTIONS = (soft_dtw, align, expected_alignment, hard_path)
META = torch.ones(2, dtype=torch.int64, device="meta")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_costs_that_are_no_numbers(function, dtype, bad):
    """Wherever they are, but for padding."""
    for frame, target, counts in ((3, 2, {"frame_counts": [5, 3]}), (0, 3, {"target_counts": [4, 3]}), (4, 1, {"frame_counts": [1, 4]})):
        cost = COST.to(dtype, copy=True)
        cost[1, frame, target] = bad
        with pytest.raises(ValueError, match=rf"cost: item 1 holds {bad} at frame {frame}, target {target}.*Remedy"):
            function(cost)
        function(cost, **{name: torch.tensor(of_items) for name, of_items in counts.items()})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((COST.numpy(),), "cost: .*ndarray.*Remedy"),
        (([[[0.0]]],), "cost: .*list.*Remedy"),
        ((None,), "cost: .*Remedy"),
        ((COST.to_sparse(),), "cost: .*sparse.*Remedy"),
        ((COST.bool(),), "cost: torch.bool.*Remedy"),
        ((COST.to(torch.float8_e4m3fn),), "cost: torch.float8_e4m3fn.*Remedy"),
        ((COST.long(),), r"cost: torch.int64.*Remedy: cost.to\(torch.float32\)"),
        ((COST * 1j,), "cost: torch.complex64.*Remedy"),
        ((COST.to("meta"),), "cost: on meta.*Remedy: move it to a CPU"),
        ((COST[0],), r"cost: shape \(5, 4\).*Remedy: \(B, N, M\)"),
        ((COST[:, :0],), r"cost: shape \(2, 0, 4\).*Remedy.*only B may be 0"),
        ((COST[:, :, :0],), r"cost: shape \(2, 5, 0\).*Remedy.*only B may be 0"),
        ((COST, [5, 5]), "frame_counts: .*list.*Remedy"),
        ((COST, 5), "frame_counts: .*int.*Remedy"),
        ((COST, torch.tensor(5)), r"frame_counts: shape \(\).*Remedy"),
        ((COST, torch.tensor([[5], [5]])), r"frame_counts: shape \(2, 1\).*Remedy"),
        ((COST, torch.tensor([5, 5, 5])), r"frame_counts: shape \(3,\), but the cost has 2 items.*Remedy"),
        ((COST, torch.tensor([5.0, 5.0])), "frame_counts: torch.float32 does not count.*Remedy"),
        ((COST, None, torch.tensor([True, True])), "target_counts: torch.bool does not count.*Remedy"),
        ((COST, META), "frame_counts: on meta.*Remedy"),
        ((COST, torch.tensor([5, 6])), r"frame_counts: item 1 has 6, outside \[1, 5\].*Remedy"),
        ((COST, torch.tensor([5, 0])), "frame_counts: item 1 has 0.*Remedy"),
        ((COST, None, torch.tensor([-1, 4])), r"target_counts: item 0 has -1, outside \[1, 4\].*Remedy"),
        ((COST, None, torch.tensor([4, 2**40])), "target_counts: item 1 has 1099511627776.*Remedy"),
        ((COST, None, torch.tensor([0, 4])), r"target_counts: item 0 has 0, outside \[1, 4\].*Remedy"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments_of_the_wrong_kind(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


@pytest.mark.parametrize("operator", ["soft", "hard", "sparse", "smooth"])
@pytest.mark.parametrize("gamma", [0, 0.0, -1, True, False, "1", None, math.nan, math.inf, -math.inf, 1j, [1.0], torch.tensor([1.0])])
def test_gammas(gamma, operator):
    words = rf"gamma: {re.escape(repr(gamma))} .*Remedy"
    for function in (soft_dtw, align, expected_alignment):
        with pytest.raises(ValueError, match=words):
            function(COST, gamma=gamma, operator=operator)
    with pytest.raises(ValueError, match=words):
        minimum(torch.zeros(3), operator, gamma)
    with pytest.raises(ValueError, match=words):
        SoftDTW(gamma=gamma, operator=operator)


VECTORS, LABELS = torch.zeros(2, 5, 3), torch.ones(2, 2, dtype=torch.int64)
TENSORS = {
    bce_cost: {"logits": VECTORS, "targets": VECTORS},
    squared_error_cost: {"frames": VECTORS, "targets": VECTORS},
    cosine_cost: {"frames": VECTORS, "targets": VECTORS},
    negative_log_probability_cost: {"log_probs": VECTORS, "labels": LABELS},
    ctc_loss: {"log_probs": VECTORS, "labels": LABELS},
    multi_label_ctc_loss: {"logits": VECTORS, "blank_logits": VECTORS[:, :, 0], "targets": VECTORS[:, :2]},
    ctc_graph: {"label_cost": VECTORS, "blank_cost": VECTORS[:, :, 0], "repeated": VECTORS[:, 0].bool()},
    soft_dtw_divergence: {"x": VECTORS, "y": VECTORS},
    equivalent_targets: {"gradient": VECTORS, "targets": VECTORS[:, :3]},
    minimum: {"values": VECTORS},
}


@pytest.mark.parametrize(("function", "name"), [(function, name) for function, tensors in TENSORS.items() for name in tensors])
def test_whatever_takes_a_tensor_takes_nothing_else(function, name):
    good = TENSORS[function]
    function(**good)
    for wrong, words in (
        (good[name].numpy(), "a ndarray"),
        (good[name].tolist(), "a list"),
        (None, "a NoneType"),
        (good[name] * 1j, "torch.complex64 is not computed with"),
        (good[name].to_sparse(), "torch.sparse_coo is not computed with"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: {words}.*Remedy"):
            function(**(good | {name: wrong}))
    if name != next(iter(good)):
        with pytest.raises(ValueError, match=rf"^{name}: on meta, but .* on cpu.*Remedy"):
            function(**(good | {name: good[name].to("meta")}))
    if len(good) > 1:
        with pytest.raises(ValueError, match=rf"^{', '.join(good)}: shapes .* do not fit. Remedy: \(B, .*\) and"):
            function(**(good | {name: good[name][:, None]}))


@pytest.mark.parametrize("dim", [3, -4, 1.0, True, None, "0"])
def test_axes_that_there_are_not(dim):
    with pytest.raises(ValueError, match=r"dim: .* has 3 axes.*Remedy"):
        minimum(VECTORS, dim=dim)


@pytest.mark.parametrize("operator", ["softmin", "", None, 1, ["soft"]])
def test_operators(operator):
    for refusing in (
        lambda: soft_dtw(COST, operator=operator),
        lambda: minimum(torch.zeros(3), operator),
        lambda: SoftDTW(operator=operator),
    ):
        with pytest.raises(ValueError, match=r"operator: .*Remedy: one of soft, hard, sparse, smooth"):
            refusing()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": ()}, r"steps: \(\).*Remedy"),
        ({"steps": Step(1, 1)}, "steps: .*Remedy: a tuple"),
        ({"steps": [(1, 1)]}, "steps: .*Remedy"),
        ({"steps": StepWeights()}, "steps: .*Remedy"),
        ({"weights": (1, 1, 1)}, "weights: .*Remedy"),
        ({"weights": None}, "weights: .*Remedy"),
        ({"weights": StepWeights(diagonal=2), "steps": (Step(1, 1),)}, "weights, steps: both are given.*Remedy"),
        ({"boundaries": "both"}, "boundaries: 'both'.*Remedy"),
        ({"boundaries": None}, "boundaries: None.*Remedy"),
        ({"boundaries": Subsequence}, "boundaries: .*Remedy"),
    ],
)
def test_options_of_the_wrong_kind(options, words):
    for refusing in (*FUNCTIONS, lambda cost, **options: SoftDTW(**options)):
        with pytest.raises(ValueError, match=words):
            refusing(COST, **options)


@pytest.mark.parametrize("options", [{"foo": 1}, {"operators": "soft"}, {"step_weights": None}])
def test_options_that_do_not_exist(options):
    for function in FUNCTIONS:
        with pytest.raises(TypeError, match=next(iter(options))):
            function(COST, **options)


@pytest.mark.parametrize("option", [{"operator": "soft"}, {"gamma": 2.0}])
def test_the_hard_path_knows_neither_operator_nor_temperature(option):
    with pytest.raises(TypeError, match=f"hard_path.*{next(iter(option))}"):
        hard_path(COST, **option)


@pytest.mark.parametrize("function", [soft_dtw, align])
def test_costs_beyond_gamma_times_the_range_are_refused(function):
    """A weight of 0 would make 0 x infinity of them."""
    cost = torch.zeros(1, 2, 5).double()
    cost[0, 1, 3] = torch.finfo(torch.float64).max
    function(cost, gamma=1.0, weights=StepWeights(horizontal=0))
    with pytest.raises(ValueError, match=r"cost / gamma: item 0 holds inf at frame 1, target 3\. Remedy"):
        function(cost, gamma=0.1, weights=StepWeights(horizontal=0))


def test_a_module_refuses_what_its_function_does_when_it_is_made():
    with pytest.raises(ValueError, match=r"validate: 'no'.*Remedy"):
        SoftDTW(validate="no")


def test_steps_can_be_compared_whatever_they_hold():
    one, equal, other = (Step(1, 0, weight=torch.full((7,), value)) for value in (1.0, 1.0, 2.0))
    assert one == equal != other != Step(1, 0)
    assert Step(1, 1, weight=2) == Step(1, 1, weight=2.0) != Step(1, 2, weight=2)
    assert len({one, equal, other}) == 2
