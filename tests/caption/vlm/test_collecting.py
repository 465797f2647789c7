import json
import random

import pytest

from dtpf.caption.captioner import maker_of
from dtpf.caption.config import CaptionConfig, VlmConfig
from dtpf.caption.shards import captions_table
from dtpf.caption.text import NEUTRAL_CAPTION
from dtpf.caption.vlm.collecting import Collector
from dtpf.caption.vlm.drafts import Drafts
from dtpf.core.errors import UserError
from dtpf.core.records import CAPTION_SCHEMA, Degradation, Pair
from dtpf.core.storage.store import Store
from tests.caption.scenes import caption_task

CONFIG = CaptionConfig(captioner="qwen2_vl", shard_rows=3, vlm=VlmConfig(max_tokens=100))
MAKER = maker_of(CONFIG)
PAIRS = [
    Pair(f"pair{n}", "train", "file:///v", "file:///i", 64, 64, "uint8", "uint8", "00", "00")
    for n in range(8)
]
UNUSABLE = {
    "invalid": {"text": "I see a road."},
    "truncated": {"text": '{"visible": {', "tokens": 100},
    "engine": {"text": "", "tokens": 0, "error": "ValueError: prompt\ntoo long"},
}


@pytest.fixture
def task(tmp_path):
    return caption_task(Store(tmp_path / "store"), PAIRS, CONFIG)


def collector_of(task, last=False):
    return Collector(task, {shard.number: shard for shard in task.shards()}, last)


def answer(number):
    scene = f"A road with {number} cars on it."
    noise = [{"kind": "noise", "severity": "moderate"}]
    return json.dumps(
        {
            "visible": {"degradations": noise, "scene": scene},
            "infrared": {"degradations": [], "scene": scene},
        }
    )


def row_of(task, number, **values):
    """Return what `Finishing` returns of a pair with a good answer, but for `values`."""
    shard = task.shards()[number // 3]
    row = {"shard": shard.number, "rows": len(shard), "place": number - shard.start}
    row |= {"pair_id": PAIRS[number].pair_id, "ready": "", "fatal": "", "error": ""}
    return row | {"text": answer(number), "tokens": 50} | values


def rows_of(task, numbers=range(8)):
    return [row_of(task, number) for number in numbers]


def add_all(collector, rows):
    for row in rows:
        collector.add(row)


def written(task):
    return [key.removeprefix("captions/d/1/") for key in task.store.keys("captions")]


def test_answers_become_rows_of_who_gave_them(task):
    collector = collector_of(task)
    add_all(collector, rows_of(task, range(3)))
    table = task.published(task.shards()[0])
    assert table.schema == CAPTION_SCHEMA
    first = table.to_pylist()[0]
    assert first["degradations"] == [{"modality": "visible", "kind": "noise", "severity": 0.5}]
    assert first["caption"].startswith("The visible image has moderate noise. The infrared image")
    maker = (first["captioner"], first["revision"], first["prompt_version"])
    assert maker == ("qwen2_vl", MAKER.revision, "1")
    assert table["status"].to_pylist() == ["ok"] * 3


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_any_order_give_whole_shards_in_the_order_of_the_index(task, seed):
    rows = rows_of(task)
    random.Random(seed).shuffle(rows)
    collector = collector_of(task)
    add_all(collector, rows)
    assert written(task) == [f"part-{number:05d}.parquet" for number in range(3)]
    captions = [row for shard in task.shards() for row in task.published(shard).to_pylist()]
    assert [row["pair_id"] for row in captions] == [pair.pair_id for pair in PAIRS]
    assert all(f" {n} cars" in row["caption"] for n, row in enumerate(captions))
    assert (collector.answered, collector.failed) == (8, 0)


def test_nothing_is_written_before_a_shard_is_whole(task):
    collector = collector_of(task)
    add_all(collector, rows_of(task, [0, 1, 3, 4, 6]))
    assert written(task) == []
    collector.add(row_of(task, 5))
    assert written(task) == ["part-00001.parquet"]
    collector.add(row_of(task, 7))
    assert written(task) == ["part-00001.parquet", "part-00002.parquet"]
    assert collector.answered == 7


def test_a_row_that_comes_twice_counts_once(task):
    collector = collector_of(task)
    add_all(collector, rows_of(task, [0, 1, 1, 0]))
    assert (collector.answered, written(task)) == (2, [])
    collector.add(row_of(task, 2))
    assert (collector.answered, written(task)) == (3, ["part-00000.parquet"])


def test_a_row_that_comes_again_after_its_shard_counts_once(task):
    collector = collector_of(task, last=True)
    bad = row_of(task, 0, **UNUSABLE["invalid"])
    add_all(collector, [bad, *rows_of(task, [1, 2]), bad, *rows_of(task, [1, 2])])
    assert (collector.answered, collector.failed) == (3, 1)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_first_answers_that_cannot_be_used_leave_a_draft_of_the_others(task, kind):
    collector = collector_of(task, last=False)
    add_all(collector, [row_of(task, 0), row_of(task, 1, **UNUSABLE[kind]), row_of(task, 2)])
    assert written(task) == ["_drafts/part-00000"]
    shard = task.shards()[0]
    kept = Drafts(task).read(shard)
    assert sorted(kept) == ["pair0", "pair2"]
    assert kept["pair2"].degradations == (Degradation("visible", "noise", 0.5),)
    assert Drafts(task).there(task.shards()) == [shard]
    assert (collector.answered, collector.failed) == (3, 1)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_last_answers_that_cannot_be_used_are_typed_rows_and_the_draft_goes(task, kind):
    shard = task.shards()[0]
    Drafts(task).write(shard, [])
    collector = collector_of(task, last=True)
    add_all(collector, [row_of(task, 0), row_of(task, 1, **UNUSABLE[kind]), row_of(task, 2)])
    assert written(task) == ["part-00000.parquet"]
    statuses = task.published(shard)["status"].to_pylist()
    assert statuses[0] == statuses[2] == "ok"
    assert statuses[1].startswith(f"{kind}: ")
    assert "\n" not in statuses[1]
    bad = task.published(shard).to_pylist()[1]
    assert (bad["caption"], bad["degradations"]) == (NEUTRAL_CAPTION, [])
    assert (collector.answered, collector.failed) == (3, 1)


def test_a_long_error_of_the_engine_is_cut(task):
    collector = collector_of(task, last=True)
    bad = row_of(task, 0, text="", tokens=0, error="word " * 500)
    add_all(collector, [bad, *rows_of(task, [1, 2])])
    status = task.published(task.shards()[0])["status"][0].as_py()
    assert status.startswith("engine: word word")
    assert len(status) <= 300


def test_rows_of_a_draft_and_second_answers_make_the_shard_whole(task):
    add_all(
        collector_of(task, last=False),
        [row_of(task, 0), row_of(task, 1, **UNUSABLE["invalid"]), row_of(task, 2)],
    )
    shard = task.shards()[0]
    kept = {
        name: json.dumps(caption.as_row()) for name, caption in Drafts(task).read(shard).items()
    }
    again = [
        row_of(task, 0, ready=kept["pair0"], text="", tokens=0),
        row_of(task, 1),
        row_of(task, 2, ready=kept["pair2"], text="", tokens=0),
    ]
    add_all(collector_of(task, last=True), again)
    whole = task.published(shard)
    assert written(task) == ["part-00000.parquet"]
    other = collector_of(task)
    task.store.delete("captions")
    add_all(other, rows_of(task, range(3)))
    assert task.published(shard) == whole


def test_a_pair_that_cannot_be_read_is_not_asked_again(task):
    row = MAKER.failed("pair0", "unreadable: damaged")
    collector = collector_of(task, last=False)
    add_all(
        collector,
        [row_of(task, 0, ready=json.dumps(row.as_row())), row_of(task, 1), row_of(task, 2)],
    )
    assert written(task) == ["part-00000.parquet"]
    assert task.published(task.shards()[0]).slice(0, 1) == captions_table([row])
    assert (collector.answered, collector.failed) == (3, 1)


def test_a_shard_that_another_run_published_stays_as_it_is(task):
    shard = task.shards()[0]
    theirs = [MAKER.failed(pair.pair_id, "invalid: theirs") for pair in PAIRS[:3]]
    task.publish(shard, theirs)
    add_all(collector_of(task), rows_of(task, range(3)))
    assert task.published(shard) == captions_table(theirs)


def test_what_ends_the_run_is_raised_and_nothing_is_written(task):
    collector = collector_of(task)
    add_all(collector, rows_of(task, [0, 1]))
    with pytest.raises(UserError, match=r"^s3://b: does not answer$"):
        collector.add(row_of(task, 2, fatal="s3://b: does not answer", pair_id=None, place=None))
    assert written(task) == []
