"""Training with Lightning: segments, losses, schedules, checkpoints, evaluation of a run."""

from softscribe.training.checkpoints import RunInterruptedError
from softscribe.training.deterministic_check import check_determinism
from softscribe.training.evaluate import evaluate
from softscribe.training.run import train
from softscribe.training.settings import EvaluateSettings, TrainSettings

__all__ = ["EvaluateSettings", "RunInterruptedError", "TrainSettings", "check_determinism", "evaluate", "train"]
