import json
import struct
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from dtpf.caption import reading
from dtpf.caption.captioner import maker_of
from dtpf.caption.config import CaptionConfig, EngineResources, VlmConfig
from dtpf.caption.shards import Previous, Shard
from dtpf.caption.vlm import questions
from dtpf.caption.vlm.answers import answer_schema
from dtpf.caption.vlm.drafts import Drafts
from dtpf.caption.vlm.questions import (
    GRID,
    PASS_BY,
    Finishing,
    QuestionMaker,
    Request,
    sampling_params,
    scale,
)
from dtpf.core.records import MODALITIES, Caption, Degradation
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import local_path, storage_errors
from dtpf.data.images import encode_png
from tests.caption.scenes import caption_task, texture, write_pairs

VLM = VlmConfig(engine=EngineResources(batch_size=2))
CONFIG = CaptionConfig(captioner="qwen2_vl", shard_rows=3, vlm=VLM)
REQUEST = Request("Look at <2> and <1>.", ("infrared", "visible"), {"max_tokens": 9})
FOR_THE_ENGINE = ("prompt", "multimodal_data", "sampling_params")
DATA = "__data"


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "data", 5)


@pytest.fixture
def task(tmp_path, pairs):
    return caption_task(Store(tmp_path / "store"), pairs, CONFIG)


def batches_of(task):
    maker = QuestionMaker(task, REQUEST)
    return [batch for shard in task.shards() for batch in maker(shard)]


def rows_of(task):
    return [row for batch in batches_of(task) for row in batch]


def images_of(row):
    """Return the images of a row by modality, as arrays."""
    images = map(np.asarray, row["multimodal_data"]["image"])
    return dict(zip(REQUEST.images, images, strict=True))


def ready(row):
    return Caption.from_row(json.loads(row["ready"]))


def caption_of(pair, text="A road.", config=CONFIG):
    maker = maker_of(config)
    found = (Degradation("visible", "noise", 0.5),)
    return Caption(pair.pair_id, text, found, maker.name, maker.revision, maker.prompt_version)


def test_every_pair_is_asked_about_once_and_knows_its_place(task, pairs):
    rows = rows_of(task)
    assert [row["pair_id"] for row in rows] == [pair.pair_id for pair in pairs]
    places = [(row["shard"], row["rows"], row["place"]) for row in rows]
    assert places == [(0, 3, 0), (0, 3, 1), (0, 3, 2), (1, 2, 0), (1, 2, 1)]


def test_questions_come_a_batch_at_a_time_with_the_same_keys(task, pairs):
    local_path(pairs[1].visible_uri).unlink()
    assert [len(batch) for batch in batches_of(task)] == [2, 1, 2]
    assert len({frozenset(row) for row in rows_of(task)}) == 1


def test_a_question_holds_both_images_on_the_grid_in_the_order_of_the_prompt(task, pairs):
    row = rows_of(task)[1]
    assert (row["ready"], row["fatal"], row[PASS_BY]) == (None, None, "")
    images = images_of(row)
    assert [image.shape for image in images.values()] == [(56, 56, 3)] * 2  # of 64 x 80
    for modality, image in images.items():
        original = Image.open(local_path(getattr(pairs[1], f"{modality}_uri"))).convert("RGB")
        np.testing.assert_allclose(image, original.resize((56, 56)), atol=2)


def test_a_question_brings_prompt_and_sampling_of_its_own(task):
    """The engine takes things out of what it is given."""
    first, second, *_ = rows_of(task)
    assert first["prompt"] == REQUEST.prompt
    assert first["sampling_params"] == second["sampling_params"] == REQUEST.sampling
    first["sampling_params"].clear()
    assert second["sampling_params"] == REQUEST.sampling == {"max_tokens": 9}


def bomb():
    """Return a PNG of 60 bytes or so whose header promises 60000 x 60000 pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("unreadable", {"visible": b"not an image"}),
        ("unreadable", {"infrared": b""}),
        ("unreadable", {"infrared": encode_png(texture(64, 80))[:200]}),
        ("too_large", {"visible": bomb()}),
        ("too_small", dict.fromkeys(MODALITIES, encode_png(texture(8, 8)))),
        ("sizes_differ", {"infrared": encode_png(texture(64, 84))}),
    ],
)
def test_a_pair_that_cannot_be_asked_has_a_typed_row_and_the_others_are_asked(
    task, pairs, kind, files
):
    for modality, data in files.items():
        local_path(getattr(pairs[1], f"{modality}_uri")).write_bytes(data)
    rows = rows_of(task)
    assert [bool(row["ready"]) for row in rows] == [False, True, False, False, False]
    caption = ready(rows[1])
    assert caption.status.startswith(f"{kind}: ")
    assert "\n" not in caption.status
    assert caption == maker_of(CONFIG).failed("pair001", caption.status)
    assert_the_engine_never_sees(rows[1])


def assert_the_engine_never_sees(row):
    """Ray's stages let marked rows pass."""
    assert row[PASS_BY]
    assert [row[name] for name in FOR_THE_ENGINE] == [None, None, None]


def test_a_missing_file_is_a_typed_row(task, pairs):
    local_path(pairs[4].infrared_uri).unlink()
    assert ready(rows_of(task)[4]).status.startswith("unreadable: ")


def test_infrared_of_a_few_of_16_bits_is_stretched_and_not_clipped(task, pairs):
    counts = (7000 + 2000 * texture(64, 80)).astype(np.uint16)  # a thermal camera's range
    local_path(pairs[0].infrared_uri).write_bytes(encode_png(counts))
    image = images_of(rows_of(task)[0])["infrared"]
    assert image.dtype == np.uint8
    assert 64 < image.mean() < 192
    assert image.std() > 20


def test_what_a_draft_holds_is_neither_read_nor_asked_again(task, pairs):
    shard = task.shards()[0]
    kept = [caption_of(pairs[0]), maker_of(CONFIG).failed("pair002", "unreadable: gone")]
    Drafts(task).write(shard, kept)
    for pair in (pairs[0], pairs[2]):
        local_path(pair.visible_uri).unlink()
    rows = rows_of(task)
    assert [bool(row["ready"]) for row in rows] == [True, False, True, False, False]
    assert [ready(rows[0]), ready(rows[2])] == kept


def test_captions_of_an_earlier_index_are_taken_over(task, pairs, tmp_path):
    task.publish(task.shards()[1], [caption_of(pair) for pair in pairs[3:]])
    renamed = replace(pairs[3], pair_id="renamed")
    store = Store(tmp_path / "other")
    store.write_table("old.parquet", task.store.read_table(task.pairs))
    store.write_table("old/part-00001.parquet", task.published(task.shards()[1]))
    later = caption_task(store, [pairs[0], renamed], CONFIG, Previous("old.parquet", "old", 3))
    asked, taken = rows_of(later)
    assert asked["ready"] is None
    assert ready(taken) == replace(caption_of(pairs[3]), pair_id="renamed")


def test_a_storage_that_is_away_is_fatal_and_spoils_no_row(task, monkeypatch):
    def unreachable(uri):
        with storage_errors(uri):
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject")

    monkeypatch.setattr(reading, "read_bytes", unreachable)
    monkeypatch.setattr(questions, "STORAGE_PATIENCE", 0.0)
    first, second = rows_of(task)
    for number, row in enumerate((first, second)):
        assert row["shard"] == number
        assert "does not answer" in row["fatal"]
        assert (row["pair_id"], row["ready"]) == (None, None)
        assert_the_engine_never_sees(row)


def test_an_index_that_is_gone_is_fatal(task):
    task.store.delete(task.pairs)
    ((row,),) = QuestionMaker(task, REQUEST)(Shard(0, 0, 3))
    assert "no such file" in row["fatal"]


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [
        ((480, 640), 448 * 448, (364, 504)),
        ((1024, 1280), 448 * 448, (392, 476)),
        ((448, 448), 448 * 448, (448, 448)),
        ((100, 100), 448 * 448, (84, 84)),
        ((16, 16), 448 * 448, (56, 56)),  # the one case of scaling up
        ((2160, 3840), 56 * 56, (56, 56)),
    ],
)
def test_images_are_scaled_to_the_grid(shape, most, expected):
    assert np.asarray(scale(np.zeros(shape, np.float32), most)).shape == (*expected, 3)


sides = st.integers(16, 600)


@given(sides, sides, st.integers(56 * 56, 448 * 448))
@example(16, 600, 56 * 56)
@example(600, 16, 448 * 448)
def test_no_image_exceeds_the_pixels_or_its_own_size_but_for_the_smallest_side(
    height, width, most_pixels
):
    """A side of 56 is what the model needs: there alone an image may grow, or exceed."""
    image = np.asarray(scale(np.zeros((height, width), np.float32), most_pixels))[..., 0]
    for side, original in zip(image.shape, (height, width), strict=True):
        assert side % GRID == 0
        assert side == 2 * GRID or 2 * GRID < side <= original
    assert image.size <= most_pixels or min(image.shape) == 2 * GRID


@given(st.integers(200, 600), st.integers(200, 600))
def test_the_aspect_is_kept_but_for_one_grid_step(height, width):
    scaled = np.asarray(scale(np.zeros((height, width), np.float32), 200 * 200)).shape[:2]
    factor = min(1.0, 200 / (height * width) ** 0.5)
    for side, original in zip(scaled, (height, width), strict=True):
        assert side == 2 * GRID or -1e-6 < original * factor - side < GRID + 1e-6


def test_a_scaled_image_shows_what_the_original_does():
    ramp = np.linspace(0, 1, 560, dtype=np.float32)
    image = np.stack([np.tile(ramp, (280, 1)), np.zeros((280, 560)), np.ones((280, 560))], axis=2)
    scaled = np.asarray(scale(image.astype(np.float32), 280 * 140))
    assert scaled.shape == (140, 280, 3)
    expected = 255 * (np.arange(280) + 0.5) / 280
    np.testing.assert_allclose(scaled[50, :, 0], expected, atol=2)
    assert (scaled[..., 1].max(), scaled[..., 2].min()) == (0, 255)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_sampling_binds_the_answer_and_its_length(temperature):
    assert sampling_params(VLM.model_copy(update={"max_tokens": 99}), temperature) == {
        "max_tokens": 99,
        "temperature": temperature,
        "seed": 0,
        "structured_outputs": {"json": answer_schema()},
    }


def question(**values):
    row = dict.fromkeys(("ready", "fatal", *FOR_THE_ENGINE))
    return row | {"shard": 1, "rows": 2, "place": 0, "pair_id": "a"} | values


ANSWERED = question(generated_text="{}", num_generated_tokens=7, **{PASS_BY: ""})
FAILED = question(**{PASS_BY: "ValueError: too long"})
READY = question(ready="{}", **{PASS_BY: "no question"})
FATAL = question(fatal="away", pair_id=None, place=None, **{PASS_BY: "no question"})


def test_all_rows_are_finished_in_the_same_columns():
    finished = [Finishing(DATA)({DATA: row}) for row in (ANSWERED, FAILED, READY, FATAL)]
    columns = ["shard", "rows", "place", "pair_id", "ready", "fatal", "text", "tokens", "error"]
    assert Counter(tuple(row) for row in finished) == {tuple(columns): 4}
    said = [[row[name] for name in columns[4:]] for row in finished]
    assert said == [
        ["", "", "{}", 7, ""],
        ["", "", "", 0, "ValueError: too long"],
        ["{}", "", "", 0, ""],
        ["", "away", "", 0, ""],
    ]
    assert {(row["shard"], row["rows"]) for row in finished} == {(1, 2)}
    assert [row["pair_id"] for row in finished] == ["a", "a", "a", None]


def test_a_row_that_passed_all_stages_without_a_mark_has_no_error():
    row = question(generated_text="{}", num_generated_tokens=7)
    assert Finishing(DATA)({DATA: row})["error"] == ""
