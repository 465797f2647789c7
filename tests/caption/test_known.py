import hashlib
from dataclasses import replace

import pytest

from dtpf.caption.config import CaptionConfig
from dtpf.caption.known import KnownCaptions
from dtpf.caption.shards import CaptionTask, Previous
from dtpf.core.records import Caption, Degradation, Pair, pairs_to_table
from dtpf.core.storage.keys import shard_key
from dtpf.core.storage.store import Store

COUNT = 25
CONFIG = CaptionConfig(shard_rows=2)  # more shards than are kept in memory
BEFORE = Previous("before.parquet", "captions/before", CONFIG.shard_rows)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def pair_of(number):
    digests = (digest(f"v{number}"), digest(f"i{number}"))
    uris = (f"file:///v{number}", f"file:///i{number}")
    return Pair(f"pair{number:02d}", "train", *uris, 64, 64, "uint8", "uint8", *digests)


def caption_of(pair, status="ok"):
    found = (Degradation("infrared", "stripes", 0.5),)
    return Caption(pair.pair_id, f"Caption of {pair.pair_id}.", found, "someone", "1", "1", status)


PAIRS = [pair_of(number) for number in range(COUNT)]


def task_of(store, pairs, key, captions, previous=None):
    store.write_table(key, pairs_to_table(pairs), row_group_rows=3)
    return CaptionTask(store, key, CONFIG, captions, "embeddings", previous)


@pytest.fixture
def store(tmp_path):
    """A store with an index and its captions; that of the fourth pair failed."""
    store = Store(tmp_path)
    task = task_of(store, PAIRS, BEFORE.pairs, BEFORE.captions)
    for shard in task.shards():
        rows = [caption_of(pair) for pair in PAIRS[shard.start : shard.stop]]
        if shard.number == 1:
            rows[1] = caption_of(PAIRS[3], "unreadable: it was damaged")
        task.publish(shard, rows)
    return store


def known(store, pairs, previous=BEFORE):
    task = task_of(store, pairs, "now.parquet", "captions/now", previous)
    return KnownCaptions(task).find(pairs)


def test_captions_of_unchanged_pairs_are_taken_over(store):
    expected = {pair.pair_id: caption_of(pair) for pair in PAIRS if pair != PAIRS[3]}
    assert known(store, PAIRS) == expected


def test_a_pair_keeps_its_caption_under_another_name_and_in_another_place(store):
    renamed = replace(PAIRS[20], pair_id="new", visible_uri="file:///moved", split="test")
    assert known(store, [renamed]) == {"new": replace(caption_of(PAIRS[20]), pair_id="new")}


@pytest.mark.parametrize("column", ["visible_sha256", "infrared_sha256"])
def test_a_pair_of_which_one_image_changed_is_not_known(store, column):
    changed = replace(PAIRS[0], **{column: digest("edited")})
    assert known(store, [changed, PAIRS[1]]).keys() == {"pair01"}


def test_images_of_two_pairs_make_another_pair(store):
    mixed = replace(PAIRS[0], infrared_sha256=PAIRS[1].infrared_sha256)
    assert known(store, [mixed]) == {}


def test_a_pair_that_failed_gets_another_chance(store):
    assert known(store, [PAIRS[3]]) == {}


def test_pairs_of_a_shard_that_was_never_written_are_not_known(store):
    store.delete(shard_key(BEFORE.captions, 0))
    assert known(store, PAIRS[:3]).keys() == {"pair02"}


def test_pairs_are_found_whatever_the_order_of_asking(store):
    lookup = KnownCaptions(task_of(store, PAIRS, "now.parquet", "captions/now", BEFORE))
    for pair in [*PAIRS[::-1], *PAIRS[::7]]:
        expected = {} if pair == PAIRS[3] else {pair.pair_id: caption_of(pair)}
        assert lookup.find([pair]) == expected


def test_nothing_is_known_without_an_earlier_captioning(store):
    assert known(store, PAIRS, previous=None) == {}
