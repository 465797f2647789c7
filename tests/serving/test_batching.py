"""Batches fill, wait within their budget only, and one pair never fails the others."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dtpf.serving.batching import AbandonedError, Batcher
from tests.serving.fakes import MeanFuser, infrared_array, visible_array


def batcher(**changes) -> Batcher:
    return Batcher(**{"max_size": 4, "wait_s": 0.0, "max_pixels": 10**6} | changes)


class Held:
    """A batcher whose model is held in a first call while more pairs queue behind it."""

    def __init__(self, fuser: MeanFuser, batcher: Batcher) -> None:
        self.fuser, self.batcher = fuser, batcher
        fuser.gate = threading.Event()
        self.pool = ThreadPoolExecutor(32)
        self.first = self.pool.submit(batcher.fuse, fuser, *arrays())
        while not fuser.calls:
            time.sleep(0.001)

    def add(self, pair, fuser=None, abandoned=None):
        before = len(self.batcher._queue)
        future = self.pool.submit(self.batcher.fuse, fuser or self.fuser, *pair, abandoned)
        while len(self.batcher._queue) == before:
            time.sleep(0.001)
        return future

    def release(self):
        self.fuser.gate.set()
        self.first.result(20)


def arrays(height=24, width=32, value=None):
    visible, infrared = visible_array(height, width), infrared_array(height, width)
    if value is not None:
        visible[:], infrared[:] = value, value
    return visible, infrared


def test_pairs_that_queue_share_calls_and_get_their_own_answers():
    fuser = MeanFuser()
    held = Held(fuser, batcher())
    futures = [held.add(arrays(value=number / 10)) for number in range(10)]
    held.release()
    for number, future in enumerate(futures):
        np.testing.assert_allclose(future.result(20), number / 10, atol=1e-6)
    assert fuser.sizes == [1, 4, 4, 2]


def test_sizes_and_networks_are_never_mixed_and_the_oldest_goes_first():
    fuser, other = MeanFuser(), MeanFuser("v2")
    held = Held(fuser, batcher())
    order = [
        held.add(arrays(24, 32)),
        held.add(arrays(16, 16)),
        held.add(arrays(24, 32), other),
        held.add(arrays(24, 32)),
        held.add(arrays(16, 16)),
    ]
    held.release()
    shapes = [future.result(20).shape[:2] for future in order]
    assert shapes == [(24, 32), (16, 16), (24, 32), (24, 32), (16, 16)]
    assert fuser.sizes == [1, 2, 2]
    assert other.sizes == [1]


def test_pixels_of_a_call_are_bounded():
    fuser = MeanFuser()
    held = Held(fuser, batcher(max_pixels=2 * 24 * 32))
    futures = [held.add(arrays()) for _ in range(4)] + [held.add(arrays(64, 64))]
    held.release()
    assert [future.result(20).shape[0] for future in futures] == [24] * 4 + [64]
    assert fuser.sizes == [1, 2, 2, 1]


class Picky(MeanFuser):
    """Fails a whole call that holds a dark pair, as a network without mercy would."""

    def fuse(self, visible, infrared):
        if visible.max() == 0.0:
            raise RuntimeError("too dark")
        return np.full_like(visible, np.nan) if visible.min() == 1.0 else visible


@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_one_bad_pair_does_not_fail_its_batch(bad):
    fuser = Picky()
    held = Held(fuser, batcher())
    good = [held.add(arrays(value=0.25)), held.add(arrays(value=0.5))]
    failing = held.add(arrays(value=bad))
    good.append(held.add(arrays(value=0.75)))
    held.release()
    assert [float(future.result(20).max()) for future in good] == [0.25, 0.5, 0.75]
    with pytest.raises(RuntimeError, match="too dark" if bad == 0.0 else "not finite"):
        failing.result(20)
    assert fuser.sizes == [1, 4, 1, 1, 1, 1]
    np.testing.assert_array_equal(held.batcher.fuse(fuser, *arrays(value=0.5)), 0.5)


def test_a_batch_waits_for_pairs_that_are_being_decoded():
    fuser, shared = MeanFuser(), batcher(wait_s=20.0)

    def second():
        with shared.coming():
            until(lambda: shared._queue)
        return shared.fuse(fuser, *arrays())

    with ThreadPoolExecutor(2) as pool:
        with shared.coming():  # keeps the first waiting until the second is announced
            late = pool.submit(second)
            first = pool.submit(shared.fuse, fuser, *arrays())
            until(lambda: len(shared._queue) == 2)
        first.result(20)
        late.result(20)
    assert fuser.sizes == [2]


def test_a_full_batch_waits_for_nobody_and_the_budget_ends_a_wait():
    fuser, shared = MeanFuser(), batcher(wait_s=30.0, max_size=1)
    with shared.coming():
        shared.fuse(fuser, *arrays())
    short = batcher(wait_s=0.02)
    with short.coming():
        short.fuse(fuser, *arrays())
    assert fuser.sizes == [1, 1]


def test_nobody_waits_for_an_abandoned_pair():
    fuser = MeanFuser()
    held = Held(fuser, batcher())
    gone = threading.Event()
    left, stays = held.add(arrays(), abandoned=gone), held.add(arrays())
    gone.set()
    held.release()
    stays.result(20)
    with pytest.raises(AbandonedError):
        left.result(20)
    assert fuser.sizes == [1, 1]


def test_close_gives_up_what_queues_and_refuses_more():
    fuser = MeanFuser()
    held = Held(fuser, batcher())
    waiting = held.add(arrays())
    closing = held.pool.submit(held.batcher.close)
    until(lambda: held.batcher._closed)
    held.release()
    closing.result(20)
    for attempt in (waiting.result, lambda _: held.batcher.fuse(fuser, *arrays())):
        with pytest.raises(AbandonedError):
            attempt(20)


def test_many_threads_lose_and_mix_up_nothing():
    sizes = []
    fuser = MeanFuser()
    shared = batcher(max_size=8, wait_s=0.001, on_batch=sizes.append)

    def work(number):
        with shared.coming():
            pair = arrays(16 + 8 * (number % 2), 16, value=number / 500)
        return float(shared.fuse(fuser, *pair).mean())

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(work, range(500)))
    np.testing.assert_allclose(answers, np.arange(500) / 500, atol=1e-5)
    assert sum(sizes) == 500
    assert max(sizes) <= 8


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
