"""The tune stage: search, train the best trials in full, keep the winner."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from dtpf.core.errors import UserError
from dtpf.core.storage.keys import StageKeys
from dtpf.evaluation.loading import load_pair
from dtpf.pipeline.console import Console
from dtpf.pipeline.finals import final
from dtpf.pipeline.stages import (
    Context,
    Outcome,
    untuned_student,
    validation_scores,
    write_outputs,
)
from dtpf.tuning.report import as_page, render_section
from dtpf.tuning.table import as_markdown, as_text, score_trials
from dtpf.tuning.trials import ENDED, SearchTask, Trial

TRIALS, PAGE, SECTION, TABLE = "trials.json", "tune.html", "tune-section.html", "table.md"


def tune_student(context: Context, place: StageKeys) -> Outcome:
    """Search for a better student, train the best in full, and keep the winner."""
    store = context.plan.store
    task = search_task(context)
    write_outputs(context, task.base)
    trials = context.engines.search(task, _trial_lines(context.console, task.config.trials))
    store.write_json(f"{place.root}/{TRIALS}", [trial.row() for trial in trials])
    outputs = {"search": task.base.root, "trials": f"{place.root}/{TRIALS}"}
    outputs |= _paper_table(context, task, trials, place)
    winner = final(context, task, trials)
    outputs |= _pages(context, task, trials, winner.trial, place)
    counts: dict[str, float] = {
        status: float(sum(t.status == status for t in trials)) for status in ENDED
    }
    metrics = {**winner.outcome.metrics, **counts, "retention": winner.retention}
    return Outcome({**winner.outcome.outputs, **outputs}, metrics, winner.notes)


def _pages(
    context: Context,
    task: SearchTask,
    trials: Sequence[Trial],
    winner: Trial | None,
    place: StageKeys,
) -> dict[str, str]:
    """Write the page of the search, and the same as a section for the evaluation's report."""
    section = render_section(task, trials, winner)
    pages = {"tune_report": (PAGE, as_page(task, section)), "tune_section": (SECTION, section)}
    for name, text in pages.values():
        context.plan.store.write_bytes(f"{place.root}/{name}", text.encode())
    outputs = {output: f"{place.root}/{name}" for output, (name, _) in pages.items()}
    uri = context.plan.store.uri_of(outputs["tune_report"])
    context.console.line(f"all trials on one page: {uri}")
    return outputs


def search_task(context: Context) -> SearchTask:
    """Return what the config says is to be searched.

    Raises:
        UserError: the teacher has no validation scores that a share of could be taken.
    """
    plan, config = context.plan, context.plan.config
    teacher = plan.need("teacher").metrics
    scores = validation_scores(teacher)
    if not scores:
        raise UserError("tune needs validation scores; the index has no pairs in its val split")
    if min(scores.values()) <= 0:
        raise UserError(
            f"tune compares with the teacher, whose validation scores are {scores}; "
            "they must be positive: train the teacher longer"
        )
    return SearchTask(
        untuned_student(context, plan.search_root()),
        plan.space(),
        config.tune,
        config.tune_resources,
        scores,
        int(teacher["parameters"]),
    )


def _paper_table(
    context: Context, task: SearchTask, trials: Sequence[Trial], place: StageKeys
) -> dict[str, str]:
    """Score every finished trial on the test split where the space reproduces a table."""
    if task.space.table is None:
        return {}
    plan = context.plan
    load = functools.partial(load_pair, scaling=plan.config.data.infrared_scaling)
    rows = score_trials(
        task, trials, context.pairs(), load, plan.config.evaluation, context.engines.score
    )
    for line in as_text(task.space, rows).splitlines():
        context.console.line(line)
    key = f"{place.root}/{TABLE}"
    plan.store.write_bytes(key, as_markdown(task.space, rows).encode())
    return {"paper_table": key}


def _trial_lines(console: Console, total: int) -> Callable[[Sequence[Trial]], None]:
    shown: dict[str, Any] = {}

    def on_trials(trials: Sequence[Trial]) -> None:
        for trial in trials:
            state = (trial.status, trial.steps)
            if trial.status != "pending" and shown.get(trial.name) != state:
                shown[trial.name] = state
                console.line(_trial_line(trial, total))

    return on_trials


def _trial_line(trial: Trial, total: int) -> str:
    parts = [f"trial {trial.number}/{total} {trial.status}, step {trial.steps}"]
    if trial.retention is not None:
        parts.append(f"retention {trial.retention:.4f}")
    if trial.latency_ms is not None:
        parts.append(f"{trial.latency_ms:.0f} ms")
    return ", ".join(parts) + (f": {trial.error}" if trial.error else "")
