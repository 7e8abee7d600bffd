"""NaN and infinity, wherever they come from, never reach the weights; their files are named, and what was computed is kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor, nn

from interrupted_runs import Stop, TinyModel, train_with_stops
from softscribe.errors import InputError
from softscribe.models import MODELS
from softscribe.training import TrainSettings, data_module, train
from softscribe.training.checkpoints import LAST, read_checkpoint
from softscribe.training.losses import SdtwLoss
from softscribe.training.module import BAD_STEPS_UNTIL_STOP
from softscribe.training.segments import Batch, Item, collate

BAD_MELODY = 1
KINDS = ("features", "targets", "loss", "gradient")
VALUES = (float("nan"), float("inf"), float("-inf"))


class PoisonedGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, loss: Tensor, value: float) -> Tensor:
        context.value = value
        return loss.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.value, None


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Put a value into what belongs to one melody of the training, wherever it is drawn."""
    loss_before = SdtwLoss.__call__

    def poisoned_collate(kind: str, value: float, items: list[Item]) -> Batch:
        batch = collate(items)
        if kind in ("features", "targets"):
            for position, item in enumerate(items):
                if item.number == BAD_MELODY:
                    getattr(batch, kind)[position].view(-1)[7] = value
        return batch

    def poisoned_loss(kind: str, value: float, loss: SdtwLoss, logits: Tensor, batch: Batch, progress: float) -> Tensor:
        computed = loss_before(loss, logits, batch, progress)
        if BAD_MELODY not in batch.numbers.tolist() or kind not in ("loss", "gradient"):
            return computed
        return computed + value if kind == "loss" else PoisonedGradient.apply(computed, value)

    def apply(kind: str, value: float) -> None:
        # A lambda's name does not matter to a loader without workers.
        monkeypatch.setattr(data_module, "collate", lambda items: poisoned_collate(kind, value, items))
        monkeypatch.setattr(SdtwLoss, "__call__", lambda *arguments: poisoned_loss(kind, value, *arguments))

    return apply


def finite(checkpoint: dict[str, Any]) -> bool:
    moments = [value for state in checkpoint["optimizer_states"][0]["state"].values() for value in state.values()]
    return all(torch.isfinite(tensor).all() for tensor in [*checkpoint["state_dict"].values(), *moments])


@pytest.fixture
def few_steps(demanding: TrainSettings) -> TrainSettings:
    """One melody per batch, so that only every third batch is bad; without validation."""
    trainer = replace(demanding.trainer, batch_size=1, accumulated_batches=1, steps=6, validation_interval_steps=100)
    return replace(demanding, trainer=trainer)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_melody_is_left_out_and_named(
    few_steps: TrainSettings, tmp_path: Path, poison: Callable, capsys: pytest.CaptureFixture, kind: str, value: float
) -> None:
    poison(kind, value)
    train(few_steps, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    assert finite(checkpoint)
    assert checkpoint["global_step"] == 6, "steps that are left out count"
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(lines) == 2, "the melody is drawn once per pass"
    [store] = Path(few_steps.store).iterdir()
    named = f"{kind} not finite, so the step was left out. Its segments: melody1 0000 ({store / 'melody1.npy'})."
    assert all(line.endswith(named) for line in lines)


def test_bad_steps_that_good_ones_interrupt_stop_no_run(few_steps: TrainSettings, tmp_path: Path, poison: Callable) -> None:
    """Six of eighteen, never three in a row."""
    poison("loss", float("nan"))
    train(replace(few_steps, trainer=replace(few_steps.trainer, steps=18)), tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)["global_step"] == 18


def test_in_a_step_of_two_batches_the_bad_one_alone_is_named(
    few_steps: TrainSettings, tmp_path: Path, poison: Callable, capsys: pytest.CaptureFixture
) -> None:
    """Also when the bad one comes first."""
    poison("features", float("nan"))
    train(replace(few_steps, trainer=replace(few_steps.trainer, accumulated_batches=2)), tmp_path / "run")
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(lines) == 4, "in twelve batches there are four passes over three melodies"
    assert not any(other in line for line in lines for other in ("melody0", "melody2"))
    assert finite(read_checkpoint(tmp_path / "run" / "checkpoints" / LAST))


def test_a_bad_step_changes_nothing_but_the_clock(few_steps: TrainSettings, tmp_path: Path, poison: Callable) -> None:
    """With all steps bad the weights are those of the beginning."""
    settings = replace(few_steps, trainer=replace(few_steps.trainer, batch_size=3, steps=BAD_STEPS_UNTIL_STOP, checkpoint_interval_steps=1))
    poison("loss", float("nan"))
    with pytest.raises(InputError):
        train(settings, tmp_path / "run")
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    torch.manual_seed(settings.seed)
    beginning = torch.nn.Linear(216, 12)
    assert torch.equal(last["state_dict"]["model.linear.weight"], beginning.weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stops", [[], [Stop("exception", "batch", 3)]], ids=["at once", "resumed"])
def test_after_a_row_of_bad_steps_the_run_stops_and_leaves_a_dump(
    few_steps: TrainSettings, tmp_path: Path, poison: Callable, kind: str, stops: list[Stop]
) -> None:
    """Each batch holds all melodies, so each step is bad; a resumed run goes on counting."""
    settings = replace(few_steps, trainer=replace(few_steps.trainer, batch_size=3, steps=20, checkpoint_interval_steps=1))
    poison(kind, float("nan"))
    with pytest.raises(InputError, match=rf"{BAD_STEPS_UNTIL_STOP}th in a row.*Remedy") as error:
        train_with_stops(settings, tmp_path / "run", stops)
    dump = tmp_path / "run" / f"not-finite-step-{BAD_STEPS_UNTIL_STOP - 1:06d}.safetensors"
    assert str(dump) in str(error.value)
    tensors = load_file(dump)
    assert tensors["0/features"].shape[0] == 3
    assert torch.isfinite(tensors["0/features"]).all() == (kind != "features")
    assert torch.isfinite(tensors["0/targets"]).all() == (kind != "targets")
    described = json.loads(dump.with_suffix(".json").read_text())
    assert described["not_finite"] == kind
    assert sorted(name.split()[0] for name in described["batches"][0]["segments"]) == ["melody0", "melody1", "melody2"]
    assert finite(read_checkpoint(tmp_path / "run" / "checkpoints" / LAST))


@pytest.mark.parametrize("kind", ["features", "targets"])
def test_in_validation_the_files_are_named(few_steps: TrainSettings, tmp_path: Path, poison: Callable, monkeypatch: Any, kind: str) -> None:
    monkeypatch.setitem(globals(), "BAD_MELODY", 0)
    poison(kind, float("nan"))
    settings = replace(few_steps, trainer=replace(few_steps.trainer, batch_size=1, steps=2, validation_interval_steps=2))
    with pytest.raises(InputError, match=rf"validation: {kind} not finite.*melody3"):
        train(settings, tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_melody_leaves_no_trace_in_the_statistics_of_batches(
    few_steps: TrainSettings, tmp_path: Path, poison: Callable, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """They are gathered in the forward pass, before anything else is known of a batch."""

    class Normalising(TinyModel):
        def __init__(self, in_channels: int, outputs: int) -> None:
            super().__init__(in_channels, outputs)
            self.norm = nn.BatchNorm1d(outputs)

        def forward(self, features: Tensor) -> Tensor:
            return self.norm(super().forward(features).transpose(1, 2)).transpose(1, 2)

    monkeypatch.setitem(MODELS, "normalising", Normalising)
    poison(kind, float("inf"))
    train(replace(few_steps, model={"name": "normalising"}), tmp_path / "run")
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    assert finite(last)
    assert last["state_dict"]["model.norm.num_batches_tracked"] == (6 if kind == "gradient" else 4)


def test_weights_that_a_step_of_finite_gradients_spoils_are_not_saved(few_steps: TrainSettings, tmp_path: Path) -> None:
    class Explode(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
            if trainer.global_step == 4:
                pl_module.model.linear.bias.data[3] = torch.inf  # type: ignore[union-attr, operator, index]

    settings = replace(few_steps, trainer=replace(few_steps.trainer, checkpoint_interval_steps=1))
    with pytest.raises(InputError, match=r"step 4: weights that are NaN or infinite \(model\.linear\.bias\).*Remedy"):
        train(settings, tmp_path / "run", callbacks=[Explode()])
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / LAST)
    assert last["global_step"] == 3
    assert finite(last)


def test_weights_and_not_files_are_blamed_for_a_validation_without_numbers(few_steps: TrainSettings, tmp_path: Path) -> None:
    class Explode(Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            pl_module.model.linear.bias.data[3] = torch.nan  # type: ignore[union-attr, operator, index]

    settings = replace(few_steps, trainer=replace(few_steps.trainer, validation_interval_steps=2))
    with pytest.raises(InputError, match=r"step 2: weights that are NaN or infinite"):
        train(settings, tmp_path / "run", callbacks=[Explode()])


def test_a_model_that_is_not_finite_to_begin_with_is_named(
    few_steps: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Masked(TinyModel):
        def __init__(self, in_channels: int, outputs: int) -> None:
            super().__init__(in_channels, outputs)
            self.register_buffer("mask", torch.full((2,), -torch.inf))

    monkeypatch.setitem(MODELS, "masked", Masked)
    with pytest.raises(InputError, match=r"model: model\.mask not finite before training\. Remedy"):
        train(replace(few_steps, model={"name": "masked"}), tmp_path / "run")
