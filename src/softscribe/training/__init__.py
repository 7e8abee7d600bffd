"""Training with Lightning: segments, losses, schedules, checkpoints, evaluation of a run."""

from softscribe.training.checkpoints import RunInterruptedError
from softscribe.training.evaluate import evaluate
from softscribe.training.run import mean_and_deviation, train
from softscribe.training.settings import EvaluateSettings, TrainSettings

__all__ = ["EvaluateSettings", "RunInterruptedError", "TrainSettings", "evaluate", "mean_and_deviation", "train"]
