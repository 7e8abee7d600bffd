"""Whether a run can go on from a checkpoint, asked before it does: torch and Lightning look at nothing until they count on it."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Timer
from packaging.version import Version

from softscribe.errors import InputError
from softscribe.training.checkpoints import BestCheckpoint, LastCheckpoint
from softscribe.training.health_check import HealthCheck
from softscribe.training.module import TranscriptionModule

MOST_STEPS = 2**53
"""Beyond, no float tells one from the next."""

NEEDED = ("pytorch-lightning_version", "loops", "callbacks", "optimizer_states", "lr_schedulers", "bad_steps")


def check_resumable(checkpoint: Mapping[str, Any], trainer: pl.Trainer, module: TranscriptionModule, data: pl.LightningDataModule) -> None:
    """Try all that a run takes from a checkpoint: a copy of the module takes a step of its optimizer, the rest is restored.

    Raises:
        InputError: no run of these can go on from it.
    """
    if missing := [key for key in NEEDED if key not in checkpoint]:
        raise InputError(f"{', '.join(missing)} missing, so no run can go on from it. Remedy: resume from another run.")
    loops = checkpoint["loops"]
    fit_loop: Any = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    if not (_is_like(fit_loop, trainer.fit_loop.state_dict()) and _is_like(checkpoint["bad_steps"], 0)):
        raise InputError("its loops count no steps, so no run can go on from it. Remedy: resume from another run.")
    changed = any(name.startswith("optimizer.") for name in module.changed_settings)
    if not all(isinstance(checkpoint[key], list) for key in ("optimizer_states", "lr_schedulers")):
        raise InputError("it has no states of an optimizer and a learning rate. Remedy: resume from another run.")
    weights = (checkpoint["state_dict"], module.state_dict())
    shapes, expected = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in weights)
    if shapes != expected:
        raise InputError("the weights are those of another model. Remedy: undo the changes in the run's config.yaml.")
    module.configure_optimizers()  # a mistake in the settings is none of the checkpoint's
    with _cannot_go_on("optimizer", "undo the changes of `optimizer` in config.yaml" if changed else "resume from another run"):
        step_on_trial(checkpoint, module)
    with _cannot_go_on("run", "resume from another run"):
        # Lightning would rewrite what an older one left, other than those that softscribe ever ran with.
        if Version(checkpoint["pytorch-lightning_version"]) < Version("2.0"):
            raise InputError(f"it is of Lightning {checkpoint['pytorch-lightning_version']}. Remedy: resume from another run.")
        trainer.fit_loop.load_state_dict(copy.deepcopy(fit_loop))
        if trainer.global_step != checkpoint["global_step"]:
            raise InputError(
                f"it is of step {checkpoint['global_step']}, and its loops of {trainer.global_step}. Remedy: resume from another run."
            )
        data.load_state_dict(checkpoint[type(data).__qualname__])
        states = checkpoint["callbacks"]
        if not isinstance(states, Mapping):
            raise InputError("its callbacks have no states. Remedy: resume from another run.")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in states:
                callback.load_state_dict(copy.deepcopy(states[callback.state_key]))
                if isinstance(callback, HealthCheck):
                    callback.check_memory(module.model, trainer.global_step)
            elif isinstance(callback, BestCheckpoint):
                raise InputError("it does not say which checkpoint was the best. Remedy: resume from another run.")
            if isinstance(callback, Timer) and not (math.isfinite(callback.time_elapsed()) and callback.time_elapsed() >= 0):
                raise InputError(f"it took {callback.time_elapsed()} seconds so far. Remedy: resume from another run.")


@contextmanager
def _cannot_go_on(what: str, remedy: str) -> Iterator[None]:
    """Tell an error of any kind as one of the checkpoint."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"its {what} cannot go on ({type(error).__name__}: {error}). Remedy: {remedy}.") from error


def step_on_trial(checkpoint: Mapping[str, Any], module: TranscriptionModule) -> None:
    """Let a copy of a module go on from a checkpoint's weights, optimizer and learning rate, for one step without a gradient.

    Raises:
        InputError: its weights are, or become, NaN or infinite.
        Exception: almost any, as torch meets it.
    """
    trial = copy.deepcopy(module)
    configured: Any = trial.configure_optimizers()
    scheduled = isinstance(configured, dict)
    optimizer = configured["optimizer"] if scheduled else configured
    trial.load_state_dict(checkpoint["state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    rate = configured["lr_scheduler"]["scheduler"] if scheduled else None
    if rate is not None and checkpoint["lr_schedulers"]:  # there is none of a run whose rate a plateau lowered
        rate.load_state_dict(checkpoint["lr_schedulers"][0])
    trial.take_changes(optimizer, rate, checkpoint["global_step"])
    for group in optimizer.param_groups if optimizer.defaults.get("capturable") else ():  # a matter of GPUs; this is on the CPU
        group["capturable"] = False
    for parameter in trial.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(lambda: torch.zeros(()))  # some optimizers ask for the loss
    if rate is not None:
        rate.step()
    if not all(bool(tensor.isfinite().all()) for tensor in trial.state_dict().values()):
        raise InputError("weights that are, or would become, NaN or infinite. Remedy: train anew with a lower learning rate.")


def _is_like(counts: Any, expected: Any) -> bool:
    """Whether Lightning's loops hold counts where they hold them today; it would find out when it adds to them."""
    if isinstance(counts, Mapping):
        known = expected if isinstance(expected, Mapping) else {}
        return not isinstance(expected, int) and all(_is_like(value, known.get(key)) for key, value in counts.items())
    return type(counts) in (int, bool) and not isinstance(expected, Mapping) and 0 <= counts < MOST_STEPS


def settings_in_words(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return each value of nested settings as text, by its name: a checkpoint holds nothing but plain values.

    >>> settings_in_words({"seed": 0, "trainer": {"steps": 200, "minutes": None}})
    {'seed': '0', 'trainer.steps': '200', 'trainer.minutes': 'None'}
    """
    words: dict[str, str] = {}
    for name, value in settings.items():
        words.update(settings_in_words(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)})
    return words


def settings_since(checkpoint: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, str]:
    """Return by name what differs between the settings of the run that saved a checkpoint and these, in words; nothing if it says none.

    >>> saved = {"callbacks": {"LastCheckpoint": {"settings": {"seed": "0", "trainer.steps": "200"}}}}
    >>> settings_since(saved, {"seed": "0", "trainer.steps": "300"})
    {'trainer.steps': '200 -> 300'}
    """
    saved: Any = checkpoint
    for key in ("callbacks", LastCheckpoint.__name__, "settings"):
        saved = saved.get(key) if isinstance(saved, Mapping) else None
    if not isinstance(saved, Mapping) or not all(isinstance(word, str) for pair in saved.items() for word in pair):
        return {}
    return {key: f"{saved.get(key)} -> {settings.get(key)}" for key in {**saved, **settings} if saved.get(key) != settings.get(key)}
