"""Settings of a training run."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.losses import DistillLossConfig, LossConfig, weights_for
from dtpf.core.metrics.fidelity import MINIMUM_SIDE as VIF_MINIMUM_SIDE
from dtpf.core.models import ModelConfig
from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import EVERY_DEGRADATION
from dtpf.training.group import GradientDtype

TaskName = Literal["teacher", "student"]
TeacherOutputs = Literal["live", "stored"]
StudentMethod = Literal["distillation", "restoration"]


class TrainConfig(Config):
    """How long and how a network is trained. Everything here is part of the fingerprint.

    Attributes:
        steps: optimiser steps.
        batch: crops of one step over all workers together.
        crop: side of the square crops, pixels.
        shrunk: share of the crops that are cut from the image shrunk until its shorter side is
            `crop`. They show nearly the whole scene, as at inference; from cut-outs alone a network
            learns other statistics (channel attention) than those that it meets there.
        degraded: share of the crops to which one to three degradations are added, with the clean
            ones as guides. For networks without text: captions do not know of them.
        degradations: those that are drawn from, such as `infrared/noise`; every known one unless
            set.
        dimmed: share of the crops whose images and guides are both darkened, each in its own way:
            night scenes, which are to stay what they are.
        softened: share of the crops whose images and guides are both blurred: softer cameras. What
            was softened or dimmed counts as sharp enough (`TermWeights.sharpness`) where it is as
            sharp as its sources: there the finest detail is grain as much as edges.
        grainy: share of the crops whose images and guides have the same grain.
        learning_rate: peak of the schedule (linear warm-up, then cosine to zero).
        warmup: steps of the warm-up.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        precision: `bfloat16` runs the network under autocast.
        seed: of the initial weights, the order of pairs, crops and flips.
        validate_every: steps between validations; the last step always validates.
        checkpoint_every: steps between checkpoints.
        keep: how many of the latest checkpoints stay.
        accumulate: parts of a worker's share of the batch that run one after the other: less
            memory, the same gradient up to rounding.
        ema: decay of an average of the weights, which is then validated and shipped instead of the
            last weights; it rises to this value over the first steps.
        ship: whether the bundle holds the weights of the last step or of the best validation.
        on_bad_loss: what happens when the loss is not finite or explodes: `stop` with an error, or
            `skip` the update of that step, at most `max_skipped` times in a row.
        explosion: a loss beyond so many times the median of the last 100 counts as exploded.
        max_skipped: see `on_bad_loss`.
        fixed_crops: crops repeat, in the same order, after so many of them; None is never.
    """

    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=4, ge=1)
    crop: int = Field(default=128, ge=16)
    shrunk: float = Field(default=0.0, ge=0.0, le=1.0)
    degraded: float = Field(default=0.0, ge=0.0, le=1.0)
    degradations: tuple[str, ...] = Field(default=EVERY_DEGRADATION, min_length=1)
    dimmed: float = Field(default=0.0, ge=0.0, le=1.0)
    softened: float = Field(default=0.0, ge=0.0, le=1.0)
    grainy: float = Field(default=0.0, ge=0.0, le=1.0)
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    validate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    keep: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    ship: Literal["last", "best"] = "last"
    on_bad_loss: Literal["stop", "skip"] = "stop"
    explosion: float = Field(default=100.0, gt=1)
    max_skipped: int = Field(default=10, ge=1)
    fixed_crops: int | None = Field(default=None, ge=1)

    @field_validator("degradations")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(EVERY_DEGRADATION))
        if unknown:
            known = ", ".join(EVERY_DEGRADATION)
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {known}")
        return names

    @property
    def cutting(self) -> dict[str, Any]:
        """How a crop is made of its position: all settings of `training_crops`, by their names."""
        return {
            "seed": self.seed,
            "side": self.crop,
            "shrunk": self.shrunk,
            "degraded": self.degraded,
            "dimmed": self.dimmed,
            "softened": self.softened,
            "grainy": self.grainy,
            "degradations": self.degradations,
        }


class ScalingConfig(Config):
    """Where a run happens. Not part of the fingerprint: the result is the same up to rounding.

    Attributes:
        workers: processes of data-parallel training; `batch` is shared among them.
        gpu: one GPU a worker with nccl; otherwise CPUs with gloo.
        cpus_per_worker: what Ray reserves, and how many threads a CPU worker uses.
        max_failures: how often a run starts again from its last checkpoint after lost workers.
        min_workers: with fewer than `workers`, a run goes on with as many as there is room for, at
            least this many, and grows again when nodes return.
        resize_seconds: how often such a run looks whether it may grow.
        gradients: what workers exchange: `bfloat16` halves the traffic and rounds the gradients.
        environment: variables of the workers; with GPUs, `NCCL_*` for the machines at hand.
    """

    workers: int = Field(default=1, ge=1)
    gpu: bool = False
    cpus_per_worker: int = Field(default=1, ge=1)
    max_failures: int = Field(default=3, ge=0)
    min_workers: int | None = Field(default=None, ge=1)
    resize_seconds: float = Field(default=60.0, gt=0)
    gradients: GradientDtype = "float32"
    environment: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fewest_are_no_more_than_all(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, workers only {self.workers}")
        return self


class TrainSpec(Config):
    """All that a training process needs to know; it travels to workers as JSON.

    Attributes:
        task: `teacher` trains with text, `student` is distilled from `teacher_bundle`.
        store: root URI.
        root: prefix of the stage in the store (checkpoints, logs, bundle).
        pairs: key of the index.
        captions: prefix of the caption shards.
        embeddings: prefix of the embedding shards.
        infrared_scaling: how 16-bit infrared is brought to [0, 1].
        teacher_bundle: prefix of the teacher's bundle, for the student.
        method: `distillation` trains a student of its own; `restoration` takes the teacher, which
            must have no text, and trains what cleans its inputs (`ModelConfig.restoration`).
        teacher_outputs: whether a student's teacher runs in every step, or its outputs for
            `train.fixed_crops` are read from the store, where they were written before.
        provenance: what the bundle's card says of its origin.
    """

    task: TaskName
    model: ModelConfig
    loss: LossConfig
    distill: DistillLossConfig = DistillLossConfig()
    train: TrainConfig
    store: str
    root: str
    pairs: str
    captions: str
    embeddings: str
    infrared_scaling: Scaling = "percentile"
    teacher_bundle: str | None = None
    method: StudentMethod = "distillation"
    teacher_outputs: TeacherOutputs = "live"
    provenance: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _captions_know_of_degradations(self) -> Self:
        if self.train.degraded and self.model.text:
            raise ValueError(
                f"train.degraded is {self.train.degraded}, but the network is guided by captions, "
                "which do not know of it; set model.text=false, or degrade before the caption stage"
            )
        return self

    @model_validator(mode="after")
    def _crops_suit_the_loss(self) -> Self:
        restores = self.method == "restoration"
        needs_vif = restores or weights_for((), self.loss).information != 0
        if needs_vif and self.train.crop < VIF_MINIMUM_SIDE:
            asks = "method=restoration" if restores else f"loss.preset={self.loss.preset}"
            raise ValueError(
                f"train.crop is {self.train.crop}; VIF, a term of {asks}, needs "
                f"{VIF_MINIMUM_SIDE} pixels"
            )
        return self

    @model_validator(mode="after")
    def _stored_outputs_have_an_end(self) -> Self:
        check_stored_outputs(self.teacher_outputs, self.train, self.method, self.distill)
        return self


def check_stored_outputs(
    outputs: TeacherOutputs, train: TrainConfig, method: StudentMethod, distill: DistillLossConfig
) -> None:
    """Refuse stored outputs of a teacher where they would have no end or no use.

    Raises:
        UserError: `train.fixed_crops` is not set, or `method` asks no teacher; or outputs that are
            to be refined are not stored.
    """
    if outputs == "live":
        if distill.refine:
            raise UserError(
                f"student.distill.refine={distill.refine} takes as long as so many trainings if "
                "every step does it; set student.teacher_outputs=stored and "
                "student.train.fixed_crops"
            )
        return
    if method == "restoration":
        raise UserError(
            "student.method=restoration asks no teacher; set student.teacher_outputs=live"
        )
    required_fixed_crops(train)


def required_fixed_crops(train: TrainConfig) -> int:
    """Return `train.fixed_crops`, without which a teacher's outputs cannot be stored.

    Raises:
        UserError: it is not set; names it and the remedy.
    """
    if train.fixed_crops is None:
        raise UserError(
            "teacher_outputs=stored needs train.fixed_crops, after how many crops they repeat; "
            "set it (to a multiple of the number of training pairs), or teacher_outputs=live"
        )
    return train.fixed_crops


def required_teacher_bundle(spec: TrainSpec) -> str:
    """Return `spec.teacher_bundle`, without which there is no student.

    Raises:
        UserError: it is not set.
    """
    if spec.teacher_bundle is None:
        raise UserError("task student needs teacher_bundle, the prefix of the teacher's bundle")
    return spec.teacher_bundle
