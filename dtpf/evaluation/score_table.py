"""All scores of an evaluation in one long table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dtpf.core.metrics import Convention, find_convention, find_metric

Row = dict[str, Any]

SCORE_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several methods on the same pairs: a long table in SCORE_SCHEMA.

    Attributes:
        scores: one row for each pair, method and metric.
        convention: how it was scored.
    """

    scores: pa.Table
    convention: Convention

    @classmethod
    def from_rows(cls, rows: Sequence[Row], convention: Convention | str) -> "ScoreTable":
        """Build from dicts with the columns of SCORE_SCHEMA."""
        table = pa.Table.from_pylist(list(rows), schema=SCORE_SCHEMA)
        return cls(table, find_convention(convention))

    @cached_property
    def pair_ids(self) -> tuple[str, ...]:
        """Pairs in the order of evaluation."""
        return self._distinct("pair_id")

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order given to `evaluate`."""
        return self._distinct("method")

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics in the order of the config."""
        return self._distinct("metric")

    def values(self, method: str, metric: str) -> NDArray[np.float64]:
        """Return one value a pair, in the order of `pair_ids`."""
        cube, methods, metrics = self._cube, self.methods, self.metrics
        return cube[:, methods.index(method), metrics.index(metric)]

    def mean(self, method: str, metric: str) -> float:
        """Return the mean over all pairs."""
        return float(self.values(method, metric).mean())

    def means(self) -> dict[str, dict[str, float]]:
        """Return the summary: method to metric to mean."""
        return {
            method: {metric: self.mean(method, metric) for metric in self.metrics}
            for method in self.methods
        }

    def worst_pairs(self, method: str, count: int) -> tuple[str, ...]:
        """Return the pairs on which `method` does worst, worst first.

        Each metric is standardised over the pairs (sign so that higher is better), then averaged:
        no metric outweighs another by its units.
        """
        ranking = np.zeros(len(self.pair_ids))
        for metric in self.metrics:
            values = self.values(method, metric)
            sign = 1.0 if find_metric(metric).higher_is_better else -1.0
            ranking += sign * (values - values.mean()) / max(float(values.std()), 1e-12)
        return tuple(self.pair_ids[i] for i in np.argsort(ranking, kind="stable")[:count])

    @cached_property
    def _cube(self) -> NDArray[np.float64]:
        """Values by pair, method and metric."""
        axes = {"pair_id": self.pair_ids, "method": self.methods, "metric": self.metrics}
        cube = np.full([len(names) for names in axes.values()], np.nan)
        place = tuple(
            pc.index_in(self.scores[column], pa.array(names)).to_numpy()
            for column, names in axes.items()
        )
        cube[place] = self.scores["value"].to_numpy()
        assert cube.size == self.scores.num_rows, "every method has every score of every pair once"
        return cube

    def _distinct(self, column: str) -> tuple[str, ...]:
        return tuple(self.scores[column].unique().to_pylist())
