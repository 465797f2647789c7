"""The page of a search: Pareto front, effect of each parameter, parallel coordinates, all trials.

`render_section` is a fragment for pages that have the evaluation report's style; `as_page` makes
it a page of its own that opens offline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from scipy.stats import spearmanr

from dtpf.evaluation.report import template_environment
from dtpf.tuning import plots
from dtpf.tuning.trials import SearchTask, Trial
from dtpf.tuning.winner import within_limits

_FEWEST = 3  # trials for which a rank correlation means anything


@dataclass(frozen=True)
class Effect:
    """What one parameter does: its plot, and its rank correlation with retention (or None)."""

    name: str
    plot: Markup
    correlation: float | None


def as_page(task: SearchTask, section: str) -> str:
    """Return a section as a self-contained HTML page."""
    return _environment().get_template("tune.html").render(task=task, section=Markup(section))


def render_section(task: SearchTask, trials: Sequence[Trial], winner: Trial | None = None) -> str:
    """Return `<section id="tuning">` about a search."""
    measured = [trial for trial in trials if trial.retention is not None]
    number = winner.number if winner else None
    return (
        _environment()
        .get_template("section.html")
        .render(
            task=task,
            trials=sorted(trials, key=lambda trial: -(trial.retention or -math.inf)),
            names=task.space.names,
            winner=winner,
            within=lambda trial: within_limits(task, trial),
            plots=_plots(task, measured, number) if measured else {},
            effects=[_effect(task, measured, name, number) for name in _varied(task, measured)],
            counts={status: sum(t.status == status for t in trials) for status in _STATUSES},
        )
    )


_STATUSES = ("finished", "stopped", "failed", "running")


def _plots(task: SearchTask, measured: Sequence[Trial], winner: int | None) -> dict[str, Markup]:
    label = "parameters" if task.config.cost == "parameters" else "latency, ms"
    costs = [task.cost(trial) for trial in measured]
    names = _varied(task, measured)
    log = {name: _logarithmic(task, name) for name in names}
    drawn = {
        f"Retention against {label}": plots.pareto(measured, costs, label, winner),
        "Retention by round": plots.rounds(measured, winner),
    }
    if names:
        drawn["Parallel coordinates"] = plots.parallel_coordinates(measured, names, log, winner)
    return {title: Markup(plot) for title, plot in drawn.items()}


def _varied(task: SearchTask, measured: Sequence[Trial]) -> list[str]:
    """Return the parameters that differ between trials; the others have no effect to show."""
    return [n for n in task.space.names if len({str(trial.setting[n]) for trial in measured}) > 1]


def _effect(task: SearchTask, measured: Sequence[Trial], name: str, winner: int | None) -> Effect:
    plot = plots.effect(measured, name, _logarithmic(task, name), winner)
    return Effect(name, Markup(plot), _correlation(measured, name))


def _correlation(measured: Sequence[Trial], name: str) -> float | None:
    """Return Spearman's rank correlation of a number with retention, None if it has none."""
    values = [trial.setting[name] for trial in measured]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not numeric or len(measured) < _FEWEST:
        return None
    found = spearmanr(values, [trial.retention for trial in measured]).statistic
    return None if np.isnan(found) else float(found)


def _logarithmic(task: SearchTask, name: str) -> bool:
    domain = task.space.domains.get(name)
    return domain is not None and domain.kind == "loguniform"


def _environment() -> Environment:
    environment = template_environment("dtpf.tuning")
    environment.filters["value"] = _value
    return environment


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}".replace(",", "\u202f") if type(value) is int else str(value)
