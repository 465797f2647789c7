"""Run stages in order, skip what the store already has, leave receipts."""

import time
from collections.abc import Mapping, Sequence

from dtpf.core.errors import UserError
from dtpf.core.storage.receipts import Receipt, environment, utc_now, write_receipt
from dtpf.pipeline.plan import BEFORE, STAGES, TITLES, Plan, Step
from dtpf.pipeline.publish import deploy
from dtpf.pipeline.scoring import evaluate
from dtpf.pipeline.stages import (
    Context,
    Outcome,
    Stage,
    caption,
    distill_student,
    index_pairs,
    train_teacher,
)
from dtpf.pipeline.tuning import tune_student

FUNCTIONS: Mapping[str, Stage] = {
    "data": index_pairs,
    "caption": caption,
    "teacher": train_teacher,
    "student": distill_student,
    "tune": tune_student,
    "evaluate": evaluate,
    "deploy": deploy,
}

# Serving is a state of the cluster, not of the store, so this stage runs every time.
ALWAYS = ("deploy",)


def run_stages(context: Context, names: Sequence[str] = STAGES) -> dict[str, Receipt]:
    """Run the named stages in the pipeline's order and return their receipts.

    Raises:
        UserError: what a stage reports, or a stage before the first one that has no result; at once
            where a stage cannot be run with these settings.
    """
    if "tune" in names and context.plan.config.student.method == "restoration":
        raise UserError(
            "student.method=restoration leaves the search nothing to search; run "
            "jobs/distill_student.py and then jobs/ship.py, or set student.method=distillation"
        )
    receipts = {}
    for name in (stage for stage in STAGES if stage in names):
        receipts[name] = _run_stage(context, name)
    return receipts


def follow_stage(context: Context, name: str) -> None:
    """Take part in a training that another process leads, which also writes the receipt."""
    step = _step(context.plan, name)
    if step.receipt is None:
        FUNCTIONS[name](context, step.keys)


def _run_stage(context: Context, name: str) -> Receipt:
    plan, console = context.plan, context.console
    console.stage(STAGES.index(name) + 1, len(STAGES), name, TITLES[name])
    step = _step(plan, name)
    if step.receipt is not None and name not in ALWAYS:
        console.line(f"done before ({step.receipt.finished}), skipped: {step.keys.root}")
        context.engines.on_stage(name, step.receipt)
        return step.receipt
    context.engines.on_stage(name, None)
    started = time.monotonic()
    outcome = FUNCTIONS[name](context, step.keys)
    receipt = _receipt(plan, name, step.keys.digest, outcome, time.monotonic() - started)
    write_receipt(plan.store, step.keys, receipt)
    context.engines.on_stage(name, receipt)
    console.line(f"done in {receipt.seconds:.0f} s")
    return receipt


def _step(plan: Plan, name: str) -> Step:
    """Return a stage that can run: the one before it is complete."""
    if name in BEFORE:
        plan.need(BEFORE[name])
    step = plan.step(name)
    assert step is not None, "the stage before has a receipt"
    return step


def _receipt(plan: Plan, name: str, digest: str, outcome: Outcome, seconds: float) -> Receipt:
    before = plan.need(BEFORE[name]) if name in BEFORE else None
    return Receipt(
        stage=name,
        fingerprint=digest,
        inputs={before.stage: before.fingerprint} if before else {},
        outputs=outcome.outputs,
        config=plan.settings(name),
        metrics=outcome.metrics,
        notes=outcome.notes,
        seconds=round(seconds, 3),
        finished=utc_now(),
        environment=environment(),
    )
