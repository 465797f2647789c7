"""Run methods over a set of pairs and collect every score in one long table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from dtpf.core.errors import UserError
from dtpf.core.metrics import METRICS, score
from dtpf.core.records import Pair
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import Load, LoadedPair, Method

Progress = Callable[[int, int], None]

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
        convention: how it was scored, a key of CONVENTIONS.
    """

    scores: pa.Table
    convention: str = "standard"

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]], convention: str) -> "ScoreTable":
        """Build from dicts with the columns of SCORE_SCHEMA."""
        return cls(pa.Table.from_pylist(list(rows), schema=SCORE_SCHEMA), convention)

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
            sign = 1.0 if METRICS[metric].higher_is_better else -1.0
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


def evaluate(
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    load: Load,
    config: EvalConfig,
    progress: Progress | None = None,
) -> ScoreTable:
    """Fuse and score every pair of the config's split with every method.

    Args:
        methods: what to compare; their names must differ.
        pairs: an index; other splits are left out.
        load: reads one pair.
        config: metrics, reference, convention.
        progress: called as (pairs done, pairs in all) after each pair.

    Raises:
        UserError: no pair in the split, a name twice, or a pair that cannot be scored.
    """
    chosen = in_split(pairs, config)
    names = [method.name for method in methods]
    if not names or len(set(names)) != len(names):
        raise UserError(f"methods need distinct names and at least one, got {names}")
    rows: list[dict[str, Any]] = []
    for done, pair in enumerate(chosen, start=1):
        loaded = load(pair)
        for method in methods:
            values = _scores(method.fuse(loaded), loaded, method.name, config)
            rows += [
                {"pair_id": pair.pair_id, "method": method.name, "metric": name, "value": value}
                for name, value in values.items()
            ]
        if progress:
            progress(done, len(chosen))
    return ScoreTable.from_rows(rows, config.convention)


def in_split(pairs: Sequence[Pair], config: EvalConfig) -> list[Pair]:
    """Return the pairs of the config's split.

    Raises:
        UserError: there is none.
    """
    chosen = [pair for pair in pairs if pair.split == config.split]
    if not chosen:
        known = ", ".join(sorted({pair.split for pair in pairs})) or "no pairs at all"
        raise UserError(f"the index has no pair in split {config.split!r}; it has: {known}")
    return chosen


def _scores(fused: Tensor, loaded: LoadedPair, method: str, config: EvalConfig) -> dict[str, float]:
    visible, infrared = loaded.visible, loaded.infrared
    if config.reference == "guide" and loaded.guides is not None:
        visible, infrared = loaded.guides
    try:
        values = score(fused, visible, infrared, config.metrics, config.convention)
    except ValueError as error:
        raise UserError(f"{loaded.pair.pair_id}, method {method}: {error}") from None
    return {name: float(value) for name, value in values.items()}
