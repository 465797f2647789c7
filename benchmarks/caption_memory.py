"""Does the memory of the driver grow with the data set? Many pairs through the default captioner.

    python benchmarks/caption_memory.py [--rows 20000 200000] [--json]

For each number of rows an index over a few small pictures is captioned on a Ray cluster of this
machine, in a process of its own, whose highest resident memory is taken. Prints it with the pairs
per second, and how many bytes the driver needs for each further row: an index held in memory
would need over 1000.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from dtpf.caption.config import CaptionConfig
from dtpf.caption.shards import CaptionTask
from dtpf.core.records import PAIR_SCHEMA
from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png
from dtpf.pipeline.stages import INDEX_ROWS

PICTURES, SIDE = 8, 32


def main() -> None:
    """Parse, caption each index in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--caption", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.caption:
        print(json.dumps(caption(Path(options.caption))))
        return
    runs = [run(rows) for rows in options.rows]
    report = {"runs": runs, "bytes_per_row": growth(runs)}
    print(json.dumps(report, indent=2) if options.json else report)


def run(rows: int) -> dict:
    """Write an index and caption it in another process."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), rows)
        command = [sys.executable, __file__, "--caption", folder]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(output.splitlines()[-1], file=sys.stderr, flush=True)
    return {"rows": rows, **json.loads(output.splitlines()[-1])}


def write_index(folder: Path, rows: int) -> None:
    """Write a few pictures, and an index that names them again and again."""
    rng = np.random.default_rng(0)
    uris = []
    for number in range(PICTURES):
        picture = (255 * rng.random((SIDE, SIDE)) ** (1 + number)).astype(np.uint8)
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(picture))
        uris.append(path.as_uri())
    constant = {
        "split": "train",
        "height": SIDE,
        "width": SIDE,
        "visible_dtype": "uint8",
        "infrared_dtype": "uint8",
        "visible_sha256": "0" * 64,
        "infrared_sha256": "0" * 64,
    }
    columns: dict = {name: [value] * rows for name, value in constant.items()}
    columns["pair_id"] = [f"pair{row:09d}" for row in range(rows)]
    columns["visible_uri"] = [uris[row % PICTURES] for row in range(rows)]
    columns["infrared_uri"] = [uris[row // PICTURES % PICTURES] for row in range(rows)]
    columns |= {name: [None] * rows for name in PAIR_SCHEMA.names if name not in columns}
    table = pa.table(columns, schema=PAIR_SCHEMA)
    Store(folder / "store").write_table("pairs.parquet", table, row_group_rows=INDEX_ROWS)


def caption(folder: Path) -> dict:
    """Caption the index below a folder; returns what this process needed."""
    from dtpf.caption.on_ray import caption_pairs
    from dtpf.on_ray import connect, disconnect

    connect()
    store, config = Store(folder / "store"), CaptionConfig()
    task = CaptionTask(store, "pairs.parquet", config, "captions/d/1", "embeddings/d/1")
    started = time.monotonic()
    report = caption_pairs(task)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    disconnect()
    stored = sum(store.row_count(key) for key in store.keys(task.captions))
    return {
        "captioned": report.done,
        "stored": stored,
        "seconds": round(seconds, 1),
        "pairs_per_second": round(report.done / seconds, 1),
        "driver_peak_mb": round(peak / 2**20, 1),
    }


def growth(runs: list[dict]) -> float | None:
    """Return the driver's bytes for each row that the largest index has more than the smallest."""
    first, last = runs[0], runs[-1]
    if last["rows"] == first["rows"]:
        return None
    bytes_more = (last["driver_peak_mb"] - first["driver_peak_mb"]) * 2**20
    return round(bytes_more / (last["rows"] - first["rows"]), 1)


if __name__ == "__main__":
    main()
