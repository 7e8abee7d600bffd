"""Bad input of every kind: a ValueError that names argument, item and remedy; never a silent infinity, NaN or wrong number."""

import math

import numpy as np
import pytest
import torch

from softscribe.alignment import (
    TWO_ONE_STEPS,
    BoundaryCell,
    BoundaryCells,
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
from softscribe.alignment.cpu import backend

pytestmark = pytest.mark.usefixtures("without_shape_types")
COST = torch.zeros(2, 5, 4)
FUNCTIONS = (soft_dtw, align, expected_alignment, hard_path)
HUGE = 10**400
NUMPY_FLOATS = (np.float16, np.float32, np.float64)
KEEPING = (Step(1, 0), Step(0, 1))


def changed(value: float, *index: int, shape: tuple[int, ...] = (2, 5, 4)) -> torch.Tensor:
    tensor = torch.ones(shape)
    tensor[index] = value
    return tensor


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_costs_that_are_no_numbers(function, dtype, bad):
    with pytest.raises(ValueError, match=rf"cost: item 1 holds {bad} at frame 3, target 2.*Remedy"):
        function(changed(bad, 1, 3, 2).to(dtype))
    function(changed(bad, 1, 3, 2).to(dtype), torch.tensor([5, 3]))  # padding now


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((COST.numpy(),), "cost: .*ndarray.*Remedy"),
        (([[[0.0]]],), "cost: .*list.*Remedy"),
        ((None,), "cost: .*Remedy"),
        ((COST.to_sparse(),), "cost: .*sparse.*Remedy"),
        ((COST.bool(),), "cost: torch.bool.*Remedy"),
        ((COST.to(torch.float8_e4m3fn),), "cost: torch.float8_e4m3fn.*Remedy"),
        ((COST[0],), r"cost: shape \(5, 4\).*Remedy"),
        ((COST[:, :, :0],), "cost: shape.*Remedy.*only B may be 0"),
        ((COST, [5, 5]), "frame_counts: .*list.*Remedy"),
        ((COST, 5), "frame_counts: .*int.*Remedy"),
        ((COST, torch.tensor(5)), r"frame_counts: shape \(\).*Remedy"),
        ((COST, torch.tensor([[5], [5]])), r"frame_counts: shape \(2, 1\).*Remedy"),
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
    for function in (soft_dtw, align, expected_alignment):
        with pytest.raises(ValueError, match=r"gamma: .*Remedy"):
            function(COST, gamma=gamma, operator=operator)
    with pytest.raises(ValueError, match=r"gamma: .*Remedy"):
        minimum(torch.zeros(3), operator, gamma)
    with pytest.raises(ValueError, match=r"gamma: .*Remedy"):
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0), "frames, targets: 0 and 0.*Remedy"),
        ((-1, 1), "frames: -1.*Remedy"),
        ((1, -1), "targets: -1.*Remedy"),
        ((1.0, 1), "frames: 1.0.*Remedy"),
        ((1, True), "targets: True.*Remedy"),
        (("1", 1), "frames: '1'.*Remedy"),
        ((np.float64(1), 1), "frames: .*1.0.*Remedy"),
        ((1, np.bool_(True)), "targets: .*True.*Remedy"),
        ((1, 10**30), "targets: 10+[.].*Remedy"),
        ((1, 1, -1), "weight: -1.*Remedy"),
        ((1, 1, math.nan), "weight: nan.*Remedy"),
        ((1, 1, -math.inf), "weight: -inf.*Remedy"),
        ((1, 1, np.float32(-1)), "weight: .*-1.*Remedy"),
        ((1, 1, np.float64(math.nan)), "weight: .*nan.*Remedy"),
        ((1, 1, np.bool_(True)), "weight: .*True.*Remedy"),
        ((1, 1, np.ones(1)), "weight: array.*Remedy"),
        *(((1, 1, kind(-math.inf)), "weight: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *(((1, 1, 1, kind(-math.inf)), "cost: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *(((1, 1, 1, kind(math.nan)), "cost: .*nan.*Remedy") for kind in NUMPY_FLOATS),
        ((1, 1, "1"), "weight: '1'.*Remedy"),
        ((1, 1, None), "weight: None.*Remedy"),
        ((1, 1, True), "weight: True.*Remedy"),
        ((1, 1, 1, math.nan), "cost: nan.*Remedy"),
        ((1, 1, 1, -math.inf), "cost: -inf.*Remedy"),
        ((1, 1, torch.tensor(1)), "weight: torch.int64.*Remedy"),
        ((1, 1, torch.tensor(True)), "weight: torch.bool.*Remedy"),
        ((1, 1, 1, torch.tensor(1j)), "cost: torch.complex64.*Remedy"),
        ((1, 1, 1, torch.tensor(1.0, dtype=torch.float8_e5m2)), "cost: torch.float8_e5m2.*Remedy"),
        ((1, 1, torch.tensor(1.0, requires_grad=True)), r"weight: requires a gradient.*Remedy: weight.detach\(\)"),
    ],
)
def test_steps(arguments, words):
    with pytest.raises(ValueError, match=words):
        Step(*arguments)


@pytest.mark.parametrize("shape", [(3,), (2,), (5,), (4, 1), (5, 3), (3, 1, 1), (3, 5, 4), (1, 2, 5, 4), (0,)])
@pytest.mark.parametrize("place", ["weight", "cost"])
def test_tensors_of_cells_that_do_not_fit(shape, place):
    with pytest.raises(ValueError, match=rf"steps\[2\].{place}: shape .* does not broadcast to the cost's \(2, 5, 4\).*Remedy"):
        soft_dtw(COST, steps=(*KEEPING, Step(1, 1, **{place: torch.ones(shape)})))


@pytest.mark.parametrize(
    ("place", "tensor", "words"),
    [
        ("weight", changed(-0.5, 1, 2, 3), "item 1 has -0.5 at frame 2, target 3"),
        ("weight", changed(math.nan, 2, shape=(4,)), "item 0 has nan at frame 0, target 2"),
        ("weight", torch.tensor(-math.inf), "item 0 has -inf"),
        ("cost", changed(math.nan, 1, 2, 3), "item 1 has nan at frame 2, target 3"),
        ("cost", changed(-math.inf, 4, 0, shape=(5, 1)), "item 0 has -inf at frame 4, target 0"),
        ("cost", torch.ones(4, device="meta"), "on meta"),
        ("weight", torch.ones(4, device="meta"), "on meta"),
    ],
)
def test_tensors_of_cells_with_bad_values(place, tensor, words):
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match=rf"steps\[1\].{place}: {words}.*Remedy"):
            function(COST, steps=(Step(1, 0), Step(1, 1, **{place: tensor}), Step(0, 1)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BoundaryCell(0.0, 0, weight=1), "frame: 0.0.*Remedy"),
        (lambda: BoundaryCell(0, None, weight=1), "target: None.*Remedy"),
        (lambda: BoundaryCell(True, 0, weight=1), "frame: True.*Remedy"),
        *((lambda bad=bad: BoundaryCell(0, 0, weight=bad), "weight: .*Remedy") for bad in (-1, math.nan, math.inf, None, "1", True)),
        *((lambda bad=bad: BoundaryCell(0, 0, weight=1, cost=bad), "cost: .*Remedy") for bad in (math.nan, math.inf, -math.inf, None, "1")),
        *((lambda kind=kind: BoundaryCell(0, 0, weight=1, cost=kind(-math.inf)), "cost: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        *((lambda kind=kind: BoundaryCell(0, 0, weight=kind(math.inf)), "weight: .*inf.*Remedy") for kind in NUMPY_FLOATS),
        *((lambda kind=kind: StepWeights(diagonal=kind(-math.inf)), "diagonal: .*-inf.*Remedy") for kind in NUMPY_FLOATS),
        (lambda: StepWeights(diagonal=np.float32(math.nan)), "diagonal: .*nan.*Remedy"),
        (lambda: BoundaryCells(start=()), "start: .*Remedy"),
        (lambda: BoundaryCells(end=()), "end: .*Remedy"),
        (lambda: BoundaryCells(start=((0, 0),)), "start: .*Remedy"),
        (lambda: BoundaryCells(end=BoundaryCell(0, 0, weight=1)), "end: .*Remedy"),
        (lambda: Subsequence(), "frames, targets: nothing may be left out.*Remedy"),
        (lambda: Subsequence(frames="begin"), "frames: 'begin'.*Remedy"),
        (lambda: Subsequence(targets=True), "targets: True.*Remedy"),
        (lambda: Subsequence(frames="both", compensated=None), "compensated: None.*Remedy"),
        (lambda: StepWeights(diagonal="2"), "diagonal: .*Remedy"),
        (lambda: StepWeights(vertical=None), "vertical: .*Remedy"),
    ],
)
def test_boundaries_and_weights(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_whole_numbers_may_be_those_of_numpy():
    assert Step(np.int64(1), np.uint8(2)) == Step(1, 2)
    assert BoundaryCell(np.int32(-1), np.int64(0), weight=1) == BoundaryCell(-1, 0, weight=1)
    assert minimum(COST, dim=np.int64(1)).shape == (2, 4)


class OwnBoundaries:
    """As a user may write them."""

    def __init__(self, start: object, end: object) -> None:
        self.found = start, end

    def cells(self, frames: int, targets: int, steps: object) -> tuple:
        return self.found


FIRST, LAST = [BoundaryCell(0, 0, weight=1)], [BoundaryCell(4, 3, weight=0)]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (FIRST, LAST, None),
        ([BoundaryCell(-1, 0, weight=1)], LAST, r"start cell .*frame=-1.* for item 0, 5 frames by 4 targets"),
        (FIRST, [BoundaryCell(55, 0, weight=0)], "end cell .*frame=55"),
        (FIRST, [BoundaryCell(0, 4, weight=0)], "end cell .*target=4"),
        (2 * FIRST, LAST, "start cell"),
        ([(0, 0)], LAST, r"start cell \(0, 0\)"),
        (5, LAST, r"\(5, "),
    ],
)
def test_boundaries_of_a_users_own(start, end, words):
    for dtype in (torch.float32, torch.float64):
        if words is None:
            assert torch.equal(soft_dtw(COST.to(dtype), boundaries=OwnBoundaries(start, end)), soft_dtw(COST.to(dtype)))
        else:
            with pytest.raises(ValueError, match=f"boundaries: OwnBoundaries has .*{words}.*Remedy"):
                soft_dtw(COST.to(dtype), boundaries=OwnBoundaries(start, end))


@pytest.mark.parametrize("steps", [TWO_ONE_STEPS, (Step(1, 0, math.inf), *KEEPING[1:]), (Step(1, 0, torch.ones(4)), *KEEPING[1:])])
def test_compensation_needs_to_know_what_a_frame_costs(steps):
    with pytest.raises(ValueError, match=r"boundaries: compensation needs a step \(1, 0\).*Remedy"):
        soft_dtw(torch.zeros(1, 4, 4), steps=steps, boundaries=Subsequence(frames="end"))
    with pytest.raises(ValueError, match=r"boundaries: compensation needs a step \(0, 1\).*Remedy"):
        soft_dtw(torch.zeros(1, 4, 4), steps=(Step(1, 0), Step(1, 1)), boundaries=Subsequence(frames="both", targets="start"))


EVERYWHERE = torch.full((4,), math.inf)
IN_ITEM_1 = torch.where(torch.arange(2)[:, None, None] == 1, math.inf, 1.0)
WALL = changed(math.inf, 1, slice(None), 2)  # the third target of item 1: none goes round it


@pytest.mark.parametrize(
    ("options", "item", "reason"),
    [
        ({"steps": TWO_ONE_STEPS}, 1, r"0\.5 to 2 frames per target.*needs"),
        ({"steps": (Step(1, 0), Step(1, 1))}, 1, "frames per target"),
        ({"steps": (Step(1, 1, math.inf), Step(1, 0, 1.0, math.inf))}, 0, "every step is blocked"),
        ({"steps": (Step(2, 2), Step(1, 2), Step(2, 0))}, 0, "no sum of its steps"),
        ({"steps": (Step(1, 0, EVERYWHERE), Step(0, 1, cost=EVERYWHERE), Step(1, 1, EVERYWHERE))}, 0, "block"),
        ({"steps": (Step(1, 0, IN_ITEM_1), Step(0, 1, cost=IN_ITEM_1), Step(1, 1, IN_ITEM_1))}, 1, "block"),
        ({"steps": (Step(1, 0, WALL), Step(0, 1, cost=WALL), Step(1, 1, WALL))}, 1, "block"),
        ({"boundaries": BoundaryCells(start=(BoundaryCell(4, 0, weight=1),))}, 1, "no start cell.*inside"),
        ({"boundaries": BoundaryCells(end=(BoundaryCell(-3, 0, weight=1),))}, 1, "no end cell.*inside"),
        ({"boundaries": BoundaryCells(start=(BoundaryCell(1, 0, weight=1),), end=(BoundaryCell(0, -1, weight=0),))}, 0, "start cell"),
        ({"weights": StepWeights(horizontal=math.inf), "boundaries": Subsequence(targets="both")}, 0, "no sum of its steps"),
    ],
)
@pytest.mark.parametrize("operator", ["soft", "hard", "sparse", "smooth"])
def test_items_without_a_path_are_found_before_the_recursion(options, item, reason, operator, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("the recursion was started")

    monkeypatch.setattr(backend, "_on_torch_threads", forbidden)
    counts = torch.tensor([5, 2]), torch.tensor([4, 4])
    for function in (soft_dtw, align):
        with pytest.raises(ValueError, match=rf"cost: item {item}, \d frames by 4 targets, has no path: .*{reason}.*Remedy"):
            function(COST, *counts, operator=operator, **options)


@pytest.mark.parametrize("options", [{"foo": 1}, {"operators": "soft"}, {"step_weights": None}])
def test_options_that_do_not_exist(options):
    for function in FUNCTIONS:
        with pytest.raises(TypeError, match=next(iter(options))):
            function(COST, **options)


@pytest.mark.parametrize("option", [{"operator": "soft"}, {"gamma": 2.0}])
def test_the_hard_path_knows_neither_operator_nor_temperature(option):
    with pytest.raises(TypeError, match=f"hard_path.*{next(iter(option))}"):
        hard_path(COST, **option)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": (*KEEPING, Step(1, 1, 2.0, 0.5))},
        {"boundaries": Subsequence(frames="both")},
        {"operator": "sparse"},
        {"operator": "smooth"},
        {"operator": "hard"},
    ],
)
def test_a_second_derivative_is_refused_in_words(options):
    cost = torch.rand(2, 5, 4, requires_grad=True)
    loss = (soft_dtw(cost, **options) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, cost, create_graph=True)
    with pytest.raises(ValueError, match=r"second derivatives.*Remedy"):
        gradient.sum().backward()
