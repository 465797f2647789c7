"""Captioning on a real Ray cluster: the same objects as in one process, and nothing half-done."""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from dtpf.caption import on_ray
from dtpf.caption.config import CaptionConfig, CaptionResources
from dtpf.caption.on_ray import caption_pairs
from dtpf.caption.runner import CaptionReport
from dtpf.caption.runner import caption_pairs as caption_in_process
from dtpf.core.errors import UserError
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path
from dtpf.data.texts import read_texts
from tests.caption.scenes import caption_task, objects, write_pairs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

CONFIG = CaptionConfig(
    shard_rows=2, resources=CaptionResources(concurrency=2, num_cpus=0.5, stall_timeout_s=120)
)


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "data", 7)


def test_same_objects_as_in_one_process_and_lost_shards_alone_redone(pairs, tmp_path):
    local_path(pairs[2].visible_uri).write_text("not an image")
    expected = caption_task(Store(tmp_path / "expected"), pairs, CONFIG)
    task = caption_task(Store(tmp_path / "store"), pairs, CONFIG)
    caption_in_process(expected)
    seen = []
    report = caption_pairs(task, progress=lambda *numbers: seen.append(numbers))
    assert report == CaptionReport(done=7, skipped=0, failures={"unreadable": 1})
    assert seen[-1] == (7, 7, 1)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert objects(task) == objects(expected)

    task.store.delete(f"{task.captions}/part-00003.parquet")
    assert caption_pairs(task) == CaptionReport(1, 6, 0, {"unreadable": 1})
    assert objects(task) == objects(expected)
    assert caption_pairs(task) == CaptionReport(0, 7, 0, {"unreadable": 1})


def test_actors_that_find_no_room_say_what_they_ask_for(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("DTPF_QUOTA", "lab_a")
    resources = CaptionResources(concurrency=2, num_cpus=0.5, stall_timeout_s=5)
    config = CONFIG.model_copy(update={"resources": resources})
    task = caption_task(Store(tmp_path / "store"), pairs, config)
    with pytest.raises(UserError, match=r"asks for 0\.5 CPU, 1 lab_a; free are .* CPU, 0 lab_a,"):
        caption_pairs(task)
    monkeypatch.delenv("DTPF_QUOTA")
    patient = caption_task(Store(tmp_path / "store"), pairs, CONFIG)
    assert caption_pairs(patient).done == 7


@pytest.mark.parametrize("killing", [False, pytest.param(True, marks=pytest.mark.kill)])
def test_many_shards_share_tasks_and_end_alike(pairs, tmp_path, monkeypatch, killing):
    """Seven shards in two tasks; whoever takes over a killed actor's task passes what is done."""
    monkeypatch.setattr(on_ray, "_FEW_TASKS", 1)
    monkeypatch.setattr(on_ray, "_TASKS_PER_ACTOR", 1)
    config = CONFIG.model_copy(update={"shard_rows": 1})
    expected = caption_task(Store(tmp_path / "expected"), pairs, config)
    task = caption_task(Store(tmp_path / "store"), pairs, config)
    caption_in_process(expected)
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_an_actor_in_mid_run, task) if killing else None
        assert caption_pairs(task) == CaptionReport(done=7, skipped=0)
    assert killed is None or killed.result()
    assert objects(task) == objects(expected)


def kill_an_actor_in_mid_run(task):
    """Kill when a shard is complete; returns the pid."""
    while not task.store.keys(task.embeddings):
        time.sleep(0.01)
    actor = next(p for p in psutil.Process().children(True) if is_actor(p))
    actor.kill()
    return actor.pid


def test_a_worker_error_is_the_users_line_and_leaves_whole_shards_to_go_on_from(pairs, tmp_path):
    """The second shard cannot be written: a folder lies where its embeddings should go."""
    task = caption_task(Store(tmp_path / "store"), pairs, CONFIG)
    obstacle = tmp_path / "store" / task.embeddings / "part-00001.parquet"
    (obstacle / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match=r"part-00001\.parquet") as caught:
        caption_pairs(task)
    assert "\n" not in str(caught.value)
    finished = len(task.store.keys(task.embeddings))
    assert finished < 4

    (obstacle / "inside").rmdir()
    obstacle.rmdir()
    report = caption_pairs(task)
    assert report.done + report.skipped == 7
    assert report.skipped <= 2 * finished
    texts = read_texts(task.store, task.captions, task.embeddings)
    assert set(texts) == {pair.pair_id for pair in pairs}


@pytest.mark.kill
def test_a_killed_actor_costs_no_pair_and_changes_no_byte(pairs, tmp_path):
    config = CONFIG.model_copy(update={"shard_rows": 1})
    expected = caption_task(Store(tmp_path / "expected"), pairs, config)
    task = caption_task(Store(tmp_path / "store"), pairs, config)
    caption_in_process(expected)
    killed = []

    def kill_one_actor(done, total, failed):
        actors = [] if killed else [p for p in psutil.Process().children(True) if is_actor(p)]
        for actor in actors[:1]:
            actor.kill()
            killed.append(actor.pid)

    report = caption_pairs(task, progress=kill_one_actor)
    assert killed
    assert report == CaptionReport(done=7, skipped=0)
    assert objects(task) == objects(expected)


def is_actor(process):
    try:
        return "MapBatches(ShardCaptioner)" in " ".join(process.cmdline())
    except psutil.Error:  # gone meanwhile
        return False


def test_an_encoder_that_cannot_be_loaded_is_the_users_line(pairs, tmp_path):
    config = CONFIG.model_copy(update={"encoder": "open_clip", "clip_model": "no such model"})
    with pytest.raises(UserError, match=r"caption\.(encoder|clip_model)") as caught:
        caption_pairs(caption_task(Store(tmp_path / "store"), pairs, config))
    assert "\n" not in str(caught.value)
