"""Shards of which some answers could not be used: kept until those pairs were asked again.

A draft lies beside the shards under a name that Parquet readers pass over.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dtpf.caption.shards import CaptionTask, Shard, captions_table
from dtpf.core.records import Caption
from dtpf.core.storage.keys import draft_key, drafts_prefix
from dtpf.core.storage.parquet import table_bytes


class Drafts:
    """The drafts of one captioning."""

    def __init__(self, task: CaptionTask) -> None:
        self._task = task

    def write(self, shard: Shard, captions: Sequence[Caption]) -> None:
        """Keep the captions that a shard has so far."""
        self._task.store.write_bytes(self._key(shard), table_bytes(captions_table(captions)))

    def read(self, shard: Shard) -> dict[str, Caption]:
        """Return what a shard has so far, by pair_id; nothing if it has no draft."""
        if not self._task.store.exists(self._key(shard)):
            return {}
        table = pq.read_table(pa.BufferReader(self._task.store.read_bytes(self._key(shard))))
        captions = (Caption.from_row(row) for row in table.to_pylist())
        return {caption.pair_id: caption for caption in captions}

    def there(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return those of the shards that have a draft."""
        keys = set(self._task.store.keys(drafts_prefix(self._task.captions)))
        return [shard for shard in shards if self._key(shard) in keys]

    def delete(self, shard: Shard) -> None:
        """Remove a draft, if there is one."""
        self._task.store.delete(self._key(shard))

    def _key(self, shard: Shard) -> str:
        return draft_key(self._task.captions, shard.number)
