"""The smallest configuration of the whole pipeline, for tests of how its parts work together."""

from pathlib import Path

from dtpf.core.config import apply_overrides
from dtpf.pipeline.config import PipelineConfig
from dtpf.recipes import recipe

SETTINGS = (
    "data.synthetic.train=5",
    "data.synthetic.val=1",
    "data.synthetic.test=2",
    "data.synthetic.height=64",
    "data.synthetic.width=64",
    "teacher.model.width=6",
    "teacher.train.steps=4",
    "teacher.train.crop=32",
    "teacher.train.validate_every=2",
    "teacher.train.checkpoint_every=1",
    "student.model.width=4",
    "student.train.steps=4",
    "student.train.crop=32",
    "student.train.validate_every=2",
    "student.train.checkpoint_every=1",
    f"tune.space={Path(__file__).with_name('small_space.yaml')}",
    "tune.trials=2",
    "tune.steps=2",
    "tune.max_parameter_share=1.0",
    'evaluation.metrics=["EN","SF","VIF","Qabf","SSIM"]',
    "evaluation.panels=1",
    "evaluation.worst=1",
)


def small_config(*more: str) -> PipelineConfig:
    return apply_overrides(recipe("tiny_cpu"), [*SETTINGS, *more])


def as_options(*more: str) -> list[str]:
    """The same settings as options of a job."""
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
