"""Full configurations as functions, named for size and hardware.

A recipe is where a run starts; `--set a.b=value` changes single settings of it.
"""

from collections.abc import Callable

from dtpf.ablations import ABLATIONS
from dtpf.caption.config import CaptionConfig, CaptionResources, EngineResources, VlmConfig
from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.losses import DistillLossConfig, LossConfig, TermWeights
from dtpf.core.models import PRESETS
from dtpf.data.index import DataConfig
from dtpf.pipeline.config import PipelineConfig, StudentConfig, TeacherConfig
from dtpf.serving.config import ServeConfig
from dtpf.training.config import ScalingConfig, TrainConfig
from dtpf.tuning.config import TuneConfig, TuneResources


def tiny_cpu() -> PipelineConfig:
    """Every stage small: minutes on two cores.

    Proves the chain, not the method: after so few steps the networks still show little more than
    the image they start from (`ModelConfig.start`).
    """
    train = TrainConfig(
        steps=100,
        batch=4,
        crop=64,
        learning_rate=2e-3,
        warmup=10,
        validate_every=50,
        checkpoint_every=20,
    )
    return PipelineConfig(
        run="tiny",
        data=DataConfig(),
        caption=CaptionConfig(),
        teacher=TeacherConfig(model=PRESETS["teacher_tiny"], train=train),
        student=StudentConfig(model=PRESETS["student_tiny"], train=train),
        # A tiny teacher leaves no room for a tenth of it.
        tune=TuneConfig(trials=4, steps=40, rounds=2, max_parameter_share=0.6),
        serve=ServeConfig(num_cpus=0.5),
        scaling=ScalingConfig(workers=2),
        tune_resources=TuneResources(concurrent=2),
    )


def student_1m_cpu() -> PipelineConfig:
    """The shipped network for CPUs, which is the teacher, and a student for degraded inputs.

    Both are without text and of one size. The teacher learns from the metrics (`crisp`) what to
    make of clean pairs, on cut-outs and on whole scenes shrunk to their size, some darkened, softer
    or noisier: what is right for the cameras of the training pairs is too sharp for others, and in
    the dark it is edges and the brighter source that are lost first, while VIF comes by itself. The
    student learns to make the same of degraded ones: metrics say little there, what the teacher
    made of the clean pair says it all.
    """
    small = tiny_cpu()
    train = TrainConfig(
        steps=4000,
        batch=6,
        crop=128,
        shrunk=0.3,
        dimmed=0.32,
        softened=0.15,
        grainy=0.35,
        learning_rate=1e-3,
        warmup=60,
        ema=0.99,
        validate_every=400,
        checkpoint_every=200,
    )
    degraded = train.model_copy(update={"steps": 1200, "degraded": 0.6})
    model = PRESETS["student_1m"]
    distill = DistillLossConfig(feature=0.0, result=150.0, teacher_sees="guides")
    dull = TermWeights(
        intensity=8.0, gradient=8.0, ssim=1.75, ssim_infrared=1.75, information=0.15, edges=3.5
    )
    return small.model_copy(
        update={
            "run": "student_1m",
            "loss": LossConfig(preset="crisp", dull=dull),
            "teacher": TeacherConfig(model=model, train=train),
            "student": StudentConfig(model=model, train=degraded, distill=distill),
        }
    )


def student_50k_cpu() -> PipelineConfig:
    """The teacher of `student_1m_cpu`, and a student of a twentieth of its parameters.

    For devices where the teacher is too slow. It learns from the metrics too, but what its teacher
    makes of a pair tells it more.
    """
    base = student_1m_cpu()
    train = base.teacher.train.model_copy(update={"steps": 1000, "learning_rate": 2e-3})
    distill = DistillLossConfig(feature=0.0, result=1000.0)
    student = StudentConfig(model=PRESETS["student_50k"], train=train, distill=distill)
    return base.model_copy(update={"student": student})


def student_2m_cpu() -> PipelineConfig:
    """The teacher of `student_1m_cpu`, and as student the same behind a restoration.

    Only that is trained, on what spoils a fused picture most. Whatever dims or blurs one source
    costs it little, for the other is there. Over-exposure, which crops do not show, is fitted to
    whole images before (`dtpf.training.exposure`).
    """
    base = student_1m_cpu()
    train = base.student.train.model_copy(
        update={
            "steps": 12500,
            "batch": 8,
            "shrunk": 0.2,
            "degraded": 0.75,
            "degradations": (
                "visible/noise",
                "visible/rain",
                "visible/haze",
                "visible/snow",
                "infrared/noise",
                "infrared/stripes",
            ),
            "dimmed": 0.1,
            "softened": 0.0,
            "grainy": 0.0,
            "ema": 0.998,
            "validate_every": 2500,
            "checkpoint_every": 500,
        }
    )
    student = StudentConfig(model=PRESETS["student_2m"], train=train, method="restoration")
    return base.model_copy(update={"student": student})


def student_1m_medical() -> PipelineConfig:
    """The same for two medical modalities, a network for each kind, as the paper has them.

    Slices know no weather, no night and no other camera, and the few there are need fewer steps and
    no finer gains. Activity is what the colour image shows, so its brightness counts twice as much.
    """
    base = student_1m_cpu()
    model = base.teacher.model.model_copy(update={"fine": False})
    train = base.teacher.train.model_copy(
        update={
            "steps": 450,
            "shrunk": 0.0,
            "dimmed": 0.0,
            "softened": 0.0,
            "grainy": 0.0,
            "validate_every": 100,
        }
    )
    return base.model_copy(
        update={
            "run": "student_1m_medical",
            "loss": LossConfig(preset="sharp", scale=TermWeights(intensity=2.0)),
            "teacher": base.teacher.model_copy(update={"model": model, "train": train}),
            "student": base.student.model_copy(update={"model": model, "train": train}),
        }
    )


def student_4m_1gpu() -> PipelineConfig:
    """The paper's sizes on one CUDA GPU."""
    return _paper(ScalingConfig(workers=1, gpu=True, cpus_per_worker=4), batch=4)


def student_4m_8x4090() -> PipelineConfig:
    """The paper's sizes on eight RTX 4090, one worker each; docs/scaling.md has more settings.

    These cards have no peer-to-peer. With half of them or more a run goes on.
    """
    scaling = ScalingConfig(
        workers=8,
        gpu=True,
        cpus_per_worker=4,
        min_workers=4,
        environment={"NCCL_P2P_DISABLE": "1"},
    )
    return _paper(scaling, batch=32)


def teacher_40m_1gpu() -> PipelineConfig:
    """`student_4m_1gpu` by the name of its teacher, for `jobs/train_teacher.py`."""
    return student_4m_1gpu()


def teacher_40m_8x4090() -> PipelineConfig:
    """`student_4m_8x4090` by the name of its teacher, for `jobs/train_teacher.py`."""
    return student_4m_8x4090()


def _paper(scaling: ScalingConfig, batch: int) -> PipelineConfig:
    # 500 epochs over the 1083 training pairs of MSRS at batch 4, as in the paper.
    steps = 500 * 1083 // batch
    train = TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=1e-4,
        precision="bfloat16",
        validate_every=steps // 50,
        checkpoint_every=1000,
    )
    return PipelineConfig(
        run="paper",
        data=DataConfig(),
        caption=_captions(scaling.workers),
        teacher=TeacherConfig(model=PRESETS["teacher_40m"], train=train),
        student=StudentConfig(model=PRESETS["student_4m"], train=train),
        tune=TuneConfig(steps=5000),
        serve=ServeConfig(num_gpus=0.25),
        scaling=scaling,
        tune_resources=TuneResources(concurrent=2 * scaling.workers, gpus_per_trial=0.5),
    )


def _captions(gpus: int) -> CaptionConfig:
    """Qwen2-VL-7B on every GPU, then CLIP on all of them."""
    return CaptionConfig(
        captioner="qwen2_vl",
        encoder="open_clip",
        vlm=VlmConfig(model="qwen2_vl_7b", engine=EngineResources(engines=gpus)),
        resources=CaptionResources(concurrency=gpus, num_cpus=1, num_gpus=1),
    )


RECIPES: dict[str, Callable[[], PipelineConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        tiny_cpu,
        student_1m_cpu,
        student_50k_cpu,
        student_2m_cpu,
        student_1m_medical,
        teacher_40m_1gpu,
        teacher_40m_8x4090,
        student_4m_1gpu,
        student_4m_8x4090,
    )
}


def recipe(name: str) -> PipelineConfig:
    """Return the configuration of that name, or of NAME@ROW with a row of the paper's ablations.

    Raises:
        UserError: there is no such recipe or row; lists those that exist.
    """
    base, at, row = name.partition("@")
    if base not in RECIPES:
        raise UserError(f"--recipe {name}: unknown; known: {', '.join(RECIPES)}")
    config = RECIPES[base]()
    if not at:
        return config
    if row not in ABLATIONS:
        raise UserError(f"--recipe {name}: no such ablation; known: {', '.join(ABLATIONS)}")
    return apply_overrides(config, ABLATIONS[row])
