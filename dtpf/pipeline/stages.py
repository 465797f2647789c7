"""What each stage does: reads the receipts before it, works through an engine, returns outputs.

A stage function returns an `Outcome`; `runner.py` turns it into the receipt that marks it done.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dtpf.caption.runner import CaptionReport
from dtpf.caption.shards import CaptionTask
from dtpf.core.records import Pair, pairs_from_table, pairs_to_table
from dtpf.core.storage import keys
from dtpf.core.storage.keys import StageKeys
from dtpf.core.storage.patience import STORAGE_PATIENCE
from dtpf.core.storage.store import Store
from dtpf.data.index import build_index
from dtpf.evaluation.running import LOSSES
from dtpf.pipeline.console import Console
from dtpf.pipeline.earlier import earlier_captions
from dtpf.pipeline.engines import Engines
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.specs import student_spec, teacher_spec
from dtpf.training.config import TrainSpec

INDEX_ROWS = 1024  # pairs of a row group of the index: what a reader of one shard has to read


@dataclass(frozen=True)
class Outcome:
    """What a stage hands on: keys and digests, numbers, and notes for people."""

    outputs: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What every stage function gets; `forced` if a person asked for this work to be done again."""

    plan: Plan
    engines: Engines
    console: Console
    forced: bool = False

    def pairs(self) -> list[Pair]:
        """Return the index."""
        return pairs_from_table(self.plan.store.read_table(self.plan.need("data").outputs["pairs"]))


Stage = Callable[[Context, StageKeys], Outcome]


def index_pairs(context: Context, place: StageKeys) -> Outcome:
    """Index the data source; pairs that cannot be used are named and left out."""
    config, store = context.plan.config.data, context.plan.store
    report = build_index(config, store, place.root, context.console.counter("pair"))
    for rejected in report.rejected:
        context.console.line(f"left out {rejected.pair_id}: {rejected.file}: {rejected.reason}")
    key = keys.pairs_key(config.name, place.digest)
    store.write_table(key, pairs_to_table(list(report.pairs)), row_group_rows=INDEX_ROWS)
    counts = {
        split: float(sum(pair.split == split for pair in report.pairs))
        for split in ("train", "val", "test")
    }
    shown = ", ".join(f"{int(count)} {split}" for split, count in counts.items())
    context.console.line(f"{shown}; {len(report.rejected)} left out")
    notes = {"data": config.source, "left_out": str(len(report.rejected))}
    return Outcome({"pairs": key, "digest": report.digest}, counts, notes)


def caption(context: Context, place: StageKeys) -> Outcome:
    """Caption all pairs and encode the captions."""
    plan = context.plan
    config = plan.config.caption
    task = CaptionTask(
        store=Store(plan.store.uri, patience=STORAGE_PATIENCE),
        pairs=plan.need("data").outputs["pairs"],
        config=config,
        captions=place.root,
        embeddings=keys.embeddings_prefix(plan.config.data.name, place.digest),
        # Asked to do it again, nobody wants the old captions.
        previous=None if context.forced else earlier_captions(plan, place),
    )
    report = context.engines.caption(task, context.console.counter("pair"))
    failed = sum(report.failures.values())
    context.console.line(_caption_counts(report))
    return Outcome(
        {"captions": task.captions, "embeddings": task.embeddings, "pairs": task.pairs},
        {"captioned": float(report.done + report.skipped + report.reused), "failed": float(failed)},
        {"captioner": config.captioner, "text_encoder": config.encoder},
    )


def _caption_counts(report: CaptionReport) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures.items())
    return (
        f"{report.done} captioned, {report.skipped} found in the store, {report.reused} taken over "
        f"from earlier captions of the same images; without a caption: {kinds or 'none'}"
    )


def train_teacher(context: Context, place: StageKeys) -> Outcome:
    """Train the text-guided teacher."""
    plan = context.plan
    spec = teacher_spec(
        plan.config, plan.store.uri, place.root, plan.need("data"), plan.need("caption")
    )
    return train(context, spec)


def distill_student(context: Context, place: StageKeys) -> Outcome:
    """Distil the text-free student from the teacher."""
    return train(context, untuned_student(context, place.root))


def untuned_student(context: Context, root: str) -> TrainSpec:
    """Return the student as the config has it, to be trained below `root`."""
    plan = context.plan
    receipts = (plan.need("data"), plan.need("caption"), plan.need("teacher"))
    return student_spec(plan.config, plan.store.uri, root, *receipts)


def train(context: Context, spec: TrainSpec) -> Outcome:
    """Train a spec; the outcome has its bundle, its losses and its validation scores."""
    stored = write_outputs(context, spec)
    result = context.engines.train(spec, context.plan.config.scaling, context.console.losses())
    context.plan.store.write_json(f"{spec.root}/{LOSSES}", list(result.losses))
    losses = [row["loss"] for row in result.losses]
    tenth = max(len(losses) // 10, 1)
    metrics = {
        "parameters": float(result.parameters),
        "loss_first": sum(losses[:tenth]) / tenth,
        "loss_last": sum(losses[-tenth:]) / tenth,
        **{f"val/{name}": value for name, value in result.scores.items()},
    }
    outputs = {"bundle": f"{spec.root}/bundle", "sha256": result.sha256, "run": spec.root}
    return Outcome(outputs | stored, metrics)


def write_outputs(context: Context, spec: TrainSpec) -> dict[str, str]:
    """Write what the store lacks of a spec's teacher outputs; returns where they lie, if anywhere.

    Does nothing for a spec whose teacher runs live.
    """
    if spec.teacher_outputs == "live":
        return {}
    report = context.engines.write_outputs(
        spec, context.plan.config.scaling, context.console.counter("crop")
    )
    context.console.line(
        f"teacher outputs of {report.crops} crops, {report.bytes / 1e6:.0f} MB: {report.written} "
        f"written, {report.crops - report.written} found in the store"
    )
    return {"teacher_outputs": report.prefix}


def validation_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the validation scores among a training stage's metrics."""
    return {
        name.removeprefix("val/"): value
        for name, value in metrics.items()
        if name.startswith("val/")
    }
