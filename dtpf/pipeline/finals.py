"""The end of a search: its best trials and the untuned student, trained equally long; one wins.

Trials are short. That the best short one is also the best in full is an assumption; here it is
tested, against the student that would be shipped without a search.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dtpf.pipeline.stages import Context, Outcome, train, validation_scores
from dtpf.tuning.trials import SearchTask, Trial
from dtpf.tuning.winner import choose_finalists

UNTUNED = "untuned student"


@dataclass(frozen=True)
class Finalist:
    """A student trained in full.

    Attributes:
        trial: the trial whose setting it has; None for an untuned student that was no trial.
        outcome: its training.
        retention: its share of the teacher's validation scores.
        tuned: whether its setting differs from the untuned one.
    """

    trial: Trial | None
    outcome: Outcome
    retention: float
    tuned: bool

    @property
    def name(self) -> str:
        """What people read."""
        return f"trial {self.trial.number}" if self.tuned and self.trial else UNTUNED

    @property
    def notes(self) -> dict[str, str]:
        """What the receipt says of the winner; `kept` names its column in the report."""
        setting = json.dumps(self.trial.setting if self.tuned and self.trial else {})
        kept = "winner" if self.tuned else "student"
        return {"kept": kept, "winner": self.name, "setting": setting}


def final(context: Context, task: SearchTask, trials: Sequence[Trial]) -> Finalist:
    """Train the best trials in full, hold them against the untuned student, return the winner.

    The untuned student takes part where it is within the limits; under a latency cap, which needs
    a measurement, only as a trial.

    Args:
        context: of the pipeline; its plan has the untuned student's receipt.
        task: the search.
        trials: all of it.

    Raises:
        UserError: no trial finished within the limits.
    """
    chosen = choose_finalists(task, trials)
    untuned = next((trial for trial in trials if task.is_untuned(trial)), None)
    field = [_tuned(context, task, trial) for trial in chosen if trial is not untuned]
    student = context.plan.need("student")
    small = student.metrics["parameters"] <= task.parameter_limit
    if untuned in chosen or (small and task.config.max_latency_ms is None):
        field.append(_finalist(task, untuned, Outcome(student.outputs, student.metrics), False))
    winner = max(field, key=lambda finalist: finalist.retention)
    shown = ", ".join(f"{finalist.name} {finalist.retention:.4f}" for finalist in field)
    context.console.line(f"retention on validation, trained in full: {shown}")
    context.console.line(f"winner: {winner.name}")
    return winner


def _tuned(context: Context, task: SearchTask, trial: Trial) -> Finalist:
    spec = task.full_spec(trial)
    if spec != task.spec(trial):
        line = f"finalist: trial {trial.number} ({trial.shown}); training it in full"
        context.console.line(line)
    return _finalist(task, trial, train(context, spec), True)


def _finalist(task: SearchTask, trial: Trial | None, outcome: Outcome, tuned: bool) -> Finalist:
    retention = task.objective(validation_scores(outcome.metrics))
    return Finalist(trial, outcome, retention, tuned)
