"""Captions that an earlier run made of the same images: they need not be made again."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

from dtpf.caption.shards import CaptionTask
from dtpf.core.records import Caption, Pair
from dtpf.core.storage.keys import shard_key

_DIGESTS = ("visible_sha256", "infrared_sha256")
_SHARDS_KEPT = 8


class KnownCaptions:
    """Looks up captions by the contents of the images, so a renamed pair keeps its own.

    Holds one short key for each pair of the earlier index, and a few of its shards. Rows that
    failed are not taken over: such a pair gets another chance.
    """

    def __init__(self, task: CaptionTask) -> None:
        self._store = task.store
        self._previous = task.previous
        self._shard = lru_cache(_SHARDS_KEPT)(self._read_shard)

    def find(self, pairs: Sequence[Pair]) -> dict[str, Caption]:
        """Return what is known of the pairs, by pair_id."""
        if not self._rows:
            return {}
        found = {}
        for pair in pairs:
            row = self._rows.get(_key(pair.visible_sha256, pair.infrared_sha256))
            caption = None if row is None else self._caption(row)
            if caption is not None and caption.status == "ok":
                found[pair.pair_id] = replace(caption, pair_id=pair.pair_id)
        return found

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        """Rows of the earlier index by the contents of their images."""
        if self._previous is None:
            return {}
        key = self._previous.pairs
        table = self._store.read_rows(key, 0, self._store.row_count(key), _DIGESTS)
        columns = (table[name].to_pylist() for name in _DIGESTS)
        return {_key(*digests): row for row, digests in enumerate(zip(*columns, strict=True))}

    def _caption(self, row: int) -> Caption | None:
        assert self._previous is not None, "there are no rows without an earlier captioning"
        number, place = divmod(row, self._previous.shard_rows)
        rows = self._shard(shard_key(self._previous.captions, number))
        return Caption.from_row(rows[place]) if place < len(rows) else None

    def _read_shard(self, key: str) -> list[dict]:
        return self._store.read_table(key).to_pylist() if self._store.exists(key) else []


def _key(visible: str, infrared: str) -> bytes:
    """Return half of each digest: 128 bits are enough to tell pairs apart."""
    return bytes.fromhex(visible[:32] + infrared[:32])
