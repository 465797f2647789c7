"""Scores that others' methods have on the same pairs, read from a file, for the report's table.

The file is CSV with the columns `pair_id`, `method`, and one for each metric that is known; a row
for each method and pair.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dtpf.core.errors import UserError
from dtpf.core.storage.uri import normalise_uri, read_bytes
from dtpf.evaluation.config import EvalConfig


@dataclass(frozen=True)
class Peer:
    """One method's mean of each metric that its file has."""

    method: str
    means: Mapping[str, float]


def read_peers(config: EvalConfig, pair_ids: Sequence[str]) -> tuple[Peer, ...]:
    """Return the methods of `config.peers`, their means over these pairs; none if it is not set.

    Raises:
        UserError: the file cannot be read, lacks a column or a pair, or has a score that is no
            number; names the file, the place and the remedy.
    """
    if config.peers is None:
        return ()
    uri = normalise_uri(config.peers)
    reader = csv.DictReader(io.StringIO(read_bytes(uri).decode("utf-8-sig")))
    columns = list(reader.fieldnames or ())
    missing = sorted({"pair_id", "method"} - set(columns))
    if missing:
        raise UserError(f"{uri}: no column {', '.join(missing)}; its first line has {columns}")
    metrics = [name for name in config.metrics if name in columns]
    of_method: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in reader:
        of_method.setdefault(row["method"], {})[row["pair_id"]] = row
    for method, rows in of_method.items():
        _check_pairs(uri, method, rows, pair_ids)
    return tuple(
        Peer(
            method,
            {name: fmean(_number(uri, rows[each], name) for each in pair_ids) for name in metrics},
        )
        for method, rows in of_method.items()
    )


def _check_pairs(
    uri: str, method: str, rows: Mapping[str, Mapping[str, str]], pair_ids: Sequence[str]
) -> None:
    lacking = [pair_id for pair_id in pair_ids if pair_id not in rows]
    if lacking:
        raise UserError(
            f"{uri}: method {method} has no scores of {len(lacking)} of {len(pair_ids)} pairs "
            f"(first: {lacking[0]}); add them, or leave the method out of the file"
        )


def _number(uri: str, row: Mapping[str, str], metric: str) -> float:
    try:
        return float(row[metric])
    except (TypeError, ValueError):
        raise UserError(
            f"{uri}: {metric} of {row['method']} on {row['pair_id']} is {row[metric]!r}, no number"
        ) from None
