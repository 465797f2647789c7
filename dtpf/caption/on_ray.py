"""Captioning on a Ray cluster: the shards of `runner.py`, spread over an actor pool.

Each row of the dataset is the number of a shard. An actor reads its pairs, captions them and
publishes the shard to the store itself, so only counts travel back and the driver's memory does
not grow with the data. What a shard lacks after the loss of an actor, another one adds.

A vision-language model captions first, through `vlm/on_ray.py`; the actors then encode.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa

from dtpf.caption.runner import (
    CaptionReport,
    Progress,
    ShardResult,
    ShardWorker,
    complete_shards,
)
from dtpf.caption.shards import CaptionTask, Shard, shard_table
from dtpf.caption.vlm.on_ray import caption_by_engine
from dtpf.core.errors import UserError
from dtpf.on_ray import map_tables

_RESULT_SCHEMA = pa.schema(
    [("rows", pa.int64()), ("reused", pa.int64()), ("failed", pa.int64()), ("error", pa.string())]
)
# With more shards than these tasks, several share one, so that the driver has fewer tasks to
# remember; few enough that progress shows and no task takes long.
_FEW_TASKS, _TASKS_PER_ACTOR, _MOST_TOGETHER = 256, 32, 16


class ShardCaptioner:
    """Actor of the pool: loads captioner and encoder once, then completes shard after shard.

    A UserError travels back as data, since Ray keeps only the text of a worker's exception. For
    the same reason loading waits for the first shard.
    """

    def __init__(self, task: CaptionTask) -> None:
        self._worker = ShardWorker(task)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Complete every shard of the batch; returns one row per shard in _RESULT_SCHEMA."""
        results = [self._run(Shard(**row)) for row in batch.to_pylist()]
        return pa.Table.from_pylist(results, schema=_RESULT_SCHEMA)

    def _run(self, shard: Shard) -> dict[str, Any]:
        try:
            return {**vars(self._worker.complete(shard)), "error": None}
        except UserError as error:
            return {"rows": 0, "reused": 0, "failed": 0, "error": str(error)}


def caption_pairs(task: CaptionTask, progress: Progress | None = None) -> CaptionReport:
    """Caption all pairs on the current Ray cluster; otherwise as `runner.caption_pairs`."""
    if task.config.captioner != "statistics":
        caption_by_engine(task, progress)
        progress = None
    return complete_shards(task, lambda shards: _run_shards(shards, task), progress)


def _run_shards(pending: Sequence[Shard], task: CaptionTask) -> Iterator[ShardResult]:
    if not pending:
        return
    resources = task.config.resources
    tasks = max(_FEW_TASKS, _TASKS_PER_ACTOR * resources.concurrency)
    results = map_tables(
        [shard_table(shard) for shard in pending],
        ShardCaptioner,
        (task,),
        actors=resources.concurrency,
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        stall_timeout_s=resources.stall_timeout_s,
        together=min(_MOST_TOGETHER, -(-len(pending) // tasks)),
    )
    with closing(results):  # an error ends the work at once, not when nobody remembers it
        for result in results:
            error = result.pop("error")
            if error:
                raise UserError(error)
            yield ShardResult(**result)
