"""Paired comparison of two methods on the same pairs, and the student's share of its teacher."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from dtpf.core.errors import UserError
from dtpf.core.metrics import RETENTION_METRICS, find_metric, retention, retention_shares
from dtpf.evaluation.score_table import ScoreTable

_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """How `first` does against `second` in one metric, pair by pair.

    Attributes:
        metric: its name.
        first: method in question.
        second: method that it is held against.
        wins: pairs on which `first` is better.
        losses: pairs on which it is worse; the rest are ties.
        pairs: pairs compared.
        median_difference: median of first minus second, in the metric's units.
        interval: 95% bootstrap confidence interval of that median (None with fewer than 2 pairs).
    """

    metric: str
    first: str
    second: str
    wins: int
    losses: int
    pairs: int
    median_difference: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `open` where the interval holds zero."""
        if self.interval is None or self.interval[0] <= 0.0 <= self.interval[1]:
            return "open"
        rises = self.interval[0] > 0.0
        return "better" if rises == find_metric(self.metric).higher_is_better else "worse"


def compare(table: ScoreTable, first: str, second: str, seed: int = 0) -> list[Comparison]:
    """Return one paired comparison for each metric of the table.

    Raises:
        UserError: a method that the table does not have.
    """
    for method in (first, second):
        _check_method(table, method)
    return [_compared(table, metric, first, second, seed) for metric in table.metrics]


@dataclass(frozen=True)
class Retention:
    """The student's share of the teacher's mean score: by metric, and their mean."""

    shares: dict[str, float]
    overall: float


def retention_in(
    table: ScoreTable,
    student: str,
    teacher: str,
    metrics: tuple[str, ...] = RETENTION_METRICS,
) -> Retention:
    """Return what a student of the table keeps of its teacher; see `core.metrics.retention`.

    Raises:
        UserError: a method or metric that the table does not have, or a score that is not
            positive (then a share means nothing).
    """
    for method in (student, teacher):
        _check_method(table, method)
    absent = [metric for metric in metrics if metric not in table.metrics]
    if absent:
        raise UserError(f"retention needs {', '.join(absent)}: add them to the metrics")
    ours, theirs = ({m: table.mean(method, m) for m in metrics} for method in (student, teacher))
    try:
        return Retention(retention_shares(ours, theirs, metrics), retention(ours, theirs, metrics))
    except ValueError as error:
        raise UserError(str(error)) from None


def _compared(table: ScoreTable, metric: str, first: str, second: str, seed: int) -> Comparison:
    difference = table.values(first, metric) - table.values(second, metric)
    gain = difference if find_metric(metric).higher_is_better else -difference
    interval = None
    if difference.size > 1:
        resampled = bootstrap(
            (difference,),
            np.median,
            n_resamples=_RESAMPLES,
            batch=256,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        interval = (float(resampled.low), float(resampled.high))
    return Comparison(
        metric=metric,
        first=first,
        second=second,
        wins=int((gain > 0).sum()),
        losses=int((gain < 0).sum()),
        pairs=int(gain.size),
        median_difference=float(np.median(difference)),
        interval=interval,
    )


def _check_method(table: ScoreTable, method: str) -> None:
    if method not in table.methods:
        raise UserError(f"no method {method!r} in the table; it has: {', '.join(table.methods)}")
