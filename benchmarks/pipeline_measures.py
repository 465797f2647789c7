"""Sizes and times of the pipeline's own code on this machine, for `pipeline_model.py`.

`measure` writes real shards with the real code. Times are of this machine, one core unless said
otherwise; `pipeline_scaling.py --measure` keeps the values.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pipeline_probes import index_table, memory_values

from dtpf.caption.captioner import build_captioner
from dtpf.caption.config import CaptionConfig
from dtpf.caption.embedder import Embedder
from dtpf.caption.reading import read_images
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.caption.vlm.collecting import Collector
from dtpf.caption.vlm.prompts import read_prompt
from dtpf.caption.vlm.questions import scale
from dtpf.core.records import EMBEDDING_SCHEMA, TEXT_DIM, Pair
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import encode_png
from dtpf.data.index import DataConfig, build_index
from dtpf.pipeline.stages import INDEX_ROWS

LINKS = 20
PROMPT = read_prompt("infrared_visible", "1")
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = " ".join(page.read_text() for page in sorted(DOCS.glob("*.md")))
WORDS = re.findall(r"\b[a-z]{2,15}\b", PAGES)


def measure(images: Path | None) -> dict[str, float]:
    """Return all values by name; those that need real images are left out without them.

    Args:
        images: folder with folders `vi` and `ir` of pairs of equal names.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = {
            **index_values(Path(folder)),
            **caption_values(Path(folder)),
            **memory_values(),
        }
        if images:
            found |= image_values(images, Path(folder))
    return {name: float(f"{value:.4g}") for name, value in sorted(found.items())}


def index_values(folder: Path) -> dict[str, float]:
    """Return sizes of an index, and what a reader of one shard reads and waits for beside rows."""
    store, groups, seconds = Store(folder / "index"), (100, 700), []
    for count in groups:
        rows = count * INDEX_ROWS
        store.write_table("pairs.parquet", index_table(rows), row_group_rows=INDEX_ROWS)
        middle = rows // 2
        read = partial(store.read_rows, "pairs.parquet", middle, middle + 256)
        seconds.append(median_seconds(read))
    path = folder / "index" / "pairs.parquet"
    footer = pq.read_metadata(path).serialized_size
    return {
        "index_row_bytes": path.stat().st_size / rows,
        "index_footer_bytes": footer / groups[1],
        "index_footer_seconds": (seconds[1] - seconds[0]) / (groups[1] - groups[0]),
    }


def caption_values(folder: Path) -> dict[str, float]:
    """Return bytes a row of captions of two sentences and of dense vectors, and the driver's time.

    Words are drawn at random from the project's pages, so they compress less than sentences do.
    """
    store, config = Store(folder / "captions"), CaptionConfig(captioner="qwen2_vl")
    task = CaptionTask(store, "pairs.parquet", config, "captions", "embeddings")
    rng = np.random.default_rng(0)
    shards = [Shard(number, 256 * number, 256 * number + 256) for number in range(20)]
    collector = Collector(task, {shard.number: shard for shard in shards}, last=True)
    rows = [answer_row(shard, place, rng) for shard in shards for place in range(256)]
    started = time.perf_counter()
    for row in rows:
        collector.add(row)
    seconds = (time.perf_counter() - started) / len(rows)
    captions = task.published(shards[0])
    vectors = rng.standard_normal((256, TEXT_DIM)).astype(np.float32)
    columns = [captions["pair_id"], list(vectors), ["open_clip:ViT-B-32/openai"] * 256]
    store.write_table("dense.parquet", pa.table(columns, schema=EMBEDDING_SCHEMA))
    store.write_table("hashed.parquet", Embedder(CaptionConfig()).table(captions))
    size = {key: len(store.read_bytes(key)) / 256 for key in store.keys("")}
    return {
        "caption_row_bytes": size["captions/part-00000.parquet"],
        "embedding_row_bytes": size["dense.parquet"],
        "hashed_row_bytes": size["hashed.parquet"],
        "driver_row_seconds": seconds,
        "prompt_characters": float(len(PROMPT)),
    }


def answer_row(shard: Shard, place: int, rng: np.random.Generator) -> dict:
    """Return a row as the engine's stage hands it to the driver."""
    scenes = [" ".join(rng.choice(WORDS, 20)) for _ in range(2)]
    kinds = [{"kind": "noise", "severity": "moderate"}]
    sides = ({"degradations": kinds, "scene": f"A {scene}."} for scene in scenes)
    text = json.dumps(dict(zip(("visible", "infrared"), sides, strict=True)))
    row = {"shard": shard.number, "rows": len(shard), "place": place, "text": text, "tokens": 90}
    return {**row, "pair_id": f"{shard.start + place:09d}", "ready": "", "fatal": "", "error": ""}


def image_values(images: Path, folder: Path) -> dict[str, float]:
    """Return sizes and times of real pairs; the index reads each of them many times over."""
    names = sorted(path.name for path in (images / "vi").iterdir())
    for side in ("vi", "ir"):
        (folder / "images" / side).mkdir(parents=True)
        for copy in range(LINKS):
            for name in names:
                source = (images / side / name).resolve()
                (folder / "images" / side / f"{copy}-{name}").symlink_to(source)
    config, store = DataConfig(source=str(folder / "images")), Store(folder / "store")
    started = time.perf_counter()
    pairs = build_index(config, store, "none").pairs
    seconds = time.perf_counter() - started
    some = pairs[:: max(len(pairs) // 20, 1)]
    uris = [uri for pair in some for uri in (pair.visible_uri, pair.infrared_uri)]
    captioner, read = build_captioner(CaptionConfig()), [read_one(pair) for pair in some]
    most = CaptionConfig().vlm.image_pixels
    scaled = [[scale(image, most) for image in both] for both in read]
    tokens = sum(image.width * image.height for both in scaled for image in both) / 28**2
    return {
        "pair_bytes": sum(len(read_bytes(uri)) for uri in uris) / len(some),
        "index_cpu_seconds": seconds / len(pairs),
        "decode_seconds": each(lambda pair: read_one(pair), some),
        "scale_seconds": each(lambda both: [scale(image, most) for image in both], read),
        "statistics_seconds": each(lambda both: captioner.caption("x", *both), read),
        "answer_seconds": each(lambda both: encode_png(to_bytes(both[0])), read),
        "answer_bytes": sum(len(encode_png(to_bytes(both[0]))) for both in read) / len(read),
        "image_tokens": tokens / len(some),
    }


def read_one(pair: Pair) -> tuple:
    """Read and decode one pair."""
    return read_images(pair, "percentile")


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Return an image in [0, 1] as 8 bits."""
    return (image * 255).astype(np.uint8)


def each(action: Callable, items: Sequence) -> float:
    """Return the mean seconds of an action over items."""
    started = time.perf_counter()
    for item in items:
        action(item)
    return (time.perf_counter() - started) / len(items)


def median_seconds(action: Callable[[], object], times: int = 5) -> float:
    """Return the median seconds of a call, the first left out."""
    action()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return sorted(found)[times // 2]
