"""Training specs of the pipeline: settings joined with the keys of earlier stages' results."""

from dtpf.core.losses import DistillLossConfig
from dtpf.core.models import ModelConfig
from dtpf.core.storage.receipts import Receipt
from dtpf.pipeline.config import PipelineConfig, StudentConfig
from dtpf.training.config import TrainConfig, TrainSpec


def search_target(config: PipelineConfig) -> TrainSpec:
    """Return the student's spec without keys: what a search space may name is a field of it."""
    student = config.student
    spec = _spec(config, "", "", {}, {}, student.model, student.train)
    return _as_student(spec, student)


def teacher_spec(
    config: PipelineConfig, store: str, root: str, data: Receipt, caption: Receipt
) -> TrainSpec:
    """Return what the teacher stage trains."""
    return _spec(
        config,
        store,
        root,
        {**data.outputs, **caption.outputs},
        {**data.notes, **caption.notes},
        config.teacher.model,
        config.teacher.train,
    )


def student_spec(
    config: PipelineConfig,
    store: str,
    root: str,
    data: Receipt,
    caption: Receipt,
    teacher: Receipt,
) -> TrainSpec:
    """Return what the student stage distils, and what the search varies."""
    notes = {**data.notes, **caption.notes, "teacher": teacher.outputs["sha256"]}
    spec = _spec(
        config,
        store,
        root,
        {**data.outputs, **caption.outputs},
        notes,
        config.student.model,
        config.student.train,
    )
    return _as_student(spec, config.student, teacher_bundle=teacher.outputs["bundle"])


def _as_student(spec: TrainSpec, student: StudentConfig, **keys: str) -> TrainSpec:
    settings = {name: getattr(student, name) for name in ("method", "distill", "teacher_outputs")}
    return spec.model_copy(update={"task": "student", **settings, **keys})


def _spec(
    config: PipelineConfig,
    store: str,
    root: str,
    outputs: dict[str, str],
    notes: dict[str, str],
    model: ModelConfig,
    train: TrainConfig,
) -> TrainSpec:
    return TrainSpec(
        task="teacher",
        model=model,
        loss=config.loss,
        distill=DistillLossConfig(),
        train=train,
        store=store,
        root=root,
        pairs=outputs.get("pairs", ""),
        captions=outputs.get("captions", ""),
        embeddings=outputs.get("embeddings", ""),
        infrared_scaling=config.data.infrared_scaling,
        provenance=notes | {"steps": str(train.steps), "seed": str(train.seed)},
    )
