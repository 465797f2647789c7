"""One training run from its spec: what every worker executes, with Ray or without.

Reads index, captions and (for a student) the teacher's bundle from the store; leaves checkpoints,
TensorBoard events and a bundle there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dtpf.core.bundle import load_bundle, read_bundle_config, save_bundle
from dtpf.core.errors import UserError
from dtpf.core.machine import keep_freed_memory
from dtpf.core.models import FusionNet, ModelConfig, count_parameters
from dtpf.core.records import Pair, pairs_from_table
from dtpf.core.storage.patience import STORAGE_PATIENCE
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.training.checkpoints import Checkpoints
from dtpf.training.config import TrainSpec, required_teacher_bundle
from dtpf.training.feed import TrainingFeed, check_texts
from dtpf.training.group import Group
from dtpf.training.journal import Journal, StepHook, ValidationHook
from dtpf.training.loop import Hooks, fit
from dtpf.training.restoration import RestorationTask
from dtpf.training.tasks import DistillTask, FusionTask, Task
from dtpf.training.teacher_outputs.reader import open_outputs
from dtpf.training.validation import Validator


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
    store = Store(spec.store, STORAGE_PATIENCE)
    pairs = pairs_from_table(store.read_table(spec.pairs))
    splits = _split(pairs)
    texts = read_texts(store, spec.captions, spec.embeddings)
    check_texts([*splits["train"], *splits["val"]], texts)
    train_set, val_set = (
        PairDataset(splits[name], spec.infrared_scaling, patience=STORAGE_PATIENCE)
        for name in ("train", "val")
    )
    outputs = open_outputs(spec, store, splits["train"])
    feed = TrainingFeed(splits["train"], train_set, texts, spec.loss, outputs)
    validator = Validator(val_set, texts)
    task = build_task(spec, store)
    task.prepare(train_set, spec.train.seed, group)
    journal = Journal(store, spec, validator, group, on_step, on_validation)
    result = fit(
        task,
        lambda first: feed.batches(first, spec.train, group.rank, group.world),
        spec.train,
        group,
        Checkpoints(store, f"{spec.root}/checkpoints", spec.train.keep),
        Hooks(on_step=journal.step, on_validate=journal.validate),
    )
    network, scores = journal.finish(result.network)
    digest = ""
    if group.leads:
        digest = save_bundle(store, f"{spec.root}/bundle", network, provenance=spec.provenance)
        journal.write_receipt(pairs, digest)
    return TrainResult(count_parameters(network), scores, result.history, group.broadcast(digest))


def build_task(spec: TrainSpec, store: Store) -> Task:
    """Return the task with freshly seeded weights; a student whose teacher runs live loads it."""
    torch.manual_seed(spec.train.seed)
    if spec.task == "teacher":
        return FusionTask(spec.model)
    uri = store.uri_of(required_teacher_bundle(spec))
    if spec.model.text:
        raise UserError("the student needs no text: set student.model.text=false")
    _check_texts_of_teacher(spec, store)
    live = spec.teacher_outputs == "live"
    teacher = load_bundle(uri).model if live else read_bundle_config(uri)[0]
    torch.manual_seed(spec.train.seed)  # again: loading a network draws its first weights
    if spec.method == "restoration":
        return _restoration_task(spec.model, teacher, uri)
    return DistillTask(spec.model, teacher, spec.loss, spec.distill)


def _restoration_task(model: ModelConfig, teacher: FusionNet | ModelConfig, uri: str) -> Task:
    assert isinstance(teacher, FusionNet), "TrainSpec refuses stored outputs here"
    try:
        return RestorationTask(model, teacher)
    except ValueError:
        wanted = teacher.config.model_copy(update={"restoration": model.restoration or 24})
        changed = [
            f"student.model.{name}={value}"
            for name, value in wanted.as_dict().items()
            if getattr(model, name) != getattr(wanted, name)
        ]
        raise UserError(
            f"student.method=restoration goes in front of {uri}, whose shape the student has to "
            f"have: set {' '.join(changed)}"
        ) from None


def _check_texts_of_teacher(spec: TrainSpec, store: Store) -> None:
    """Refuse captions of another kind than the teacher was trained with: it would misread them."""
    key = f"{required_teacher_bundle(spec)}/provenance.json"
    trained = store.read_json(key) if store.exists(key) else {}
    for name in ("captioner", "text_encoder"):
        theirs, ours = trained.get(name), spec.provenance.get(name)
        if theirs is not None and ours is not None and theirs != ours:
            raise UserError(
                f"{store.uri_of(key)}: the teacher was trained with {name} {theirs!r}, these "
                f"captions are of {ours!r}; use the same, or train the teacher again"
            )


def _split(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    return {name: [pair for pair in pairs if pair.split == name] for name in ("train", "val")}
