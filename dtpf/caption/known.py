"""Captions that an earlier run made of the same images: they need not be made again."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

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
        self._task = task
        self._rows: dict[bytes, int] | None = None
        self._shards: OrderedDict[int, list[dict]] = OrderedDict()

    def find(self, pairs: Sequence[Pair]) -> dict[str, Caption]:
        """Return what is known of the pairs, by pair_id."""
        if self._task.previous is None:
            return {}
        if self._rows is None:
            self._rows = self._read_digests(self._task.previous.pairs)
        found = {}
        for pair in pairs:
            row = self._rows.get(_key(pair.visible_sha256, pair.infrared_sha256))
            caption = None if row is None else self._caption(row)
            if caption is not None and caption.status == "ok":
                found[pair.pair_id] = replace(caption, pair_id=pair.pair_id)
        return found

    def _read_digests(self, pairs_key: str) -> dict[bytes, int]:
        store = self._task.store
        table = store.read_rows(pairs_key, 0, store.row_count(pairs_key), _DIGESTS)
        columns = (table[name].to_pylist() for name in _DIGESTS)
        return {_key(*digests): row for row, digests in enumerate(zip(*columns, strict=True))}

    def _caption(self, row: int) -> Caption | None:
        assert self._task.previous is not None
        number, place = divmod(row, self._task.previous.shard_rows)
        rows = self._shard(number)
        return Caption.from_row(rows[place]) if place < len(rows) else None

    def _shard(self, number: int) -> list[dict]:
        assert self._task.previous is not None
        if number not in self._shards:
            key = shard_key(self._task.previous.captions, number)
            store = self._task.store
            self._shards[number] = store.read_table(key).to_pylist() if store.exists(key) else []
            if len(self._shards) > _SHARDS_KEPT:
                self._shards.popitem(last=False)
        return self._shards[number]


def _key(visible: str, infrared: str) -> bytes:
    """Return half of each digest: 128 bits are enough to tell pairs apart."""
    return bytes.fromhex(visible[:32] + infrared[:32])
