"""The whole pipeline's settings: one section a stage."""

from dtpf.caption.config import CaptionConfig
from dtpf.core.config import Config
from dtpf.core.losses import DistillLossConfig, LossConfig
from dtpf.core.models import ModelConfig
from dtpf.data.index import DataConfig
from dtpf.evaluation.config import EvalConfig
from dtpf.serving.config import ServeConfig
from dtpf.training.config import ScalingConfig, TrainConfig
from dtpf.tuning.config import TuneConfig, TuneResources


class TeacherConfig(Config):
    """The text-guided teacher: its network and how long it trains."""

    model: ModelConfig
    train: TrainConfig


class StudentConfig(Config):
    """The text-free student: its network, how long it is distilled, and the loss."""

    model: ModelConfig
    train: TrainConfig
    distill: DistillLossConfig = DistillLossConfig()


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
