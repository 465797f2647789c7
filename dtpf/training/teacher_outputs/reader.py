"""Stored teacher outputs as a training reads them, in the thread that makes its batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.data.cache import ByteCache
from dtpf.training.config import TrainSpec
from dtpf.training.feed import ReadOutputs
from dtpf.training.teacher_outputs.shards import SHARD_CROPS, OutputShards, shards_of

CACHE_BYTES = 256 * 2**20


class OutputReader:
    """Reads the outputs of crops by their positions and keeps the latest shards.

    The feed makes the next batch while the current one trains, so a step waits for the store only
    where reading takes longer than training.
    """

    def __init__(self, shards: OutputShards, cache_bytes: int = CACHE_BYTES) -> None:
        self._shards = shards
        self._cache = ByteCache[tuple[Tensor, ...]](cache_bytes, _size)

    def __call__(self, positions: Sequence[int]) -> tuple[Tensor, ...]:
        """Return fused image (B, 3, S, S) and the four features, float16, B = len(positions).

        Raises:
            UserError: a shard is missing or damaged; names it.
        """
        rows = []
        for position in positions:
            number, place = divmod(position, SHARD_CROPS)
            rows.append([value[place] for value in self._shard(number)])
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))

    def _shard(self, number: int) -> tuple[Tensor, ...]:
        shard = self._cache.get(number)
        if shard is None:
            shard = self._shards.read(number)
            self._cache.put(number, shard)
        return shard


def open_outputs(spec: TrainSpec, store: Store, pairs: Sequence[Pair]) -> ReadOutputs:
    """Return what gives a training its teacher's outputs: nothing where the teacher runs live.

    Args:
        spec: of the training.
        store: the spec's.
        pairs: the index's training pairs, in its order.

    Raises:
        UserError: outputs are to be read that have not been written.
    """
    if spec.task == "teacher" or spec.teacher_outputs == "live":
        return lambda positions: ()
    shards = shards_of(spec, store, pairs)
    if missing := shards.pending(spec.train):
        raise UserError(
            f"{store.uri_of(shards.prefix)}: {len(missing)} shards of teacher outputs are missing "
            f"(first: {missing[0]}); run jobs/distill_student.py, which writes them, or set "
            "student.teacher_outputs=live"
        )
    return OutputReader(shards)


def _size(shard: Sequence[Tensor]) -> int:
    return sum(value.nbytes for value in shard)
