"""Seconds of indexing and captioning by pairs and GPUs, and what bounds them.

A stage is work that all resources do side by side, so that the slowest bounds it, and phases in
which nothing else runs. Values come from `pipeline_settings.py`; nothing of a GPU is measured.
Every formula follows today's code: one driver, one `pairs.parquet`, one question process an
engine. `pipeline_training.py` has the later stages.
"""

import math
from dataclasses import dataclass, field

import scaling_model

TRAINING = scaling_model.Assumptions()
MODELS = ("2b", "7b")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage.
        items: pairs, or crops.
        rates: items a second that each resource could do, all side by side.
        alone: seconds of the phases in which only this resource works.
    """

    name: str
    items: float
    rates: dict[str, float]
    alone: dict[str, float] = field(default_factory=dict)

    @property
    def slowest(self) -> str:
        """The resource that bounds what runs side by side."""
        return min(self.rates, key=lambda name: self.rates[name])

    @property
    def rate(self) -> float:
        """Items a second, phases left out."""
        return self.rates[self.slowest]

    @property
    def seconds(self) -> float:
        """All phases, one after the other."""
        return self.items / self.rate + sum(self.alone.values())

    @property
    def bottleneck(self) -> str:
        """The resource that is waited for the longest."""
        return max({**self.alone, self.slowest: self.items / self.rate}.items(), key=_second)[0]


def _second(item: tuple[str, float]) -> float:
    return item[1]


def nodes(a, gpus: int) -> int:
    """Return the nodes that hold so many GPUs."""
    return math.ceil(gpus / a.gpus_per_node)


def link(a) -> float:
    """Return bytes/s of one node's link."""
    return a.node_link * 1e9 / 8 * TRAINING.link_efficiency


def row_groups(a, pairs: float) -> int:
    """Return the number of row groups of the index."""
    return math.ceil(pairs / a.row_group)


def footer(a, pairs: float) -> float:
    """Return bytes that every reader of the index reads beside its rows."""
    return a.index_footer_bytes * row_groups(a, pairs)


def shards(a, pairs: float) -> int:
    """Return the number of shards of captions, and of embeddings."""
    return math.ceil(pairs / a.shard_rows)


def listing(a, keys: float) -> float:
    """Return seconds of listing so many keys, page after page."""
    return math.ceil(keys / 1000) * a.list_seconds


def index(a, pairs: int) -> Stage:
    """Return the index: one process with a few threads, after two listings of all images."""
    waits = 2 * a.image_requests * a.get_seconds
    rates = {
        "driver's CPU": a.core_speed / a.index_cpu_seconds,
        "store latency": a.readers / (waits + a.decode_seconds / a.core_speed),
        "node link": link(a) / a.pair_bytes,
        "store bandwidth": a.store_bandwidth / a.pair_bytes,
        "store requests": a.store_gets / (2 * a.image_requests),
    }
    return Stage("index", pairs, rates, {"index listing": 2 * listing(a, 2 * pairs)})


def gpu_caption_seconds(a, model: str) -> float:
    """Return a GPU's seconds for one pair: the language part on all tokens, the images' part."""
    tokens = a.image_tokens + a.prompt_characters / a.characters_per_token + a.answer_tokens
    language = 2 * getattr(a, f"parameters_{model}") * tokens
    vision = 2 * a.vision_parameters * 4 * a.image_tokens
    return (1 + a.asked_again) * (language + vision) / getattr(a, f"flops_{model}")


def read_rates(a, pairs: int, gpus: int) -> dict[str, float]:
    """Return pairs a second that the store and the links can deliver to captioners."""
    size = a.pair_bytes + footer(a, pairs) / a.shard_rows
    requests = 2 * a.image_requests + a.shard_requests / a.shard_rows
    return {
        "store bandwidth": a.store_bandwidth / size,
        "node links": nodes(a, gpus) * link(a) / size,
        "store requests": a.store_gets / requests,
    }


def caption(a, pairs: int, gpus: int, model: str) -> Stage:
    """Return captions by a vision-language model: an engine and a question process a GPU."""
    shard = row_groups(a, pairs) * a.index_footer_seconds
    prepare = (a.decode_seconds + a.scale_seconds + shard / a.shard_rows) / a.core_speed
    waits = 2 * a.image_requests * a.get_seconds
    publish = (a.put_seconds + a.get_seconds) / a.shard_rows
    rates = {
        "GPU": gpus / gpu_caption_seconds(a, model),
        "question processes": gpus / (prepare + waits),
        "node CPUs": nodes(a, gpus)
        * a.cpus_per_node
        / (prepare + a.preprocess_seconds / a.core_speed),
        **read_rates(a, pairs, gpus),
        "driver's rows": 1 / ((a.driver_row_seconds + a.ray_row_seconds) / a.core_speed + publish),
    }
    fetch = getattr(a, f"weights_{model}") * max(1 / link(a), nodes(a, gpus) / a.store_bandwidth)
    alone = {
        "start-up": a.engine_start + fetch,
        "shard listing": 6 * listing(a, shards(a, pairs)),
        "driver's tasks": shards(a, pairs) * a.tasks_seconds,
    }
    return Stage(f"captions, {model}", pairs, rates, alone)


def statistics(a, pairs: int, gpus: int) -> Stage:
    """Return captions by the default captioner with an actor on every core of the nodes."""
    cores = nodes(a, gpus) * a.cpus_per_node
    shard = row_groups(a, pairs) * a.index_footer_seconds / a.shard_rows
    work = (a.decode_seconds + a.statistics_seconds + shard) / a.core_speed
    waits = 2 * a.image_requests * a.get_seconds
    rates = {"node CPUs": cores / (work + waits), **read_rates(a, pairs, gpus)}
    return Stage("captions, statistics", pairs, rates, {"shard listing": relisting(a, pairs)})


def embed(a, pairs: int, gpus: int) -> Stage:
    """Return embeddings by CLIP, an actor a GPU, and the count of failures that follows."""
    waits = a.shard_requests * a.get_seconds / a.shard_rows
    rates = {
        "GPU": gpus / (1 / a.clip_rate + waits),
        "store requests": min(a.store_gets / a.shard_requests, a.store_puts) * a.shard_rows,
        "store bandwidth": a.store_bandwidth / (a.embedding_row_bytes + a.caption_row_bytes),
    }
    counting = 4 * a.get_seconds * shards(a, pairs) / a.readers
    return Stage(
        "embeddings",
        pairs,
        rates,
        {"counting failures": counting, "shard listing": relisting(a, pairs)},
    )


def relisting(a, pairs: int) -> float:
    """Return seconds of finding which shards lack captions or embeddings."""
    return 2 * listing(a, shards(a, pairs))
