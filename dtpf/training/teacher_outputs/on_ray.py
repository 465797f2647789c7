"""A teacher's outputs by a Ray Data job: the shards of `writer.py`, spread over an actor pool.

An actor holds the teacher and writes its shards to the store itself, so only shard numbers and
errors travel, and the driver's memory does not grow with the crops. A shard that Ray runs again,
after the loss of an actor, is written again with the same content.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch

from dtpf.core.errors import UserError
from dtpf.on_ray import map_tables
from dtpf.training.config import ScalingConfig, TrainSpec
from dtpf.training.teacher_outputs.writer import OnCrops, OutputsReport, ShardWriter, Work

STALL_SECONDS = 600  # without an actor or progress for so long, the job ends

_SHARD_SCHEMA = pa.schema([("shard", pa.int32())])
_RESULT_SCHEMA = pa.schema([("shard", pa.int32()), ("error", pa.string())])


class ShardActor:
    """Actor of the pool: loads teacher and data once, then writes shard after shard.

    A UserError travels back as data, since Ray keeps only the text of a worker's exception. For
    the same reason loading waits for the first shard.
    """

    def __init__(self, spec: dict[str, Any], gpu: bool) -> None:
        self._spec = spec
        self._device = torch.device("cuda" if gpu else "cpu")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write every shard of the batch; returns one row a shard in _RESULT_SCHEMA."""
        results = [self._run(row["shard"]) for row in batch.to_pylist()]
        return pa.Table.from_pylist(results, schema=_RESULT_SCHEMA)

    def _run(self, shard: int) -> dict[str, Any]:
        try:
            self._write(shard)
        except UserError as error:
            return {"shard": shard, "error": str(error)}
        return {"shard": shard, "error": None}

    @cached_property
    def _write(self) -> Callable[[int], None]:
        return ShardWriter(TrainSpec.parse(self._spec, "training spec"), self._device).write


def write_teacher_outputs_on_ray(
    spec: TrainSpec, scaling: ScalingConfig, on_crops: OnCrops = lambda done, total: None
) -> OutputsReport:
    """Write the teacher's outputs on the current cluster; otherwise as `write_teacher_outputs`.

    Args:
        spec: of the student, with `teacher_outputs=stored`.
        scaling: as many actors as workers, with the resources of one each.
        on_crops: called in the driver after each shard.
    """
    work = Work.of(spec)
    if not work.pending:
        return work.report
    advance = work.progress(on_crops)
    rows = [pa.Table.from_pylist([{"shard": n}], schema=_SHARD_SCHEMA) for n in work.pending]
    results = map_tables(
        rows,
        ShardActor,
        (spec.as_dict(), scaling.gpu),
        actors=scaling.workers,
        num_cpus=scaling.cpus_per_worker,
        num_gpus=float(scaling.gpu),
        stall_timeout_s=STALL_SECONDS,
    )
    for result in results:
        if result["error"]:
            raise UserError(result["error"])
        advance()
    return work.report
