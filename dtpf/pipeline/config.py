"""The whole pipeline's settings: one section a stage."""

from typing import Self

from pydantic import model_validator

from dtpf.caption.config import CaptionConfig
from dtpf.core.config import Config
from dtpf.core.losses import DistillLossConfig, LossConfig
from dtpf.core.models import ModelConfig
from dtpf.data.index import DataConfig
from dtpf.evaluation.config import EvalConfig
from dtpf.serving.config import ServeConfig
from dtpf.training.config import (
    ScalingConfig,
    StudentMethod,
    TeacherOutputs,
    TrainConfig,
    check_stored_outputs,
)
from dtpf.tuning.config import TuneConfig, TuneResources


class TeacherConfig(Config):
    """The text-guided teacher: its network and how long it trains."""

    model: ModelConfig
    train: TrainConfig


class StudentConfig(Config):
    """The text-free student: its network, how long it is distilled, and the loss.

    `method=restoration` takes the teacher as it is, and trains what cleans its inputs.
    `teacher_outputs=stored` runs the teacher once for each of `train.fixed_crops`, before the
    training, instead of in every step.
    """

    model: ModelConfig
    train: TrainConfig
    method: StudentMethod = "distillation"
    distill: DistillLossConfig = DistillLossConfig()
    teacher_outputs: TeacherOutputs = "live"

    @model_validator(mode="after")
    def _stored_outputs_have_an_end(self) -> Self:
        check_stored_outputs(self.teacher_outputs, self.train, self.method, self.distill)
        return self


class PipelineConfig(Config):
    """Everything that `jobs/pipeline.py` does, top to bottom in the order of the stages.

    `scaling`, `tune_resources`, `serve` and `caption.resources` say where work happens; they are
    not part of any fingerprint.
    """

    run: str = "default"
    data: DataConfig
    caption: CaptionConfig
    loss: LossConfig = LossConfig()
    teacher: TeacherConfig
    student: StudentConfig
    tune: TuneConfig = TuneConfig()
    evaluation: EvalConfig = EvalConfig()
    serve: ServeConfig = ServeConfig()
    scaling: ScalingConfig = ScalingConfig()
    tune_resources: TuneResources = TuneResources()
