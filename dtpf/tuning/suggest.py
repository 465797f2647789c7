"""Which setting is tried next: what was interrupted, then what is planned, then what Optuna says.

A proposal is a function of the recorded trials and the seed alone. So nothing of the sampler needs
to be saved: a search that goes on asks it with the same trials.
"""

import functools
import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dtpf.core.errors import UserError
from dtpf.tuning.ledger import Ledger, unfinished
from dtpf.tuning.space import Domain, Setting, Space
from dtpf.tuning.trials import SETTLED, SearchTask, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

_MOST_MISSES = 200  # draws in a row that bring nothing new: a finite space is used up
_ATTEMPTS, _STRIDE = 10, 7919  # seeds of repeated proposals do not meet those of later trials


class Suggestions:
    """Hands out the trials of a search, each once.

    Raises:
        UserError: a grid with ranges or with more settings than the budget has trials, or no
            setting within the limit of parameters.
    """

    def __init__(self, task: SearchTask, ledger: Ledger) -> None:
        self._task, self._ledger = task, ledger
        self._plan = plan(task)
        self._again = unfinished(ledger.trials[: task.config.trials])

    @property
    def left(self) -> int:
        """How many trials the budget has left; a small space may have fewer."""
        return len(self._again) + max(self._task.config.trials - len(self._ledger.trials), 0)

    def next(self) -> Trial | None:
        """Return the next trial; None when budget or space are used up."""
        if self._again:
            return self._again.pop(0)
        if len(self._ledger.trials) >= self._task.config.trials:
            return None
        setting = next((item for item in self._plan if not self._ledger.knows(item)), None)
        if setting is None and self._task.config.search == "optuna" and self._task.space.domains:
            setting = self._propose()
        return None if setting is None else self._ledger.add(setting)

    def _propose(self) -> dict[str, Any] | None:
        """Return what Optuna proposes, or an untried draw where it insists on what is known."""
        trials, config = self._ledger.trials, self._task.config
        for attempt in range(_ATTEMPTS):
            seed = config.seed + len(trials) + _STRIDE * attempt
            setting = propose(self._task, trials, seed)
            if fits(self._task, setting) and not self._ledger.knows(setting):
                return setting
        draws = _distinct(self._task, self._task.space.draws(config.seed), len(trials) + 1)
        return next((setting for setting in draws if not self._ledger.knows(setting)), None)


def plan(task: SearchTask) -> list[dict[str, Any]]:
    """Return the settings that are chosen before any result is seen."""
    config, space = task.config, task.space
    if config.search == "grid" or space.points:
        settings = space.grid()
        if len(settings) > config.trials:
            raise UserError(
                f"space {space.name} has {len(settings)} settings and tune.trials is "
                f"{config.trials}; raise tune.trials, or search by optuna or random"
            )
        planned = [setting for setting in settings if fits(task, setting)]
    else:
        untuned = _untuned(task)
        draws = itertools.chain(untuned, space.draws(config.seed))
        startup = config.startup + len(untuned) if config.search == "optuna" else config.trials
        planned = _distinct(task, draws, min(startup, config.trials))
    if not planned:
        raise UserError(
            f"space {space.name} has no student within {task.parameter_limit:,.0f} parameters; "
            "raise tune.max_parameter_share or lower the widths of the space"
        )
    return planned


def _untuned(task: SearchTask) -> list[dict[str, Any]]:
    """Return the setting that the search starts from, where the space holds it.

    Trained like every other trial, it is what they are measured by.
    """
    setting = {
        name: functools.reduce(getattr, name.split("."), task.base)
        for name in sorted(task.space.domains)
    }
    held = all(domain.holds(setting[name]) for name, domain in task.space.domains.items())
    return [setting] if held else []


def fits(task: SearchTask, setting: Setting) -> bool:
    """Say whether a setting's student is small enough to win."""
    return task.trial(0, setting).parameters <= task.parameter_limit


def _distinct(
    task: SearchTask, draws: Iterable[dict[str, Any]], count: int
) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    misses = 0
    for setting in draws:
        trial = task.trial(0, setting)
        if trial.name in found or trial.parameters > task.parameter_limit:
            misses += 1
        else:
            found[trial.name], misses = setting, 0
        if len(found) == count or misses == _MOST_MISSES:
            break
    return list(found.values())


def propose(task: SearchTask, trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    """Return what Optuna's multi-objective TPE proposes after these trials.

    Trials that were stopped early count with what they had reached; those still running count
    as taken, so that trials side by side differ.

    Raises:
        UserError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError(
            "tune.search=optuna needs Optuna: pip install 'dtpf[ray]', or set tune.search=random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed
        )
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        _teach(study, task, trials)
        return _decode(task.space, study.ask(_distributions(task.space)).params)


def _teach(study: "Study", task: SearchTask, trials: Sequence[Trial]) -> None:
    from optuna.trial import TrialState, create_trial

    space, distributions = task.space, _distributions(task.space)
    for trial in trials:
        if trial.status == "failed":
            continue
        settled = trial.status in SETTLED and trial.retention is not None
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if settled else TrialState.RUNNING,
                values=[trial.retention or 0.0, task.cost(trial)] if settled else None,
                params=_encode(space, trial.setting),
                distributions=distributions,
            )
        )


def _distributions(space: Space) -> dict[str, "BaseDistribution"]:
    """Return Optuna's view of the space: choices are positions in their lists."""
    from optuna import distributions as kinds

    def convert(domain: Domain) -> "BaseDistribution":
        if domain.kind == "choice":
            positions = range(len(domain.values))
            if _ordered(domain.values):
                return kinds.IntDistribution(0, len(positions) - 1)
            return kinds.CategoricalDistribution(list(positions))
        low, high = domain.values
        if domain.kind == "randint":
            return kinds.IntDistribution(low, high)
        return kinds.FloatDistribution(low, high, log=domain.kind == "loguniform")

    return {name: convert(domain) for name, domain in sorted(space.domains.items())}


def _ordered(values: Sequence[Any]) -> bool:
    """Say whether neighbours in a list of choices are alike: numbers in ascending order."""
    numbers = all(isinstance(value, int | float) for value in values)
    return numbers and list(values) == sorted(values)


def _encode(space: Space, setting: Setting) -> dict[str, Any]:
    return {
        name: domain.values.index(setting[name]) if domain.kind == "choice" else setting[name]
        for name, domain in sorted(space.domains.items())
    }


def _decode(space: Space, params: Setting) -> dict[str, Any]:
    return {
        name: domain.values[params[name]] if domain.kind == "choice" else params[name]
        for name, domain in sorted(space.domains.items())
    }
