"""Shards of the caption stage: which pairs belong together, where they lie, which are done.

Shard k is the k-th block of `shard_rows` pairs in the order of `pair_id`: the same pairs give the
same shards on every run. The embeddings of a shard are written before its captions, so a captions
object marks a whole shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.core.storage.keys import shard_key
from dtpf.core.storage.store import Store


@dataclass(frozen=True)
class Shard:
    """A numbered block of pairs that is captioned, written and skipped as a whole."""

    number: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class CaptionTarget:
    """Where the shards of one captioning go."""

    store: Store
    captions_prefix: str
    embeddings_prefix: str

    def publish(self, shard: int, captions: pa.Table, embeddings: pa.Table) -> None:
        """Write both parts of one shard, each atomically, the one that marks it done last."""
        self.store.write_table(shard_key(self.embeddings_prefix, shard), embeddings)
        self.store.write_table(shard_key(self.captions_prefix, shard), captions)

    def pending(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return the shards of which a part is missing."""
        captions = set(self.store.keys(self.captions_prefix))
        embeddings = set(self.store.keys(self.embeddings_prefix))
        return [
            shard
            for shard in shards
            if shard_key(self.captions_prefix, shard.number) not in captions
            or shard_key(self.embeddings_prefix, shard.number) not in embeddings
        ]


def plan_shards(pairs: Sequence[Pair], shard_rows: int) -> list[Shard]:
    """Assign pairs to shards, independent of their order.

    Raises:
        UserError: a `pair_id` occurs twice.
    """
    ordered = sorted(pairs, key=lambda pair: pair.pair_id)
    for first, second in pairwise(ordered):
        if first.pair_id == second.pair_id:
            raise UserError(f"pair_id {first.pair_id!r} occurs twice in the index; make it unique")
    starts = range(0, len(ordered), shard_rows)
    return [
        Shard(number, tuple(ordered[start : start + shard_rows]))
        for number, start in enumerate(starts)
    ]
