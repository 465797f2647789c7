"""Pairs of one size in one model call: the batcher that requests of all threads share.

One thread runs the model. While it does, decoded pairs queue; the next call takes the oldest and
all that fit to it, so batches grow with the load by themselves. Only where more pairs are just
being decoded does it wait for them, and no longer than the latency budget; a lone request never
waits.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from dtpf.core.ops.pixels import FloatImage
from dtpf.core.tiling import Fusing

OnBatch = Callable[[int], None]


class AbandonedError(RuntimeError):
    """Nobody waits for this result any more."""


@dataclass(eq=False)
class _Item:
    fuser: Fusing
    visible: FloatImage
    infrared: FloatImage
    abandoned: threading.Event
    result: "Future[FloatImage]" = field(default_factory=Future)
    entered: float = field(default_factory=time.monotonic)

    def goes_with(self, other: "_Item") -> bool:
        """Whether both can share a model call: one network, one size."""
        return self.fuser is other.fuser and self.infrared.shape == other.infrared.shape


class Batcher:
    """Collects pairs into batches. Safe to call from many threads."""

    def __init__(
        self, max_size: int, wait_s: float, max_pixels: int, on_batch: OnBatch = lambda size: None
    ) -> None:
        """Take the limits; the model's thread starts with the first pair.

        Args:
            max_size: pairs in one call.
            wait_s: latency budget, seconds.
            max_pixels: pixels of one call; a pair beyond it goes alone.
            on_batch: told the size of each call.
        """
        self._max_size, self._wait_s, self._max_pixels = max_size, wait_s, max_pixels
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._queue: list[_Item] = []
        self._coming = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announce a pair that is being decoded, for which a batch may wait."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify_all()

    def fuse(
        self,
        fuser: Fusing,
        visible: FloatImage,
        infrared: FloatImage,
        abandoned: threading.Event | None = None,
    ) -> FloatImage:
        """Fuse one pair, in one model call with others of its size; blocks until it is done.

        Raises:
            AbandonedError: `abandoned` was set before the model call.
            Exception: what the network raises for this pair alone.
        """
        item = _Item(fuser, visible, infrared, abandoned or threading.Event())
        with self._changed:
            if self._closed:
                raise AbandonedError("the endpoint is closing")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="model", daemon=True)
                self._thread.start()
            self._queue.append(item)
            self._changed.notify_all()
        return item.result.result()

    def close(self) -> None:
        """End the model's thread; pairs that still queue are abandoned."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                batch = self._take()
            if batch is None:
                return
            if batch:
                self._on_batch(len(batch))
                _run(batch)

    def _take(self) -> list[_Item] | None:
        """Return the next batch, None at the end."""
        while not self._queue and not self._closed:
            self._changed.wait()
        if not self._closed:
            self._await_company(self._queue[0])
        self._drop_abandoned()
        if self._closed:
            return None
        batch = self._mates(self._queue[0]) if self._queue else []
        self._queue = [item for item in self._queue if item not in batch]
        return batch

    def _await_company(self, oldest: _Item) -> None:
        until = oldest.entered + self._wait_s
        while self._coming and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or len(self._mates(oldest)) >= self._room(oldest):
                return
            self._changed.wait(left)

    def _mates(self, oldest: _Item) -> list[_Item]:
        return [item for item in self._queue if item.goes_with(oldest)][: self._room(oldest)]

    def _room(self, item: _Item) -> int:
        return max(1, min(self._max_size, self._max_pixels // item.infrared.size))

    def _drop_abandoned(self) -> None:
        dropped = [item for item in self._queue if self._closed or item.abandoned.is_set()]
        self._queue = [item for item in self._queue if item not in dropped]
        for item in dropped:
            item.result.set_exception(AbandonedError("nobody waits for this pair"))


def _run(batch: list[_Item]) -> None:
    """Fuse a batch; where that fails, each pair alone, so that one cannot fail the others."""
    try:
        fused = _fused(batch)
    except Exception as error:
        if len(batch) == 1:
            batch[0].result.set_exception(error)
            return
        for item in batch:
            _run([item])
        return
    for item, image in zip(batch, fused, strict=True):
        item.result.set_result(image)


def _fused(batch: list[_Item]) -> list[FloatImage]:
    fused = batch[0].fuser.fuse_batch(
        [item.visible for item in batch], [item.infrared for item in batch]
    )
    for item, image in zip(batch, fused, strict=True):
        if image.shape != item.visible.shape or not np.isfinite(image).all():
            raise RuntimeError(f"the network answered {image.shape} or values that are not finite")
    return fused
