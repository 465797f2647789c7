"""Who does the work of a stage: this process, or a Ray cluster behind the same signatures."""

from collections.abc import Callable
from dataclasses import dataclass

from dtpf.caption.runner import CaptionReport, Progress, caption_pairs
from dtpf.caption.shards import CaptionTask
from dtpf.core.storage.receipts import Receipt
from dtpf.evaluation.score import Scoring, evaluate
from dtpf.serving.config import ServeConfig
from dtpf.training.config import ScalingConfig, TrainSpec
from dtpf.training.group import current_group
from dtpf.training.journal import StepHook
from dtpf.training.run import TrainResult, run_training
from dtpf.training.teacher_outputs.writer import OutputsReport, write_teacher_outputs
from dtpf.tuning.ledger import OnTrials
from dtpf.tuning.search import search_in_process
from dtpf.tuning.trials import SearchTask, Trial

OnCount = Callable[[int, int], None]
Captioning = Callable[[CaptionTask, Progress], CaptionReport]
OutputWriting = Callable[[TrainSpec, ScalingConfig, OnCount], OutputsReport]
Training = Callable[[TrainSpec, ScalingConfig, StepHook], TrainResult]
Search = Callable[[SearchTask, OnTrials], list[Trial]]
Deployment = Callable[[ServeConfig, str], str]
StageHook = Callable[[str, Receipt | None], None]


def _write_outputs(spec: TrainSpec, scaling: ScalingConfig, on_count: OnCount) -> OutputsReport:
    return write_teacher_outputs(spec, current_group(), on_count)


def _unwatched(stage: str, receipt: Receipt | None) -> None:
    """Tell nobody where the pipeline stands."""


@dataclass(frozen=True)
class Engines:
    """One function a stage.

    `deploy` takes settings and the store's URI, returns the endpoint's URL; None where a process
    has nothing that outlives it. `on_stage` is told of a stage when it begins, without a receipt,
    and with its receipt once it is complete.
    """

    caption: Captioning
    train: Training
    search: Search
    deploy: Deployment | None
    score: Scoring = evaluate
    write_outputs: OutputWriting = _write_outputs
    on_stage: StageHook = _unwatched


def in_process() -> Engines:
    """Return engines that need no cluster: one process, one after the other."""
    return Engines(caption_pairs, _train, search_in_process, None)


def _train(spec: TrainSpec, scaling: ScalingConfig, on_step: StepHook) -> TrainResult:
    return run_training(spec, current_group(gradients=scaling.gradients), on_step)
