from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dtpf.caption import runner
from dtpf.caption.config import CaptionConfig
from dtpf.caption.encoders import HashedEncoder
from dtpf.caption.runner import CaptionReport, caption_pairs, caption_rows
from dtpf.caption.shards import plan_shards
from dtpf.caption.statistics import StatisticsCaptioner
from dtpf.caption.text import NEUTRAL_CAPTION
from dtpf.core.errors import UserError
from dtpf.core.records import CAPTION_SCHEMA, EMBEDDING_SCHEMA
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path, storage_errors
from dtpf.data.texts import read_texts
from tests.caption.scenes import write_pairs

CONFIG = CaptionConfig(shard_rows=2)
PREFIXES = ("captions/d/1", "embeddings/d/1")
SHARD_NAMES = ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "data", 5)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def rows_of(pairs):
    return caption_rows(pairs, StatisticsCaptioner(), HashedEncoder(), "percentile")


def objects(store):
    return {key: store.read_bytes(key) for prefix in PREFIXES for key in store.keys(prefix)}


class CountingEncoder(HashedEncoder):
    def __init__(self):
        super().__init__()
        self.texts = []

    def encode(self, texts):
        self.texts.extend(texts)
        return super().encode(texts)


def test_shards_do_not_depend_on_the_order_of_the_pairs(pairs):
    shards = plan_shards(pairs, 2)
    assert [shard.number for shard in shards] == [0, 1, 2]
    assert [len(shard.pairs) for shard in shards] == [2, 2, 1]
    assert plan_shards(pairs[::-1], 2) == shards
    assert plan_shards([], 2) == []


def test_a_pair_id_that_occurs_twice_is_named(pairs):
    with pytest.raises(UserError, match="'pair003' occurs twice"):
        plan_shards([*pairs, pairs[3]], 2)


def test_rows_have_the_contract_schemas_and_the_order_of_the_pairs(pairs):
    captions, embeddings = rows_of(pairs)
    assert captions.schema == CAPTION_SCHEMA
    assert embeddings.schema == EMBEDDING_SCHEMA
    ids = [pair.pair_id for pair in pairs]
    assert captions["pair_id"].to_pylist() == embeddings["pair_id"].to_pylist() == ids
    assert set(captions["status"].to_pylist()) == {"ok"}
    assert set(embeddings["encoder"].to_pylist()) == {"hashed-512"}


def test_rows_of_no_pairs_are_empty_tables():
    captions, embeddings = rows_of([])
    assert (captions.schema, captions.num_rows) == (CAPTION_SCHEMA, 0)
    assert (embeddings.schema, embeddings.num_rows) == (EMBEDDING_SCHEMA, 0)


def test_each_distinct_text_is_encoded_once(pairs):
    encoder = CountingEncoder()
    captions, _ = caption_rows(pairs * 2, StatisticsCaptioner(), encoder, "percentile")
    assert sorted(encoder.texts) == sorted(set(captions["caption"].to_pylist()))


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


@pytest.mark.parametrize("how", ["missing", "truncated", "text", "other size"])
def test_an_unreadable_pair_is_a_typed_row_and_the_others_are_not_affected(pairs, tmp_path, how):
    (small,) = write_pairs(tmp_path / "small", 1, height=32)
    target = local_path(pairs[1].infrared_uri).with_name("small.png")
    target.write_bytes(local_path(small.visible_uri).read_bytes())
    whole_captions, whole_embeddings = rows_of(pairs)
    break_file(pairs[1], how)
    captions, embeddings = rows_of(pairs)
    bad = captions.to_pylist()[1]
    assert bad["status"].startswith("unreadable: ")
    assert "\n" not in bad["status"]
    assert (bad["caption"], bad["degradations"]) == (NEUTRAL_CAPTION, [])
    expected = HashedEncoder().encode([NEUTRAL_CAPTION])[0]
    np.testing.assert_array_equal(embeddings["embedding"][1].as_py(), expected)
    others = [0, 2, 3, 4]
    assert captions.take(others) == whole_captions.take(others)
    assert embeddings.take(others) == whole_embeddings.take(others)


def test_a_storage_that_does_not_answer_stops_the_run_instead_of_spoiling_rows(
    pairs, store, monkeypatch
):
    def unreachable(uri):
        with storage_errors(uri):
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject")

    monkeypatch.setattr(runner, "read_bytes", unreachable)
    with pytest.raises(UserError, match="does not answer"):
        caption_pairs(pairs, CONFIG, store, *PREFIXES)
    assert objects(store) == {}


def test_captions_every_pair_and_reports_progress(pairs, store):
    seen = []
    report = caption_pairs(pairs, CONFIG, store, *PREFIXES, progress=lambda *n: seen.append(n))
    assert report == CaptionReport(done=5, skipped=0, failed=0)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    texts = read_texts(store, *PREFIXES)
    assert set(texts) == {pair.pair_id for pair in pairs}
    for pair in pairs:
        caption, vector = texts[pair.pair_id]
        assert caption.pair_id == pair.pair_id
        np.testing.assert_array_equal(vector, HashedEncoder().encode([caption.caption])[0])


def test_finished_shards_are_skipped_and_lost_parts_redone(pairs, store):
    caption_pairs(pairs, CONFIG, store, *PREFIXES)
    before = objects(store)
    assert caption_pairs(pairs, CONFIG, store, *PREFIXES) == CaptionReport(0, 5, 0)
    store.delete(f"{PREFIXES[0]}/{SHARD_NAMES[1]}")
    store.delete(f"{PREFIXES[1]}/{SHARD_NAMES[2]}")
    assert caption_pairs(pairs, CONFIG, store, *PREFIXES) == CaptionReport(3, 2, 0)
    assert objects(store) == before


@pytest.mark.parametrize("fatal_write", range(1, 6))
def test_a_run_that_dies_at_any_write_leaves_whole_shards_and_the_next_does_the_rest(
    pairs, store, tmp_path, monkeypatch, fatal_write
):
    unbroken = Store(tmp_path / "unbroken")
    caption_pairs(pairs, CONFIG, unbroken, *PREFIXES)
    write, calls = Store.write_bytes, []

    def dying_write(self, key, data):
        calls.append(key)
        if len(calls) > fatal_write:
            raise KeyboardInterrupt
        write(self, key, data)

    monkeypatch.setattr(Store, "write_bytes", dying_write)
    with pytest.raises(KeyboardInterrupt):
        caption_pairs(pairs, CONFIG, store, *PREFIXES)
    monkeypatch.undo()
    whole = fatal_write // 2
    assert store.keys(PREFIXES[0]) == [f"{PREFIXES[0]}/{name}" for name in SHARD_NAMES[:whole]]
    report = caption_pairs(pairs, CONFIG, store, *PREFIXES)
    assert (report.skipped, report.done) == (2 * whole, 5 - 2 * whole)
    assert objects(store) == objects(unbroken)


def test_unreadable_pairs_are_counted(pairs, store):
    break_file(pairs[0], "text")
    break_file(pairs[4], "missing")
    assert caption_pairs(pairs, CONFIG, store, *PREFIXES) == CaptionReport(5, 0, 2)


def test_reading_refuses_repeated_pairs(pairs, store):
    caption_pairs(pairs, CONFIG, store, *PREFIXES)
    renamed = [replace(pair, pair_id="pair000") for pair in pairs[:1]]
    caption_pairs(renamed, CONFIG, store, PREFIXES[0] + "/x", PREFIXES[1] + "/x")
    with pytest.raises(UserError, match="twice"):
        read_texts(store, *PREFIXES)


def test_shards_are_readable_by_pyarrow_and_pandas(pairs, store):
    caption_pairs(pairs, CONFIG, store, *PREFIXES)
    captions_path, embeddings_path = (local_path(store.uri_of(prefix)) for prefix in PREFIXES)
    assert pq.read_table(captions_path).schema.equals(CAPTION_SCHEMA)
    assert pq.read_table(embeddings_path).schema.equals(EMBEDDING_SCHEMA)
    frame = pd.read_parquet(embeddings_path)
    assert frame["pair_id"].tolist() == [pair.pair_id for pair in pairs]
    assert np.stack(frame["embedding"]).shape == (5, 512)
    captions = pd.read_parquet(captions_path)
    assert captions.columns.tolist() == CAPTION_SCHEMA.names
    assert captions["caption"].str.startswith("The visible image").all()
