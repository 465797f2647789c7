"""What each stage does: reads the receipts before it, works through an engine, returns outputs.

A stage function returns an `Outcome`; `runner.py` turns it into the receipt that marks it done.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtpf.core.errors import UserError
from dtpf.core.records import Pair, pairs_from_table, pairs_to_table
from dtpf.core.storage import keys
from dtpf.core.storage.keys import StageKeys
from dtpf.data.index import build_index
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import Engines
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.specs import student_spec, teacher_spec
from dtpf.training.config import TrainSpec
from dtpf.training.run import TrainResult
from dtpf.tuning.search import SearchTask, Trial, choose_winner


@dataclass(frozen=True)
class Outcome:
    """What a stage hands on: keys and digests, numbers, and notes for people."""

    outputs: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What every stage function gets."""

    plan: Plan
    engines: Engines
    console: Console

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
    store.write_table(key, pairs_to_table(list(report.pairs)))
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
    config, store = context.plan.config.caption, context.plan.store
    dataset = context.plan.config.data.name
    embeddings = keys.embeddings_prefix(dataset, place.digest)
    report = context.engines.caption(
        context.pairs(), config, store, place.root, embeddings, context.console.counter("pair")
    )
    context.console.line(
        f"{report.done} captioned, {report.skipped} found in the store, {report.failed} unreadable"
    )
    return Outcome(
        {"captions": place.root, "embeddings": embeddings},
        {"captioned": float(report.done + report.skipped), "unreadable": float(report.failed)},
        {"captioner": config.captioner, "text_encoder": config.encoder},
    )


def train_teacher(context: Context, place: StageKeys) -> Outcome:
    """Train the text-guided teacher."""
    plan = context.plan
    spec = teacher_spec(
        plan.config, plan.store.uri, place.root, plan.need("data"), plan.need("caption")
    )
    return _training_outcome(spec, _train(context, spec))


def distill_student(context: Context, place: StageKeys) -> Outcome:
    """Distil the text-free student from the teacher."""
    spec = _student_spec(context, place)
    return _training_outcome(spec, _train(context, spec))


def tune_student(context: Context, place: StageKeys) -> Outcome:
    """Search for a better student, train the winner at full length, keep the better of the two."""
    plan, config = context.plan, context.plan.config
    teacher = plan.need("teacher")
    scores = _scores(teacher.metrics)
    if not scores:
        raise UserError("tune needs validation scores; the index has no pairs in its val split")
    task = SearchTask(
        _student_spec(context, place),
        plan.space(),
        config.tune,
        config.tune_resources,
        scores,
        int(teacher.metrics["parameters"]),
    )
    trials = context.engines.search(task, _trial_lines(context.console, config.tune.trials))
    rows = [trial.row() for trial in trials]
    plan.store.write_json(f"{place.root}/trials.json", rows)
    winner = choose_winner(task, trials)
    context.console.line(f"winner {dict(winner.setting)}; training it at full length")
    spec = task.base.model_copy(
        update={name: getattr(winner.spec, name) for name in ("model", "loss", "distill")}
        | {"root": f"{place.root}/winner"}
    )
    retrained = _training_outcome(spec, _train(context, spec))
    return _better(context, task, retrained, place)


def _better(context: Context, task: SearchTask, retrained: Outcome, place: StageKeys) -> Outcome:
    student = context.plan.need("student")
    candidates = {
        "winner": (
            task.objective(_scores(retrained.metrics)),
            retrained.outputs,
            retrained.metrics,
        ),
        "student": (task.objective(_scores(student.metrics)), student.outputs, student.metrics),
    }
    name = max(candidates, key=lambda key: candidates[key][0])
    kept, outputs, metrics = candidates[name]
    shown = ", ".join(f"{key} {value[0]:.4f}" for key, value in candidates.items())
    context.console.line(f"retention on validation: {shown}; kept: {name}")
    return Outcome(
        {**outputs, "trials": f"{place.root}/trials.json"},
        {**metrics, "retention": kept},
        {"kept": name},
    )


def _student_spec(context: Context, place: StageKeys) -> TrainSpec:
    plan = context.plan
    receipts = (plan.need("data"), plan.need("caption"), plan.need("teacher"))
    return student_spec(plan.config, plan.store.uri, place.root, *receipts)


def _train(context: Context, spec: TrainSpec) -> TrainResult:
    result = context.engines.train(spec, context.plan.config.scaling, context.console.losses())
    context.plan.store.write_json(f"{spec.root}/losses.json", list(result.losses))
    return result


def _training_outcome(spec: TrainSpec, result: TrainResult) -> Outcome:
    losses = [row["loss"] for row in result.losses]
    tenth = max(len(losses) // 10, 1)
    metrics = {
        "parameters": float(result.parameters),
        "loss_first": sum(losses[:tenth]) / tenth,
        "loss_last": sum(losses[-tenth:]) / tenth,
        **{f"val/{name}": value for name, value in result.scores.items()},
    }
    outputs = {"bundle": f"{spec.root}/bundle", "sha256": result.sha256, "run": spec.root}
    return Outcome(outputs, metrics)


def _scores(metrics: dict[str, float]) -> dict[str, float]:
    return {
        name.removeprefix("val/"): value
        for name, value in metrics.items()
        if name.startswith("val/")
    }


def _trial_lines(console: Console, total: int) -> Callable[[Sequence[Trial]], None]:
    shown: dict[int, Any] = {}

    def on_trials(trials: Sequence[Trial]) -> None:
        for index, trial in enumerate(trials):
            state = (trial.status, trial.steps)
            if trial.status != "pending" and shown.get(index) != state:
                shown[index] = state
                kept = "" if trial.retention is None else f", retention {trial.retention:.4f}"
                console.line(
                    f"trial {index + 1}/{total} {trial.status}, step {trial.steps}/"
                    f"{trial.spec.train.steps}{kept}{' ' + trial.error if trial.error else ''}"
                )

    return on_trials
