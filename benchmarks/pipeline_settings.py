"""What `pipeline_model.py` starts from: values measured here, and assumptions that were not.

Both have names that `--set NAME=VALUE` replaces. `pipeline_measured.json` has the measured ones;
`pipeline_scaling.py --measure` writes it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

KEPT = Path(__file__).with_name("pipeline_measured.json")

# Name: unit, what it is.
MEASURED = {
    "pair_bytes": ("B", "both files of a pair of MSRS, 480x640 PNG"),
    "index_row_bytes": ("B", "a row of `pairs.parquet`"),
    "index_footer_bytes": ("B", "its footer, each row group of 1024 pairs; every reader reads all"),
    "index_footer_seconds": ("s", "CPU to open it, each such row group"),
    "index_cpu_seconds": ("s", "a pair of the index: read, decode, digest; 8 threads, 2 cores"),
    "index_memory_bytes": ("B", "the driver's memory, each pair that it indexes"),
    "caption_row_bytes": ("B", "a row of captions, two sentences of 20 words and two degradations"),
    "embedding_row_bytes": ("B", "a row of embeddings, dense as CLIP's"),
    "hashed_row_bytes": ("B", "a row of embeddings by the hashed encoder"),
    "decode_seconds": ("s", "reading from a warm disk and decoding a pair, one core"),
    "scale_seconds": ("s", "scaling both images for the language model"),
    "statistics_seconds": ("s", "the default captioner, decoding left out"),
    "image_tokens": ("", "tokens of both images, 448x448 pixels at most"),
    "prompt_characters": ("", "characters of the question"),
    "driver_row_seconds": ("s", "the driver's work on a model's answer, the store local"),
    "tasks_memory_bytes": ("B", "the driver's memory, each shard before Ray has it"),
    "tasks_seconds": ("s", "making these"),
    "worker_memory_bytes": ("B", "a training worker's memory, each pair of index and texts"),
    "worker_seconds": ("s", "reading these, the store local"),
    "known_memory_bytes": ("B", "a captioning actor's memory, each pair of an earlier captioning"),
    "known_seconds": ("s", "reading these"),
    "answer_bytes": ("B", "a fused PNG (here the visible image)"),
    "answer_seconds": ("s", "encoding it"),
}
LEFT_OUT = ("hashed_row_bytes", "index_seconds")

# Name: value, where it comes from. Numbers in brackets are sources of docs/scaling.md.
ASSUMED: dict[str, tuple[float, str]] = {
    "gpus_per_node": (8, "as in the recipes"),
    "cpus_per_node": (32, "judgement"),
    "core_speed": (1.0, "judgement: a node's core beside one of the machine that measured"),
    "node_memory": (256e9, "judgement; the driver's node has as much"),
    "node_link": (10.0, "Gbit/s, of which `link_efficiency` of the part above arrives"),
    "store_bandwidth": (5e9, "B/s of the whole store, judgement: two servers of 25 Gbit/s"),
    "store_gets": (5500, "GET or HEAD a second: what S3 gives one prefix at least [17]"),
    "store_puts": (3500, "PUT a second [17]"),
    "get_seconds": (0.03, "judgement, small object; Amazon's is called 0.1 to 0.2 [18]"),
    "put_seconds": (0.05, "judgement"),
    "list_seconds": (0.2, "judgement, 1000 keys; one user saw 2 to 7 [19]"),
    "flops_2b": (30e12, "FLOP/s of vLLM, all tokens: a 1.5B model on a 4090, 13.85 req/s [20]"),
    "flops_7b": (61e12, "the same for 7B: 5.79 req/s [20]; another 7B model 11.9 req/s [21]"),
    "parameters_2b": (1.54e9, "of the language part of Qwen2-VL 2B; its model card"),
    "parameters_7b": (7.6e9, "of 7B"),
    "weights_2b": (4.4e9, "bytes that a node fetches"),
    "weights_7b": (16.6e9, "the same for 7B [20]"),
    "vision_parameters": (0.675e9, "of the image part; runs on 4 patches a token"),
    "characters_per_token": (4.5, "judgement, for the question"),
    "answer_tokens": (90, "judgement, for the JSON answer"),
    "asked_again": (0.03, "judgement: share of answers that are asked a second time"),
    "preprocess_seconds": (0.015, "judgement: vLLM's own work on a pair's images, one core"),
    "ray_row_seconds": (0.0002, "judgement: Ray Data hands the driver one row"),
    "engine_start": (180, "s, judgement: load, profile, capture graphs"),
    "clip_rate": (2000, "captions a second of one GPU, judgement"),
    "shard_requests": (8, "HEAD, GET and PUT of a shard's rows; counted in the code"),
    "image_requests": (2, "HEAD and GET of an image; what pyarrow does to open a file"),
    "node_hours_between_failures": (2000, "judgement; 6300 on eight H100 [22]"),
    "node_back_seconds": (600, "judgement: until a failed node is there again"),
    "spread": (0.2, "judgement: times of equal pieces of work differ by up to so much"),
    "paper_crops": (541_500, "of a training; larger sets are seen once"),
    "train_share": (0.72, "of all pairs, where folders have no splits"),
    "val_share": (0.08, "the same"),
    "test_share": (0.2, "the same"),
    "validations": (50, "of a training, `_paper` in `recipes.py`"),
    "metric_seconds": (0.1, "judgement: the metrics of one validation pair on a GPU"),
    "pair_memory": (2.46e6, "B, a decoded pair in a worker; the table above"),
    "cache_bytes": (2 * 2**30, "`CACHE_BYTES` of `data/dataset.py`"),
    "readers": (8, "`READERS` of `data/index.py` and of `caption/runner.py`"),
    "row_group": (1024, "`INDEX_ROWS`"),
    "shard_rows": (256, "`caption.shard_rows`"),
    "batch_rows": (16, "`engine.batch_size`"),
    "evaluation_actors": (2, "`evaluation.resources.actors`, on CPUs"),
    "cpu_flops": (50e9, "FLOP/s of one core, judgement"),
    "methods": (5, "that an evaluation scores"),
    "evaluation_seconds": (0.5, "judgement: all metrics of one fused image, one core"),
    "trial_steps": (5000, "`_paper`"),
    "trial_batch": (4, "`student_4m_1gpu`"),
    "trial_share": (0.469, "of its rounds that ASHA lets a trial run: 4 rounds, halved after each"),
    "trial_start": (40, "s, judgement: processes, Ray Train, first batch"),
    "trials": (16, "`tune.trials`"),
    "forward_teacher": (0.1334, "s, the teacher on one pair on a 4090; the paper"),
    "forward_student": (0.0461, "s, the student; the paper"),
    "proxy_requests": (300, "a second through one HTTP proxy of Ray Serve, judgement"),
}


def settings(changes: Sequence[str] = (), measured: dict[str, float] | None = None):
    """Return all values by name.

    Args:
        changes: NAME=VALUE, of either kind.
        measured: instead of those that are kept.
    """
    values = {name: value for name, (value, _) in ASSUMED.items()}
    values |= json.loads(KEPT.read_text()) if measured is None else measured
    for change in changes:
        name, _, value = change.partition("=")
        if name not in values:
            raise SystemExit(f"--set {change}: unknown; known: {', '.join(sorted(values))}")
        try:
            values[name] = float(value)
        except ValueError:
            raise SystemExit(f"--set {change}: {value!r} is not a number") from None
    return SimpleNamespace(**values)
