"""One training run from its spec: what every worker executes, with Ray or without.

Reads index, captions and (for a student) the teacher's bundle from the store; leaves checkpoints,
TensorBoard events and a bundle there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dtpf.core.bundle import load_bundle, read_bundle_config, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.machine import keep_freed_memory
from dtpf.core.models import count_parameters
from dtpf.core.records import Pair, pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.checkpoints import Checkpoints
from dtpf.training.config import TrainSpec, required_teacher_bundle
from dtpf.training.feed import TrainingFeed, check_texts
from dtpf.training.group import Group
from dtpf.training.logbook import Logbook
from dtpf.training.loop import Hooks, StepReport, fit
from dtpf.training.tasks import DistillTask, FusionTask, Task
from dtpf.training.teacher_outputs.reader import open_outputs
from dtpf.training.validation import Validator

StepHook = Callable[[StepReport], None]
ValidationHook = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind; JSON types, so it travels from workers.

    Attributes:
        parameters: of the network that is shipped.
        scores: validation metrics at the last step.
        losses: rows of the loss curve.
        sha256: digest of the bundle's weights.
    """

    parameters: int
    scores: dict[str, float]
    losses: tuple[dict[str, float], ...]
    sha256: str


def run_training(
    spec: TrainSpec,
    group: Group,
    on_step: StepHook = lambda report: None,
    on_validation: ValidationHook = lambda step, scores: None,
) -> TrainResult:
    """Train what the spec says, from its latest checkpoint; every process of the group calls it.

    Lets this process keep the memory that it frees.

    Args:
        spec: what to train, on what, and where the results go.
        group: the processes that train together.
        on_step: called after each step.
        on_validation: called with the same scores in every process after each validation.
    """
    keep_freed_memory()
    store = Store(spec.store)
    splits = _split(pairs_from_table(store.read_table(spec.pairs)))
    texts = read_texts(store, spec.captions, spec.embeddings)
    check_texts([*splits["train"], *splits["val"]], texts)
    train_set = PairDataset(splits["train"], spec.infrared_scaling)
    outputs = open_outputs(spec, store, splits["train"])
    feed = TrainingFeed(splits["train"], train_set, texts, spec.loss, outputs)
    validator = Validator(PairDataset(splits["val"], spec.infrared_scaling), texts)
    task = build_task(spec, store)
    journal = _Journal(store, spec, task, validator, group, on_step, on_validation)
    result = fit(
        task,
        lambda first: feed.batches(first, spec.train, group.rank, group.world),
        spec.train,
        group,
        Checkpoints(store, f"{spec.root}/checkpoints", spec.train.keep),
        Hooks(on_step=journal.step, on_validate=journal.validate),
    )
    scores = journal.finish()
    digest = ""
    if group.leads:
        digest = save_bundle(store, f"{spec.root}/bundle", task.network, provenance=spec.provenance)
    return TrainResult(
        count_parameters(task.network), scores, result.history, group.broadcast(digest)
    )


def build_task(spec: TrainSpec, store: Store) -> Task:
    """Return the task with freshly seeded weights; a student whose teacher runs live loads it."""
    torch.manual_seed(spec.train.seed)
    if spec.task == "teacher":
        return FusionTask(spec.model)
    uri = store.uri_of(required_teacher_bundle(spec))
    if spec.model.text:
        raise UserError("the student needs no text: set student.model.text=false")
    live = spec.teacher_outputs == "live"
    teacher = load_bundle(uri).model if live else read_bundle_config(uri)[0]
    torch.manual_seed(spec.train.seed)  # again: loading a network draws its first weights
    return DistillTask(spec.model, teacher, spec.loss, spec.distill)


class _Journal:
    """Writes down what happens in a run: TensorBoard in the leader, the hooks everywhere."""

    def __init__(
        self,
        store: Store,
        spec: TrainSpec,
        task: Task,
        validator: Validator,
        group: Group,
        on_step: StepHook,
        on_validation: ValidationHook,
    ) -> None:
        self._task, self._validator, self._group = task, validator, group
        self._on_step, self._on_validation = on_step, on_validation
        self._book: Logbook | None = None
        self._open = lambda step: Logbook(store, f"{spec.root}/tensorboard", step)
        self._scores: dict[str, float] = {}

    def step(self, report: StepReport) -> None:
        if self._group.leads:
            self._book = self._book or self._open(report.step)
            self._book.scalars("loss", report.losses, report.step)
            run = {
                "learning_rate": report.learning_rate,
                "gradient_norm": report.gradient_norm,
                "step_seconds": report.seconds,
                "data_wait_share": report.waited / max(report.seconds, 1e-9),
            }
            self._book.scalars("train", run, report.step)
        self._on_step(report)

    def validate(self, step: int) -> None:
        if not len(self._validator):
            return
        self._scores = self._validator.scores(self._task.network, self._group)
        if self._book is not None:
            self._book.scalars("validation", self._scores, step)
            picture = self._validator.picture(self._task.network, self._group)
            self._book.picture("visible_infrared_fused", picture, step)
            self._book.publish()
        self._on_validation(step, self._scores)

    def finish(self) -> dict[str, float]:
        """Return the last scores; a run resumed after its last step validates again."""
        if not self._scores and len(self._validator):
            self._scores = self._validator.scores(self._task.network, self._group)
        if self._book is not None:
            self._book.close()
        return self._scores


def _split(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    return {name: [pair for pair in pairs if pair.split == name] for name in ("train", "val")}
