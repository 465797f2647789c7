"""One trial, and a whole search without Ray.

A trial distils a student for a short while and is judged by retention: its mean share of the
teacher's validation scores (VIF, Qabf, SSIM).
"""

import math
from collections.abc import Callable

from dtpf.core.errors import UserError
from dtpf.training.group import Group, current_group
from dtpf.training.run import run_training
from dtpf.tuning.latency import measure_latency
from dtpf.tuning.ledger import Ledger, Meter, OnTrials
from dtpf.tuning.suggest import Suggestions
from dtpf.tuning.trials import RoundReport, SearchTask, Trial

OnRound = Callable[[RoundReport], None]
RunTrial = Callable[[SearchTask, Trial, Group, OnRound], None]


class _BudgetSpent(Exception):
    """Ends a trial whose search has no time left; its checkpoint stays."""


def run_trial(task: SearchTask, trial: Trial, group: Group, on_round: OnRound) -> None:
    """Train one trial from its latest checkpoint; every process of the group calls it.

    `on_round` gets each validation, the last one when the trial's bundle is in the store. Early
    stopping raises from it, or ends the process.

    Raises:
        UserError: what the training reports, or scores that are not finite.
    """
    timed = task.config.times_networks and group.leads and trial.latency_ms is None
    spec = task.spec(trial)
    size = task.config.latency_size
    latency = measure_latency(spec.model, size, group.device) if timed else trial.latency_ms

    def report(step: int, scores: dict[str, float]) -> None:
        retention = task.objective(scores)
        if not math.isfinite(retention):
            raise UserError(f"validation scores at step {step} are not finite: {scores}")
        number = step // task.steps_per_round
        on_round(RoundReport(number, step, retention, scores, latency))

    def on_validation(step: int, scores: dict[str, float]) -> None:
        if step < spec.train.steps:
            report(step, scores)

    result = run_training(spec, group, on_validation=on_validation)
    report(spec.train.steps, result.scores)


def search_in_process(
    task: SearchTask, on_trials: OnTrials = lambda trials: None, run: RunTrial = run_trial
) -> list[Trial]:
    """Run the trials one after the other, each to its end, and return all of them.

    A trial that fails is reported and the rest go on.

    Args:
        task: what to search.
        on_trials: called with all trials after each change.
        run: what runs one trial.
    """
    ledger, meter = Ledger(task, on_trials), Meter(task)
    suggestions = Suggestions(task, ledger)
    while not meter.exhausted and (trial := suggestions.next()):
        _run(task, trial, ledger, meter, run)
        meter.write()
    return ledger.trials[: task.config.trials]


def _run(task: SearchTask, trial: Trial, ledger: Ledger, meter: Meter, run: RunTrial) -> None:
    def on_round(report: RoundReport) -> None:
        ledger.report(trial.name, report)
        meter.tick(1)
        if meter.exhausted and report.round < task.config.rounds:
            raise _BudgetSpent

    ledger.start(trial.name)
    try:
        run(task, trial, current_group(), on_round)
    except _BudgetSpent:
        return
    except UserError as error:
        ledger.end(trial.name, "failed", str(error))
    else:
        ledger.end(trial.name, "finished")
