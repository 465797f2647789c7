"""Shards of the caption stage: which pairs belong together, where they lie, which are done.

Shard k is the k-th block of `shard_rows` pairs of the index. Captions are written once: the first
writer wins, however many runs there are at a time. Embeddings are made from the captions that are
stored, so they fit them whoever wrote either; with them a shard is complete.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dtpf.caption.config import CaptionConfig
from dtpf.core.errors import UserError
from dtpf.core.records import CAPTION_SCHEMA, Caption, Pair, pairs_from_table
from dtpf.core.storage.keys import shard_key
from dtpf.core.storage.store import Store

_SHARD_SCHEMA = pa.schema([(name, pa.int64()) for name in ("number", "start", "stop")])


@dataclass(frozen=True)
class Shard:
    """Rows [start, stop) of the index, captioned, written and skipped as a whole."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Previous:
    """An earlier captioning by the same captioner: its captions of unchanged pairs are taken over.

    Attributes:
        pairs: key of the index it was made of.
        captions: prefix of its shards.
        shard_rows: their size.
    """

    pairs: str
    captions: str
    shard_rows: int


@dataclass(frozen=True)
class CaptionTask:
    """What is captioned, how, and where the rows go; small, so that it travels to workers.

    Attributes:
        store: holds index and results.
        pairs: key of the index.
        config: captioner and encoder.
        captions: prefix of the shards of captions.
        embeddings: prefix of the shards of embeddings.
        previous: where captions may be taken from.
    """

    store: Store
    pairs: str
    config: CaptionConfig
    captions: str
    embeddings: str
    previous: Previous | None = None

    def shards(self) -> list[Shard]:
        """Return all shards; needs the number of pairs alone."""
        rows, size = self.store.row_count(self.pairs), self.config.shard_rows
        return [
            Shard(number, start, min(start + size, rows))
            for number, start in enumerate(range(0, rows, size))
        ]

    def pairs_of(self, shard: Shard) -> list[Pair]:
        """Read the pairs of a shard."""
        return pairs_from_table(self.store.read_rows(self.pairs, shard.start, shard.stop))

    def has_captions(self, shard: Shard) -> bool:
        """Say whether somebody has captioned a shard."""
        return self.store.exists(shard_key(self.captions, shard.number))

    def has_embeddings(self, shard: Shard) -> bool:
        """Say whether the captions of a shard are encoded."""
        return self.store.exists(shard_key(self.embeddings, shard.number))

    def without_captions(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return those of the shards that nobody has captioned."""
        return self._missing(self.captions, shards)

    def incomplete(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return those of the shards that lack captions or embeddings."""
        missing = {*self.without_captions(shards), *self._missing(self.embeddings, shards)}
        return [shard for shard in shards if shard in missing]

    def _missing(self, prefix: str, shards: Sequence[Shard]) -> list[Shard]:
        there = set(self.store.keys(prefix))
        return [shard for shard in shards if shard_key(prefix, shard.number) not in there]

    def publish(self, shard: Shard, captions: Sequence[Caption]) -> None:
        """Write the captions of a shard, unless another run was faster.

        Raises:
            UserError: their number is another, or a pair occurs twice.
        """
        if len(captions) != len(shard) or len({row.pair_id for row in captions}) != len(shard):
            raise UserError(f"shard {shard.number} needs one caption of each of {len(shard)} pairs")
        key = shard_key(self.captions, shard.number)
        self.store.create_table(key, captions_table(captions))

    def published(self, shard: Shard) -> pa.Table:
        """Read the captions of a shard."""
        return self.store.read_table(shard_key(self.captions, shard.number))


def shard_table(shard: Shard) -> pa.Table:
    """Return a shard as a table of one row, as it travels to workers; `Shard(**row)` reads it."""
    return pa.Table.from_pylist([vars(shard)], schema=_SHARD_SCHEMA)


def captions_table(captions: Sequence[Caption]) -> pa.Table:
    """Return captions as a table in CAPTION_SCHEMA."""
    return pa.Table.from_pylist([caption.as_row() for caption in captions], schema=CAPTION_SCHEMA)
