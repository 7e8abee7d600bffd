"""All that decides a training run, as the configs state it. Whoever adds a key here adds it to configs/ too; a test compares them."""

from dataclasses import dataclass, field
from typing import Any

from softscribe.corpora.recordings import SPLITS
from softscribe.errors import InputError
from softscribe.training.module import OptimizerSettings
from softscribe.training.segments import TargetSettings

LARGEST = 10**9
"""Of any number of steps, minutes or processes: more is a slip of the finger, which libraries answer with errors of their own."""

LARGEST_SEED = 2**63 - 1
"""What torch takes."""

AUDIT_POLICIES = ("ignore", "exclude")
TIME_SHIFT_POLICIES = ("ignore", "compensate")
PRECISIONS = ("auto", "32-true", "bf16-mixed")


@dataclass
class TrainerSettings:
    """How Lightning runs the training.

    Attributes:
        accelerator, devices, nodes: as Lightning's Trainer takes them.
        strategy: `auto`, or one of Lightning's whose name begins with `ddp`: others cut weights in parts, which no checkpoint here knows.
        precision: of the network: `auto` is `bf16-mixed` where that is fast (a GPU, a CPU with AVX-512), else `32-true`. The alignment
            always computes in float32.
        batch_size: segments per step and process.
        accumulated_batches: batches whose gradients make one step.
        steps: optimizer steps of the whole training, to which all schedules refer.
        minutes: stop after this time even if steps are left; `null` for no limit. Schedules then stop where they are: choose steps to fit.
        validation_interval_steps, checkpoint_interval_steps: how often to validate, and to save `last.ckpt`.
        early_stopping_patience: stop after this many validations without improvement; `null` never does.
        gradient_clip_norm: largest norm of the gradient; `null` for no limit.
        worker_count: processes that load segments; 0 loads in the training process.
        pictures_every_validations: draw validation pieces every so many validations; 0 never does.
        pictures_pieces: how many of them at most.
    """

    accelerator: str = "cpu"
    devices: Any = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    batch_size: int = 6
    accumulated_batches: int = 1
    steps: int = 10_000
    minutes: float | None = None
    validation_interval_steps: int = 100
    checkpoint_interval_steps: int = 50
    early_stopping_patience: int | None = None
    gradient_clip_norm: float | None = None
    worker_count: int = 0
    pictures_every_validations: int = 5
    pictures_pieces: int = 10

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"trainer.precision: {self.precision!r}. Remedy: one of {', '.join(PRECISIONS)}.")
        if self.strategy != "auto" and not self.strategy.startswith("ddp"):
            raise InputError(f"trainer.strategy: {self.strategy!r}. Remedy: auto or ddp.")
        at_least = {
            "nodes": 1,
            "batch_size": 1,
            "accumulated_batches": 1,
            "steps": 1,
            "validation_interval_steps": 1,
            "checkpoint_interval_steps": 1,
            "worker_count": 0,
            "pictures_every_validations": 0,
            "pictures_pieces": 1,
        }
        for name, least in at_least.items():
            if not least <= getattr(self, name) <= LARGEST:
                raise InputError(f"trainer.{name}: {getattr(self, name)}. Remedy: at least {least}, and at most {LARGEST:g}.")
        for name in ("minutes", "early_stopping_patience", "gradient_clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= LARGEST:  # written so that NaN is refused
                raise InputError(f"trainer.{name}: {value}. Remedy: above 0 and at most {LARGEST:g}, or null for none.")


@dataclass
class AugmentationSettings:
    """Changes of the training segments that keep their annotation true.

    Attributes:
        transposition_semitones: transpose features and targets by up to this many semitones in both directions.
    """

    transposition_semitones: int = 0


@dataclass
class ThresholdSettings:
    """From which activation on a pitch counts as sounding.

    Attributes:
        fixed: this value, in (0, 1); `null` tunes it on the validation pieces if their truth is known, and takes 0.5 otherwise.
    """

    fixed: float | None = None

    def __post_init__(self) -> None:
        if self.fixed is not None and not 0 < self.fixed < 1:
            raise InputError(f"threshold.fixed: {self.fixed}. Remedy: between 0 and 1, or null to tune it on the validation pieces.")


HEALTH_POLICIES = ("ignore", "warn", "act", "stop")


@dataclass
class HealthSettings:
    """Who watches over the alignment, and what an alarm does.

    Attributes:
        policy: `ignore` measures nothing, `warn` says and logs alarms, `act` goes back to the last healthy weights and raises gamma and
            prior again, `stop` ends the run.
        interval_steps: optimizer steps between observations.
        segments: how many segments of the validation split are observed, evenly spread over it.
        actions_at_most: of the policy `act`; the next alarm ends the run.
        relief_share: of the training, in (0, 1]: so long it takes gamma and prior to come back to their schedules after an action.
    """

    policy: str = "warn"
    interval_steps: int = 25
    segments: int = 8
    actions_at_most: int = 3
    relief_share: float = 0.25

    def __post_init__(self) -> None:
        if self.policy not in HEALTH_POLICIES:
            raise InputError(f"health.policy: {self.policy!r}. Remedy: one of {', '.join(HEALTH_POLICIES)}.")
        for name in ("interval_steps", "segments", "actions_at_most"):
            if getattr(self, name) < 1:
                raise InputError(f"health.{name}: {getattr(self, name)}. Remedy: at least 1.")
        if not 0 < self.relief_share <= 1:
            raise InputError(f"health.relief_share: {self.relief_share}. Remedy: above 0, and at most 1.")


@dataclass
class EvaluateSettings:
    """What `softscribe evaluate` does.

    Attributes:
        run: a run's folder, or a folder of runs, whose newest is taken.
        split: train, validation or test.
        threshold: instead of the model's own, in [0, 1]; `null` takes that.
    """

    run: str
    split: str = "test"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InputError(f"split: {self.split!r}. Remedy: one of {', '.join(SPLITS)}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold: {self.threshold}. Remedy: between 0 and 1, or null for the model's own.")


@dataclass
class TrainSettings:
    """A training run.

    Attributes:
        name: the run's folder is RUNS/name/time.
        runs: folder of all runs.
        seed: decides every random choice.
        store: folder of the prepared features.
        features: settings of the HCQT, see `HcqtSettings`.
        model: `name` and settings of the model, see `create_model`, and `init`: a model folder whose weights to start from, or `null`.
        loss: `name` and settings of the loss, see `create_loss`.
        audit: `exclude` leaves training segments out whose score does not fit them (see docs/audit.md), `ignore` trains on all.
        time_shift: `compensate` moves the model's activations back, in every use, by the time shift that is measured after training (see
            docs/health.md); `ignore` only measures it.
        health: who watches over the alignment.
        logger: `tensorboard: true` writes TensorBoard events beside metrics.csv.
    """

    name: str = "unnamed"
    runs: str = "runs"
    seed: int = 0
    store: str = "store"
    features: dict[str, Any] = field(default_factory=dict)
    targets: TargetSettings = field(default_factory=TargetSettings)
    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    threshold: ThresholdSettings = field(default_factory=ThresholdSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    logger: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    audit: str = "ignore"
    time_shift: str = "compensate"

    def __post_init__(self) -> None:
        if self.audit not in AUDIT_POLICIES:
            raise InputError(f"audit: {self.audit!r}. Remedy: one of {', '.join(AUDIT_POLICIES)}.")
        if self.time_shift not in TIME_SHIFT_POLICIES:
            raise InputError(f"time_shift: {self.time_shift!r}. Remedy: one of {', '.join(TIME_SHIFT_POLICIES)}.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed: {self.seed}. Remedy: a whole number from 0 to {LARGEST_SEED}.")
        if self.loss.get("name") == "static" and self.targets.kind == "unique":
            raise InputError("loss=static needs one target per frame. Remedy: targets=stretched or targets=stretched_by_score.")
