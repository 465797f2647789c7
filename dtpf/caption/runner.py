"""Captions for an index of pairs: read, decode, caption, publish, encode, one shard at a time.

Everything here runs in one process; `on_ray.py` runs the same `ShardWorker` on many.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from dtpf.caption.captioner import Captioner, build_captioner, maker_of
from dtpf.caption.embedder import Embedder
from dtpf.caption.known import KnownCaptions
from dtpf.caption.reading import UnusablePair, read_images
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.core.records import Caption, Pair
from dtpf.core.storage.keys import shard_key
from dtpf.core.storage.patience import STORAGE_PATIENCE

# Pairs finished, pairs in all, failures seen so far. First told before the work: what was there.
Progress = Callable[[int, int, int], None]

_READERS = 8


@dataclass(frozen=True)
class ShardResult:
    """Counts of pairs of one shard: all, those whose caption was known, those with a failure."""

    rows: int
    reused: int
    failed: int


@dataclass(frozen=True)
class CaptionReport:
    """Counts of pairs.

    Attributes:
        done: captioned now.
        skipped: of shards that were complete.
        reused: taken over from an earlier captioning of the same images.
        failures: rows without a caption in the whole result, by kind.
    """

    done: int
    skipped: int
    reused: int = 0
    failures: dict[str, int] = field(default_factory=dict)


class ShardWorker:
    """Completes shards; loads captioner and encoder when a shard first needs them."""

    def __init__(self, task: CaptionTask) -> None:
        self._task = task

    def complete(self, shard: Shard) -> ShardResult:
        """Write what a shard lacks, each part atomically; nothing, if another actor has done it.

        Raises:
            UserError: the captioner, the encoder or the storage is not usable.
        """
        task, reused = self._task, 0
        if not task.has_captions(shard):
            pairs = task.pairs_of(shard)
            known = self._known.find(pairs)
            task.publish(shard, [known.get(pair.pair_id) or self._caption(pair) for pair in pairs])
            reused = len(known)
        captions = task.published(shard)
        if not task.has_embeddings(shard):
            key = shard_key(task.embeddings, shard.number)
            task.store.write_table(key, self._embedder.table(captions))
        return ShardResult(len(shard), reused, sum(_failures(captions).values()))

    def _caption(self, pair: Pair) -> Caption:
        """Return the row of one pair; one that cannot be read does not affect the others."""
        config = self._task.config
        try:
            visible, infrared = read_images(pair, config.infrared_scaling, STORAGE_PATIENCE)
        except UnusablePair as error:
            return maker_of(config).failed(pair.pair_id, str(error))
        return self._captioner.caption(pair.pair_id, visible, infrared)

    @cached_property
    def _captioner(self) -> Captioner:
        return build_captioner(self._task.config)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self._task.config)

    @cached_property
    def _known(self) -> KnownCaptions:
        return KnownCaptions(self._task)


def caption_pairs(task: CaptionTask, progress: Progress | None = None) -> CaptionReport:
    """Caption all pairs in this process, skipping the shards that are in the store.

    Raises:
        UserError: the captioner, the encoder or the storage is not usable.
    """
    worker = ShardWorker(task)
    return complete_shards(task, lambda shards: map(worker.complete, shards), progress)


def complete_shards(
    task: CaptionTask,
    complete: Callable[[Sequence[Shard]], Iterable[ShardResult]],
    progress: Progress | None,
) -> CaptionReport:
    """Complete what is missing with `complete`, in any order, and count."""
    shards = task.shards()
    pending = task.incomplete(shards)
    total = sum(map(len, shards))
    skipped = total - sum(map(len, pending))
    finished, reused, failed = skipped, 0, 0
    tell = progress or (lambda finished, total, failed: None)
    tell(finished, total, failed)
    for result in complete(pending):
        finished += result.rows
        reused += result.reused
        failed += result.failed
        tell(finished, total, failed)
    return CaptionReport(finished - skipped - reused, skipped, reused, count_failures(task, shards))


def count_failures(task: CaptionTask, shards: Sequence[Shard]) -> dict[str, int]:
    """Return the number of rows without a caption in the store, by kind; most frequent first."""
    counts: Counter[str] = Counter()

    def statuses(shard: Shard) -> Counter[str]:
        key = shard_key(task.captions, shard.number)
        return _failures(task.store.read_rows(key, 0, len(shard), ["status"]))

    with ThreadPoolExecutor(_READERS) as pool:
        for found in pool.map(statuses, shards):
            counts.update(found)
    return dict(counts.most_common())


def _failures(captions: pa.Table) -> Counter[str]:
    return Counter(
        status.partition(":")[0] for status in captions["status"].to_pylist() if status != "ok"
    )
