from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dtpf.caption import reading
from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import HashedEncoder
from dtpf.caption.runner import CaptionReport, ShardWorker, caption_pairs
from dtpf.caption.shards import Previous, Shard
from dtpf.caption.text import NEUTRAL_CAPTION
from dtpf.core.errors import UserError
from dtpf.core.records import CAPTION_SCHEMA, EMBEDDING_SCHEMA
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path, storage_errors
from dtpf.data.texts import read_texts
from tests.caption.scenes import caption_task, objects, write_pairs

CONFIG = CaptionConfig(shard_rows=2)
SHARD_NAMES = ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "data", 5)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def task(store, pairs):
    return caption_task(store, pairs, CONFIG)


def rows_of(task):
    return task.store.read_table(task.captions), task.store.read_table(task.embeddings)


def test_shards_are_blocks_of_the_index(task, pairs):
    assert task.shards() == [Shard(0, 0, 2), Shard(1, 2, 4), Shard(2, 4, 5)]
    assert [task.pairs_of(shard) for shard in task.shards()] == [pairs[:2], pairs[2:4], pairs[4:]]


def test_an_empty_index_has_no_shards(store):
    task = caption_task(store, [], CONFIG)
    assert caption_pairs(task) == CaptionReport(0, 0)
    assert objects(task) == {}


def test_rows_have_the_contract_schemas_and_the_order_of_the_pairs(task, pairs):
    caption_pairs(task)
    captions, embeddings = rows_of(task)
    assert captions.schema == CAPTION_SCHEMA
    assert embeddings.schema == EMBEDDING_SCHEMA
    ids = [pair.pair_id for pair in pairs]
    assert captions["pair_id"].to_pylist() == embeddings["pair_id"].to_pylist() == ids
    assert set(captions["status"].to_pylist()) == {"ok"}
    assert set(embeddings["encoder"].to_pylist()) == {"hashed-512"}


def break_file(pair, how):
    path = local_path(pair.visible_uri)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif how == "text":
        path.write_text("not an image")
    elif how == "other size":
        path.write_bytes(local_path(pair.infrared_uri).with_name("small.png").read_bytes())


KINDS = {"missing": "unreadable", "truncated": "unreadable", "text": "unreadable"}


@pytest.mark.parametrize("how", ["missing", "truncated", "text", "other size"])
def test_an_unusable_pair_is_a_typed_row_and_the_others_are_not_affected(
    pairs, store, tmp_path, how
):
    (small,) = write_pairs(tmp_path / "small", 1, height=32)
    target = local_path(pairs[1].infrared_uri).with_name("small.png")
    target.write_bytes(local_path(small.visible_uri).read_bytes())
    whole = caption_task(Store(tmp_path / "whole"), pairs, CONFIG)
    caption_pairs(whole)
    break_file(pairs[1], how)
    task = caption_task(store, pairs, CONFIG)
    kind = KINDS.get(how, "sizes_differ")
    assert caption_pairs(task) == CaptionReport(5, 0, 0, {kind: 1})
    captions, embeddings = rows_of(task)
    bad = captions.to_pylist()[1]
    assert bad["status"].startswith(f"{kind}: ")
    assert "\n" not in bad["status"]
    assert (bad["caption"], bad["degradations"]) == (NEUTRAL_CAPTION, [])
    expected = HashedEncoder().encode([NEUTRAL_CAPTION])[0]
    np.testing.assert_array_equal(embeddings["embedding"][1].as_py(), expected)
    whole_captions, whole_embeddings = rows_of(whole)
    others = [0, 2, 3, 4]
    assert captions.take(others) == whole_captions.take(others)
    assert embeddings.take(others) == whole_embeddings.take(others)


def test_a_storage_that_does_not_answer_stops_the_run_instead_of_spoiling_rows(task, monkeypatch):
    def unreachable(uri):
        with storage_errors(uri):
            raise OSError("The specified bucket does not exist")

    monkeypatch.setattr(reading, "read_bytes", unreachable)
    with pytest.raises(UserError, match="bucket"):
        caption_pairs(task)
    assert objects(task) == {}


def test_captions_every_pair_and_reports_progress(task, pairs):
    break_file(pairs[3], "text")
    seen = []
    report = caption_pairs(task, progress=lambda *numbers: seen.append(numbers))
    assert report == CaptionReport(5, 0, 0, {"unreadable": 1})
    assert seen == [(0, 5, 0), (2, 5, 0), (4, 5, 1), (5, 5, 1)]
    texts = read_texts(task.store, task.captions, task.embeddings)
    assert set(texts) == {pair.pair_id for pair in pairs}
    for pair in pairs:
        caption, vector = texts[pair.pair_id]
        assert caption.pair_id == pair.pair_id
        np.testing.assert_array_equal(vector, HashedEncoder().encode([caption.caption])[0])


def test_finished_shards_are_skipped_and_lost_parts_redone(task):
    caption_pairs(task)
    before = objects(task)
    assert caption_pairs(task) == CaptionReport(0, 5)
    task.store.delete(f"{task.captions}/{SHARD_NAMES[1]}")
    task.store.delete(f"{task.embeddings}/{SHARD_NAMES[2]}")
    assert caption_pairs(task) == CaptionReport(3, 2)
    assert objects(task) == before


def test_failures_of_earlier_runs_are_counted_too(task, pairs):
    break_file(pairs[0], "text")
    caption_pairs(task)
    break_file(pairs[4], "missing")
    task.store.delete(f"{task.captions}/{SHARD_NAMES[2]}")
    assert caption_pairs(task) == CaptionReport(1, 4, 0, {"unreadable": 2})


@pytest.mark.parametrize("fatal_write", range(1, 6))
def test_a_run_that_dies_at_any_write_leaves_whole_shards_and_the_next_does_the_rest(
    pairs, store, tmp_path, monkeypatch, fatal_write
):
    unbroken = caption_task(Store(tmp_path / "unbroken"), pairs, CONFIG)
    caption_pairs(unbroken)
    task = caption_task(store, pairs, CONFIG)
    calls = []

    def dying(write):
        def call(self, key, data):
            calls.append(key)
            if len(calls) > fatal_write:
                raise KeyboardInterrupt
            return write(self, key, data)

        return call

    monkeypatch.setattr(Store, "write_bytes", dying(Store.write_bytes))
    monkeypatch.setattr(Store, "create", dying(Store.create))
    with pytest.raises(KeyboardInterrupt):
        caption_pairs(task)
    monkeypatch.undo()
    whole = fatal_write // 2
    assert store.keys(task.embeddings) == [
        f"{task.embeddings}/{name}" for name in SHARD_NAMES[:whole]
    ]
    report = caption_pairs(task)
    assert (report.skipped, report.done) == (2 * whole, 5 - 2 * whole)
    assert objects(task) == objects(unbroken)


def test_a_complete_shard_is_passed(task, monkeypatch):
    """Another actor finds it when it takes over the task of one that was lost."""
    shard = task.shards()[0]
    ShardWorker(task).complete(shard)
    monkeypatch.setattr(Store, "write_bytes", None)
    monkeypatch.setattr(Store, "create", None)
    result = ShardWorker(task).complete(shard)
    assert (result.rows, result.failed) == (len(shard), 0)


def test_two_runs_at_once_agree_on_one_set_of_captions(task, pairs, monkeypatch):
    """Another run, whose captions differ, publishes the shard while this one captions it."""
    shard = task.shards()[0]
    worker, other = ShardWorker(task), ShardWorker(task)
    caption = ShardWorker._caption

    def slow(self, pair):
        if self is worker and not task.has_captions(shard):
            monkeypatch.setattr(
                ShardWorker, "_caption", lambda *_: replace(caption(*_), caption="The other run.")
            )
            other.complete(shard)
            monkeypatch.setattr(ShardWorker, "_caption", slow)
        return caption(self, pair)

    monkeypatch.setattr(ShardWorker, "_caption", slow)
    worker.complete(shard)
    captions, embeddings = rows_of(task)
    assert captions["caption"].to_pylist() == ["The other run."] * 2
    expected = HashedEncoder().encode(["The other run."])[0]
    for vector in embeddings["embedding"].to_pylist():
        np.testing.assert_array_equal(vector, expected)


def test_new_and_changed_pairs_alone_are_captioned_again(pairs, store, tmp_path, monkeypatch):
    first = caption_task(store, pairs, CONFIG)
    caption_pairs(first)
    changed = write_pairs(tmp_path / "more", 7)
    changed = [replace(changed[5], pair_id="aaa"), *pairs[:4], replace(changed[6], pair_id="bbb")]
    second = replace(
        caption_task(Store(tmp_path / "second"), changed, CONFIG),
        store=store,
        pairs="second.parquet",
        captions="captions/d/2",
        embeddings="embeddings/d/2",
        previous=Previous(first.pairs, first.captions, CONFIG.shard_rows),
    )
    table = Store(tmp_path / "second").read_table("datasets/d/1/pairs.parquet")
    store.write_table("second.parquet", table)
    captioned = []
    caption = ShardWorker._caption
    monkeypatch.setattr(
        ShardWorker,
        "_caption",
        lambda self, pair: captioned.append(pair.pair_id) or caption(self, pair),
    )
    assert caption_pairs(second) == CaptionReport(2, 0, reused=4)
    assert captioned == ["aaa", "bbb"]
    found, before = (read_texts(store, each.captions, each.embeddings) for each in (second, first))
    assert set(found) == {"aaa", "bbb", *(pair.pair_id for pair in pairs[:4])}
    assert all(found[pair.pair_id][0] == before[pair.pair_id][0] for pair in pairs[:4])


def test_reading_refuses_repeated_pairs(task, store, pairs):
    caption_pairs(task)
    renamed = caption_task(store, [replace(pairs[0], pair_id="pair000")], CONFIG)
    again = replace(renamed, captions=f"{task.captions}/x", embeddings=f"{task.embeddings}/x")
    caption_pairs(again)
    with pytest.raises(UserError, match="twice"):
        read_texts(store, task.captions, task.embeddings)


def test_shards_are_readable_by_pyarrow_pandas_and_duckdb(task):
    caption_pairs(task)
    folders = [local_path(task.store.uri_of(each)) for each in (task.captions, task.embeddings)]
    captions_path, embeddings_path = folders
    assert pq.read_table(captions_path).schema.equals(CAPTION_SCHEMA)
    assert pq.read_table(embeddings_path).schema.equals(EMBEDDING_SCHEMA)
    frame = pd.read_parquet(embeddings_path)
    assert frame["pair_id"].tolist() == [f"pair{number:03d}" for number in range(5)]
    assert np.stack(frame["embedding"]).shape == (5, 512)
    captions = pd.read_parquet(captions_path)
    assert captions.columns.tolist() == CAPTION_SCHEMA.names
    assert captions["caption"].str.startswith("The visible image").all()
    duckdb = pytest.importorskip("duckdb")
    query = f"""
        select count(*), count(distinct pair_id), min(len(embedding)), max(len(embedding))
        from '{captions_path}/*.parquet' join '{embeddings_path}/*.parquet' using (pair_id)
    """
    assert duckdb.sql(query).fetchall() == [(5, 5, 512, 512)]
