"""What the store holds, what travels, and at which number today's code breaks."""

from collections.abc import Iterator

from pipeline_model import caption, footer, index, link, nodes, relisting, shards
from pipeline_training import DAY, serving, training

from dtpf.core.models import PRESETS
from dtpf.training.teacher_outputs.shards import SHARD_CROPS, bytes_per_crop

GRADIENTS = 160.6e6  # bytes of the teacher's, float32
TEACHER_CROP = bytes_per_crop(PRESETS["teacher_40m"], 128)
PIXEL_BYTES = 28 * 28 * 3


def stored(a) -> dict[str, tuple[float, float]]:
    """Return bytes and objects a pair, by part of the store."""
    return {
        "images": (a.pair_bytes, 2.0),
        "index": (a.index_row_bytes + a.index_footer_bytes / a.row_group, 0.0),
        "captions": (a.caption_row_bytes, 1 / a.shard_rows),
        "embeddings": (a.embedding_row_bytes, 1 / a.shard_rows),
        "teacher outputs, if stored": (TEACHER_CROP, 1 / SHARD_CROPS),
    }


def requests(a, pairs: int) -> dict[str, float]:
    """Return requests to the store, by stage; training's are those of its first pass."""
    images, pages = 2 * a.image_requests * pairs, shards(a, pairs)
    listed = pages / 1000
    return {
        "index": images + 2 * 2 * pairs / 1000,
        "captions": images + pages * a.shard_requests + 6 * listed,
        "embeddings and counting": pages * (a.shard_requests + 4) + 2 * listed,
        "a training": a.train_share * images + 4 * pages,
    }


def traffic(a, pairs: int, workers: int) -> dict[str, float]:
    """Return bytes that travel, from the store unless said otherwise."""
    texts = a.index_row_bytes + a.caption_row_bytes + a.embedding_row_bytes
    trained, cached = a.train_share * pairs, a.cache_bytes / a.pair_memory
    crops, missed = max(a.paper_crops, trained), max(0.0, 1 - cached / trained)
    ring = 2 * (nodes(a, workers) - 1) * GRADIENTS
    return {
        "index": pairs * a.pair_bytes,
        "captions: images": pairs * a.pair_bytes,
        "captions: footers of the index": shards(a, pairs) * footer(a, pairs),
        "captions: pixels to engines elsewhere": pairs * a.image_tokens * PIXEL_BYTES,
        "a training: index and texts": workers * pairs * texts,
        "a training: images": (missed * crops + workers * min(cached, trained)) * a.pair_bytes,
        "teacher: gradients between nodes": crops / 32 * ring,
    }


def limits(a) -> Iterator[tuple[str, float, str]]:
    """Yield what breaks, the number at which it does, and what the number counts."""
    per_node = a.gpus_per_node
    indexing = index(a, 10**6)
    yield "index: one process takes a day", DAY / (indexing.seconds / 10**6), "pairs"
    yield "index: the driver's memory", a.node_memory / a.index_memory_bytes, "pairs"
    yield (
        "training: index and texts in every worker",
        a.node_memory / (per_node * a.worker_memory_bytes),
        "pairs",
    )
    for name in ("teacher", "student, live"):
        stage = training(a, 10**6, 8, name)
        work = a.paper_crops / stage.rates["GPU"]
        yield (
            f"{name.split(',')[0]}: validation takes as long as the paper's training",
            10**6 * work / stage.alone["validation"],
            "pairs",
        )
    yield (
        "captions: a shard's reader reads more of the index than of its images",
        a.pair_bytes * a.shard_rows / a.index_footer_bytes * a.row_group,
        "pairs",
    )
    yield (
        "captions: counting failures takes an hour",
        3600 * a.readers / (4 * a.get_seconds) * a.shard_rows,
        "pairs",
    )
    yield (
        "captions: finding the missing shards takes an hour",
        3600 / (relisting(a, 10**9) / 10**9),
        "pairs",
    )
    yield (
        "captions: tables of shards fill the driver's memory",
        a.node_memory / a.tasks_memory_bytes * a.shard_rows,
        "pairs",
    )
    yield (
        "captions taken over: a table in each of a node's eight actors",
        a.node_memory / (per_node * a.known_memory_bytes),
        "pairs",
    )
    for model in ("2b", "7b"):
        stage = caption(a, 10**6, 1, model)
        for name in ("store requests", "store bandwidth", "driver's rows"):
            yield f"captions, {model}: {name}", stage.rates[name] / stage.rates["GPU"], "GPUs"
    yield "serving: one proxy", serving(a, 1000).rate, "requests a second"
    yield (
        "serving: the same in GPUs that it keeps busy",
        serving(a, 1000).rate / serving(a, 1).rates["GPU"],
        "GPUs",
    )
    yield (
        "a node's link and captions, 2b: GPUs a node that it feeds",
        link(a) / a.pair_bytes / caption(a, 10**6, 1, "2b").rates["GPU"],
        "GPUs",
    )
