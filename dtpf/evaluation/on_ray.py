"""Evaluation on a Ray cluster: batches of pairs of one size, spread over an actor pool.

Each row of the dataset is one batch. An actor reads its images from the store, fuses and scores
them; only numbers travel back. The methods, with their weights, travel once to each actor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from dtpf.core.errors import UserError
from dtpf.core.records import PAIR_SCHEMA, Pair
from dtpf.evaluation.batches import Load, group_pairs
from dtpf.evaluation.config import EvalConfig
from dtpf.evaluation.methods import Method
from dtpf.evaluation.score import Progress, check_names, collect, in_split, score_group
from dtpf.evaluation.score_table import SCORE_SCHEMA, Row, ScoreTable
from dtpf.on_ray import map_tables

_GROUP_SCHEMA = pa.schema([("pairs", pa.list_(pa.struct(list(PAIR_SCHEMA))))])
_RESULT_SCHEMA = pa.schema(
    [
        ("pairs", pa.int32()),
        ("rows", pa.list_(pa.struct(list(SCORE_SCHEMA)))),
        ("error", pa.string()),
    ]
)


class BatchScorer:
    """Actor of the pool: holds the methods, scores batch after batch.

    A UserError travels back as data, since Ray keeps only the text of a worker's exception.
    """

    def __init__(self, methods: Sequence[Method], load: Load, config: EvalConfig) -> None:
        self._methods = methods
        self._load = load
        self._config = config

    def __call__(self, table: pa.Table) -> pa.Table:
        """Score every batch of the table; returns one row for each in _RESULT_SCHEMA."""
        groups = [[Pair(**pair) for pair in row["pairs"]] for row in table.to_pylist()]
        results = [self._score(group) for group in groups]
        return pa.Table.from_pylist(results, schema=_RESULT_SCHEMA)

    def _score(self, group: Sequence[Pair]) -> dict[str, Any]:
        try:
            rows = score_group(self._methods, group, self._load, self._config)
        except UserError as error:
            return {"pairs": len(group), "rows": [], "error": str(error)}
        return {"pairs": len(group), "rows": rows, "error": None}


def evaluate_on_ray(
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    load: Load,
    config: EvalConfig,
    progress: Progress | None = None,
) -> ScoreTable:
    """Fuse and score on the current Ray cluster; otherwise as `score.evaluate`.

    Images are read where the work is done: their URIs must mean the same on every node.
    """
    chosen = in_split(pairs, config)
    check_names(methods)
    rows: list[Row] = []
    done = 0
    for result in _run(methods, chosen, load, config):
        if result["error"]:
            raise UserError(result["error"])
        rows += result["rows"]
        done += result["pairs"]
        if progress:
            progress(done, len(chosen))
    return collect(rows, chosen, config)


def _run(
    methods: Sequence[Method], pairs: Sequence[Pair], load: Load, config: EvalConfig
) -> Iterator[dict[str, Any]]:
    resources = config.resources
    yield from map_tables(
        [_as_table(group) for group in group_pairs(pairs, resources.batch)],
        BatchScorer,
        (methods, load, config),
        actors=resources.actors,
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        stall_timeout_s=resources.stall_timeout_s,
    )


def _as_table(group: Sequence[Pair]) -> pa.Table:
    return pa.Table.from_pylist([{"pairs": [asdict(pair) for pair in group]}], schema=_GROUP_SCHEMA)
