"""The search without Ray: trials, their objective, and the choice of the winner.

A trial distils a student for a short while and is judged by retention: its mean share of the
teacher's validation scores (VIF, Qabf, SSIM). A finished trial leaves `result.json` in the store,
so a search that was interrupted repeats only what was not finished.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet, count_parameters
from dtpf.core.storage.store import Store
from dtpf.training.config import TrainSpec
from dtpf.training.group import current_group
from dtpf.training.run import run_training
from dtpf.training.validation import retention
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.space import Space, override

TRIAL_RESULT = "result.json"


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it.

    Attributes:
        setting: parameter names and values.
        spec: the training run that it stands for.
        status: `pending`, `running`, `finished`, `stopped` (early) or `failed`.
        retention: best so far, None before the first validation.
        parameters: of the student.
        steps: optimiser steps done.
        error: why it failed.
    """

    setting: Mapping[str, Any]
    spec: TrainSpec
    status: str = "pending"
    retention: float | None = None
    parameters: int = 0
    steps: int = 0
    error: str = ""

    def row(self) -> dict[str, Any]:
        """Return plain types for tables and receipts."""
        shown = {name: value for name, value in asdict(self).items() if name != "spec"}
        return {"trial": self.spec.root.rpartition("/")[2], **shown}


@dataclass(frozen=True)
class SearchTask:
    """A search: the base run, what varies, and what it is measured against."""

    base: TrainSpec
    space: Space
    config: TuneConfig
    resources: TuneResources
    teacher_scores: Mapping[str, float]
    teacher_parameters: int

    def trials(self) -> list[Trial]:
        """Return the trials of this search, each with a run of its own below the base's root."""
        settings = self.space.trials(self.config.trials, self.config.seed)
        return [self._trial(setting) for setting in settings]

    def _trial(self, setting: Mapping[str, Any]) -> Trial:
        spec = override(self.base, setting)
        every = max(self.config.steps // self.config.rounds, 1)
        train = spec.train.model_copy(
            update={
                "steps": every * self.config.rounds,
                "validate_every": every,
                "checkpoint_every": every,
                "warmup": min(spec.train.warmup, every),
            }
        )
        root = f"{self.base.root}/trials/{fingerprint(dict(setting))}"
        spec = spec.model_copy(update={"train": train, "root": root})
        return Trial(setting, spec, parameters=count_parameters(FusionNet(spec.model)))

    def objective(self, scores: Mapping[str, float]) -> float:
        """Return the retention of a student with these validation scores."""
        return retention(dict(scores), dict(self.teacher_scores), list(self.teacher_scores))


OnRound = Callable[[int, float], None]
OnTrials = Callable[[Sequence[Trial]], None]


def run_trial(
    task: SearchTask, trial: Trial, on_round: OnRound = lambda step, value: None
) -> Trial:
    """Train one trial to its end and leave its result in the store; at once if it is there.

    `on_round` sees the step and the retention after each validation; early stopping raises from it.
    """
    store = Store(trial.spec.store)
    key = f"{trial.spec.root}/{TRIAL_RESULT}"
    if store.exists(key):
        known = store.read_json(key)
        return replace(trial, **{name: known[name] for name in ("status", "retention", "steps")})
    result = run_training(
        trial.spec,
        current_group(),
        on_validation=lambda step, scores: on_round(step, task.objective(scores)),
    )
    done = replace(
        trial,
        status="finished",
        retention=task.objective(result.scores),
        steps=trial.spec.train.steps,
    )
    store.write_json(key, done.row())
    return done


def search_in_process(task: SearchTask, on_trials: OnTrials = lambda trials: None) -> list[Trial]:
    """Run all trials one after the other; a trial that fails is reported and the rest go on."""
    trials = task.trials()
    for index, trial in enumerate(trials):
        try:
            trials[index] = run_trial(task, trial)
        except UserError as error:
            trials[index] = replace(trial, status="failed", error=str(error))
        on_trials(trials)
    return trials


def choose_winner(task: SearchTask, trials: Sequence[Trial]) -> Trial:
    """Return the finished trial with the best retention within the parameter limit.

    Raises:
        UserError: no trial finished within the limit; says what would help.
    """
    limit = task.config.max_parameter_share * task.teacher_parameters
    finished = [trial for trial in trials if trial.status == "finished"]
    allowed = [trial for trial in finished if trial.parameters <= limit]
    if not allowed:
        errors = {trial.error for trial in trials if trial.error}
        raise UserError(
            f"tune: none of {len(trials)} trials finished within {limit:,.0f} parameters "
            f"({len(finished)} finished); raise tune.max_parameter_share or lower the widths"
            + (f"; first error: {sorted(errors)[0]}" if errors else "")
        )
    return max(allowed, key=lambda trial: (trial.retention or 0.0, -trial.parameters))
