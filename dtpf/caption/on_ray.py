"""Captioning on a Ray cluster: the shards of `runner.py`, spread over an actor pool.

Each row of the dataset is one whole shard. An actor captions it and publishes it to the store
itself, so only counts travel back and the driver's memory does not grow with the data. A shard
that Ray runs again, after the loss of an actor, is written again with the same content.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import pyarrow as pa

from dtpf.caption.captioner import Captioner, build_captioner
from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import TextEncoder, build_encoder
from dtpf.caption.runner import CaptionReport, Progress, caption_shard
from dtpf.caption.shards import CaptionTarget, Shard, plan_shards
from dtpf.core.errors import UserError
from dtpf.core.records import PAIR_SCHEMA, Pair
from dtpf.core.storage.store import Store
from dtpf.on_ray import map_tables

_SHARD_SCHEMA = pa.schema(
    [("number", pa.int32()), ("pairs", pa.list_(pa.struct(list(PAIR_SCHEMA))))]
)
_RESULT_SCHEMA = pa.schema([("done", pa.int32()), ("failed", pa.int32()), ("error", pa.string())])


class ShardCaptioner:
    """Actor of the pool: loads captioner and encoder once, then captions shard after shard.

    A UserError travels back as data, since Ray keeps only the text of a worker's exception. For
    the same reason loading waits for the first shard.
    """

    def __init__(self, config: CaptionConfig, target: CaptionTarget) -> None:
        self._config = config
        self._target = target

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Caption every shard of the batch; returns one row per shard in _RESULT_SCHEMA."""
        results = [self._run(_shard_from_row(row)) for row in batch.to_pylist()]
        return pa.Table.from_pylist(results, schema=_RESULT_SCHEMA)

    def _run(self, shard: Shard) -> dict[str, Any]:
        try:
            captioner, encoder = self._tools
            scaling = self._config.infrared_scaling
            failed = caption_shard(shard, captioner, encoder, scaling, self._target)
        except UserError as error:
            return {"done": 0, "failed": 0, "error": str(error)}
        return {"done": len(shard.pairs), "failed": failed, "error": None}

    @cached_property
    def _tools(self) -> tuple[Captioner, TextEncoder]:
        return build_captioner(self._config), build_encoder(self._config)


def caption_pairs(
    pairs: Sequence[Pair],
    config: CaptionConfig,
    store: Store,
    captions_prefix: str,
    embeddings_prefix: str,
    progress: Progress | None = None,
) -> CaptionReport:
    """Caption all pairs on the current Ray cluster; otherwise as `runner.caption_pairs`."""
    target = CaptionTarget(store, captions_prefix, embeddings_prefix)
    pending = target.pending(plan_shards(pairs, config.shard_rows))
    skipped = len(pairs) - sum(len(shard.pairs) for shard in pending)
    done = failed = 0
    for result in _run_shards(pending, config, target):
        if result["error"]:
            raise UserError(result["error"])
        done += result["done"]
        failed += result["failed"]
        if progress:
            progress(skipped + done, len(pairs))
    return CaptionReport(done, skipped, failed)


def _run_shards(
    pending: Sequence[Shard], config: CaptionConfig, target: CaptionTarget
) -> Iterator[dict[str, Any]]:
    if not pending:
        return
    resources = config.resources
    yield from map_tables(
        [_shard_as_table(shard) for shard in pending],
        ShardCaptioner,
        (config, target),
        actors=resources.concurrency,
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        stall_timeout_s=resources.stall_timeout_s,
    )


def _shard_as_table(shard: Shard) -> pa.Table:
    row = {"number": shard.number, "pairs": [asdict(pair) for pair in shard.pairs]}
    return pa.Table.from_pylist([row], schema=_SHARD_SCHEMA)


def _shard_from_row(row: dict[str, Any]) -> Shard:
    return Shard(row["number"], tuple(Pair(**pair) for pair in row["pairs"]))
