"""What each further pair costs a process in memory and time, by what the process does.

    python benchmarks/pipeline_probes.py NAME FOLDER ROWS

Every probe runs in a process of its own at two sizes; what counts is the growth of its peak.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from dtpf.caption.config import CaptionConfig
from dtpf.caption.embedder import Embedder
from dtpf.caption.known import KnownCaptions
from dtpf.caption.shards import CaptionTask, Previous, Shard, captions_table, shard_table
from dtpf.core.records import PAIR_SCHEMA, Caption, pairs_from_table, pairs_to_table
from dtpf.core.storage.parquet import table_bytes
from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png
from dtpf.data.index import DataConfig, build_index, listing_fingerprint
from dtpf.data.texts import read_texts
from dtpf.pipeline.stages import INDEX_ROWS

SIZES = {"index": 5_000, "worker": 20_000, "known": 50_000, "tasks": 10_000}
SHARD = CaptionConfig().shard_rows


def memory_values() -> dict[str, float]:
    """Return bytes and seconds of each further pair (`tasks`: of each further shard)."""
    found = {}
    for name, rows in SIZES.items():
        small, large = (probed(name, count) for count in (rows, 3 * rows))
        found[f"{name}_memory_bytes"] = (large["bytes"] - small["bytes"]) / (2 * rows)
        found[f"{name}_seconds"] = (large["seconds"] - small["seconds"]) / (2 * rows)
    return found


def probed(name: str, rows: int) -> dict[str, float]:
    """Run one probe in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        WRITERS.get(name, write_index)(Path(folder), rows)
        command = [sys.executable, __file__, name, folder, str(rows)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def write_images(folder: Path, rows: int) -> None:
    """Write pairs of one tiny picture under many names."""
    first = folder / "first.png"
    first.write_bytes(encode_png(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    for side in ("vi", "ir"):
        (folder / "images" / "train" / side).mkdir(parents=True)
        for row in range(rows):
            os.link(first, folder / "images" / "train" / side / f"{row:09d}.png")


def write_index(folder: Path, rows: int) -> None:
    """Write an index alone."""
    Store(folder).write_table("pairs.parquet", index_table(rows), row_group_rows=INDEX_ROWS)


def write_texts(folder: Path, rows: int) -> None:
    """Write an index, and shards of captions and embeddings of all its pairs."""
    write_index(folder, rows)
    store, embedder = Store(folder), Embedder(CaptionConfig())
    for number, start in enumerate(range(0, rows, SHARD)):
        pairs = range(start, min(start + SHARD, rows))
        texts = (f"Visible image {pair}: a street. Infrared image: a person." for pair in pairs)
        captions = captions_table(
            [
                Caption(f"{pair:09d}", text, (), "probe", "1", "1")
                for pair, text in zip(pairs, texts, strict=True)
            ]
        )
        store.write_table(f"captions/part-{number:05d}.parquet", captions)
        store.write_table(f"embeddings/part-{number:05d}.parquet", embedder.table(captions))


def index_table(rows: int) -> pa.Table:
    """Return an index of a set in object storage; the images are nowhere."""
    uris = {
        side: [f"s3://bucket/set/train/{side}/{row:09d}.png" for row in range(rows)]
        for side in ("vi", "ir")
    }
    digests = {
        side: [sha256(uri.encode()).hexdigest() for uri in named] for side, named in uris.items()
    }
    values = {
        "pair_id": [f"{row:09d}" for row in range(rows)],
        "visible_uri": uris["vi"],
        "infrared_uri": uris["ir"],
        "visible_sha256": digests["vi"],
        "infrared_sha256": digests["ir"],
    }
    same = {"split": "train", "height": 480, "width": 640}
    same |= {"visible_dtype": "uint8", "infrared_dtype": "uint8"}
    columns = [values.get(name, [same.get(name)] * rows) for name in PAIR_SCHEMA.names]
    return pa.table(columns, schema=PAIR_SCHEMA)


def index_probe(folder: Path, rows: int) -> object:
    """Do what the driver does for an index: list twice, match, read, write."""
    config = DataConfig(source=str(folder / "images"))
    listing_fingerprint(config)
    report = build_index(config, Store(folder), "none")
    return table_bytes(pairs_to_table(list(report.pairs)), INDEX_ROWS)


def worker_probe(folder: Path, rows: int) -> object:
    """Hold what every worker of a training holds beside images."""
    store = Store(folder)
    pairs = pairs_from_table(store.read_table("pairs.parquet"))
    return pairs, read_texts(store, "captions", "embeddings")


def known_probe(folder: Path, rows: int) -> object:
    """Hold what every captioning actor holds of an earlier captioning."""
    store, previous = Store(folder), Previous("pairs.parquet", "captions", SHARD)
    task = CaptionTask(store, "pairs.parquet", CaptionConfig(), "new", "none", previous)
    known = KnownCaptions(task)
    known.find(task.pairs_of(Shard(0, 0, 1)))
    return known


def tasks_probe(folder: Path, rows: int) -> object:
    """Hold what the driver holds of shards before Ray has them."""
    shards = [Shard(number, number * SHARD, (number + 1) * SHARD) for number in range(rows)]
    return shards, [shard_table(shard) for shard in shards]


PROBES: dict[str, Callable[[Path, int], object]] = {
    "index": index_probe,
    "worker": worker_probe,
    "known": known_probe,
    "tasks": tasks_probe,
}
WRITERS: dict[str, Callable[[Path, int], None]] = {"index": write_images, "worker": write_texts}


def main() -> None:
    """Run one probe; print its seconds and the growth of this process's peak."""
    name, folder, rows = sys.argv[1:]
    before = peak_bytes()
    started = time.perf_counter()
    held = PROBES[name](Path(folder), int(rows))
    seconds = time.perf_counter() - started
    assert held is not None, "the probe holds what it measures"
    print(json.dumps({"seconds": seconds, "bytes": peak_bytes() - before}))


def peak_bytes() -> int:
    """Return the highest resident memory of this process; `getrusage` knows the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
