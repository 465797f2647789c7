"""Questions, engine and answers in one: real vLLM, real Ray, a real S3 server, a tiny Qwen2-VL."""

import json
import pickle
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from dtpf.caption.config import CaptionConfig, EngineResources, VlmConfig
from dtpf.caption.on_ray import caption_pairs
from dtpf.caption.runner import CaptionReport
from dtpf.caption.vlm import on_ray
from dtpf.caption.vlm.answers import read_answer
from dtpf.caption.vlm.questions import Finishing
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path
from dtpf.data.texts import read_texts
from tests.caption.scenes import caption_task, write_pairs
from tests.vllm.tiny_model import ANSWER

PROMPT = Path(__file__).parents[1] / "golden" / "prompt_rendered_infrared_visible_1.txt"
CAPTION = read_answer(json.dumps(ANSWER), 1, 2)[1]

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def store(cluster):
    return Store(f"s3://dtpf/{uuid.uuid4().hex[:12]}")


def config(model, **engine):
    resources = {
        "num_gpus": 0,
        "dtype": "float32",
        "max_num_seqs": 8,
        "batch_size": 4,
        "eager": True,
    } | engine
    return CaptionConfig(
        captioner="qwen2_vl",
        shard_rows=4,
        vlm=VlmConfig(model=str(model), engine=EngineResources(**resources, start_timeout_s=300)),
    )


def upload(model, store):
    """Put the model into the store, and return its URI there."""
    for path in model.iterdir():
        store.write_bytes(f"tiny/{path.name}", path.read_bytes())
    return store.uri_of("tiny")


def statuses(task):
    captions = task.store.read_table(task.captions).to_pylist()
    return {row["pair_id"]: row["status"].partition(":")[0] for row in captions}


def test_good_bad_and_poisonous_pairs_all_get_their_rows(store, model, tmp_path, monkeypatch):
    """One file is no image, one pair asks for more tokens than the engine has."""
    pairs = write_pairs(tmp_path / "data", 9)
    local_path(pairs[2].visible_uri).write_text("not an image")
    (large,) = write_pairs(tmp_path / "large", 1, height=448, width=448)
    pairs[5] = replace(large, pair_id="pair005")
    seen = tmp_path / "prompts"
    monkeypatch.setattr(on_ray, "Finishing", spying(seen))

    settings = config(upload(model, store), max_model_len=512)
    task = caption_task(store, pairs, settings)
    shown = []
    report = caption_pairs(task, lambda *numbers: shown.append(numbers))
    assert report == CaptionReport(9, 0, 0, {"unreadable": 1, "engine": 1})
    assert (9, 9) in {numbers[:2] for numbers in shown}

    texts = read_texts(store, task.captions, task.embeddings)
    assert set(texts) == {pair.pair_id for pair in pairs}
    expected = {"pair002": "unreadable", "pair005": "engine"}
    assert statuses(task) == {pair.pair_id: expected.get(pair.pair_id, "ok") for pair in pairs}
    assert {texts[name][0].caption for name in texts if name not in expected} == {CAPTION}
    assert not [key for key in store.keys(task.captions) if "draft" in key]
    # Each image beside its words: the engine's own rendering, compared with the committed one.
    assert seen.read_text() == PROMPT.read_text()

    assert caption_pairs(task).skipped == 9


def spying(path):
    """Return a Finishing that also writes what the engine was asked."""

    class Spy(Finishing):
        def __call__(self, row):
            prompt = row[self._column].get("prompt")
            if prompt:
                path.write_text(prompt)
            return super().__call__(row)

    return Spy


def test_whole_answers_are_asked_for():
    """Token by token, an engine's process is busier with answers than the engine with tokens."""
    from vllm.sampling_params import RequestOutputKind

    arrived = pickle.loads(pickle.dumps(on_ray._WholeAnswer()))
    assert arrived is RequestOutputKind.FINAL_ONLY


@pytest.mark.kill
def test_an_engine_that_dies_costs_no_pair(store, model, tmp_path):
    pairs = write_pairs(tmp_path / "data", 24)
    task = caption_task(store, pairs, config(model, max_num_seqs=1, batch_size=1))
    killed = []

    def kill_the_engine(done, total, failed):
        if done >= 4 and not killed:
            killed.extend(engines())
            for process in killed:
                process.kill()

    report = caption_pairs(task, kill_the_engine)
    assert killed
    assert report == CaptionReport(24, 0)
    assert set(statuses(task)) == {pair.pair_id for pair in pairs}
    vectors = store.read_table(task.embeddings)["embedding"].to_pylist()
    assert np.isfinite(vectors).all()


def engines():
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "EngineCore" in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile
    return found
