"""Captionings that are struck in the middle, and whether they end as unbroken ones do.

    python benchmarks/caption_faults.py [--faults NAME ...] [--strikes N] [--pairs N]
                                        [--model FOLDER] [--json]

    actor    SIGKILL of a process that captions; the run goes on by itself
    raylet   SIGKILL of a node with what runs on it; the node comes back
    driver   SIGKILL of the driver; the same command goes on
    storage  the S3 server with images, captions and embeddings is away for 30 seconds

On a Ray cluster of two nodes. Each strike falls when a random number of shards is stored. A run
must end by itself, or started again, with one row of every pair, without touching a shard that was
stored; with the statistics captioner in the same bytes as an unbroken run in one process.

With --model, a Qwen2-VL in real vLLM captions instead (on CPUs: the environment of `make
test-vllm`; `python -m tests.vllm.tiny_model FOLDER` makes a model), and `actor` ends its engine.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fault_tools import ROOT, S3, RayNodes

from dtpf.caption.config import CaptionConfig, EngineResources, VlmConfig
from dtpf.caption.runner import caption_pairs
from dtpf.caption.shards import CaptionTask
from dtpf.core.records import pairs_to_table
from dtpf.core.storage.patience import STORAGE_PATIENCE
from dtpf.core.storage.store import Store
from dtpf.data.synthetic import SyntheticConfig, write_synthetic
from dtpf.data.texts import read_texts

SHARD_ROWS = 8
LONGEST = 900.0  # seconds until a run must have got on
# What the process that captions is called, without and with a model.
ACTOR, ENGINE = "MapBatches(ShardCaptioner)", "EngineCore"

_PROGRAM = """
import json, sys
import ray
from dtpf.caption.config import CaptionConfig
from dtpf.caption.on_ray import caption_pairs
from dtpf.caption.shards import CaptionTask
from dtpf.core.storage.store import Store
store, patience, config, *keys, address = json.loads(sys.argv[1])
config = CaptionConfig.parse(json.dumps(config), "config")
ray.init(address=address, log_to_driver=False)
pairs, captions, embeddings = keys
print(caption_pairs(CaptionTask(Store(store, patience), pairs, config, captions, embeddings)))
"""


class Captioning:
    """A captioning on the cluster at an address, in a process that can be started again."""

    def __init__(self, task: CaptionTask, address: str, log: Path) -> None:
        self.task = task
        config = task.config.as_dict()
        keys = (task.pairs, task.captions, task.embeddings)
        request = [task.store.uri, STORAGE_PATIENCE, config, *keys, address]
        self._command = [sys.executable, "-c", _PROGRAM, json.dumps(request)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT
            )

    def until(self, shards: int) -> dict[str, bytes]:
        """Wait for so many shards of captions in the store, and return all that are there."""
        deadline = time.monotonic() + LONGEST
        while len(found := self._stored()) < shards:
            assert self._process is not None
            assert self._process.poll() is None, self._tail()
            assert time.monotonic() < deadline, self._tail()
            time.sleep(0.05)
        return {key: self.task.store.read_bytes(key) for key in found}

    def kill(self) -> None:
        """SIGKILL the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        """Wait for the end of the process, which must be a good one."""
        assert self._process is not None
        assert self._process.wait(LONGEST) == 0, self._tail()

    def _stored(self) -> list[str]:
        names = f"{self.task.captions}/part-"  # drafts have others
        return [key for key in self.task.store.keys(self.task.captions) if key.startswith(names)]

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


Strike = Callable[[Captioning, RayNodes, S3 | None], None]


def kill_actor(run: Captioning, nodes: RayNodes, server: S3 | None) -> None:
    """SIGKILL a process that captions."""
    nodes.kill_worker(ENGINE if run.task.config.captioner == "qwen2_vl" else ACTOR)


def kill_node(run: Captioning, nodes: RayNodes, server: S3 | None) -> None:
    """SIGKILL a raylet, and start another."""
    nodes.kill_node()
    nodes.add()


def kill_driver(run: Captioning, nodes: RayNodes, server: S3 | None) -> None:
    """SIGKILL the driver, and give the same command again."""
    run.kill()
    run.start()


def stop_storage(run: Captioning, nodes: RayNodes, server: S3 | None) -> None:
    """The S3 server ends and comes back after a while."""
    assert server is not None
    server.away()


FAULTS: dict[str, Strike] = {
    "actor": kill_actor,
    "raylet": kill_node,
    "driver": kill_driver,
    "storage": stop_storage,
}


def main() -> None:
    """Parse, strike, print; exit code 1 where a run did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--strikes", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--model", help="folder of a Qwen2-VL; default: the statistics captioner")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the strikes")
    options = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    report = {}
    for name in options.faults:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report[name] = struck(name, Path(folder), options)
        report[name]["seconds"] = round(time.monotonic() - started, 1)
        print(name, report[name], file=sys.stderr, flush=True)
    print(json.dumps(report, indent=2) if options.json else report)
    sys.exit(0 if all(row["holds"] for row in report.values()) else 1)


def struck(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Caption with strikes, and return how it ended beside an unbroken captioning."""
    strikes = 1 if name == "storage" else options.strikes
    shards = -(-options.pairs // SHARD_ROWS)
    at = sorted(random.Random(options.seed).sample(range(2, shards * 4 // 5), strikes))
    with ExitStack() as stack:
        server = stack.enter_context(S3(folder)) if name == "storage" else None
        store = Store("s3://dtpf/faults") if server else Store(folder / "store")
        task = prepare(store, options)
        nodes = stack.enter_context(RayNodes(cpus=2))
        run = Captioning(task, nodes.address, folder / "log")
        run.start()
        seen: dict[str, bytes] = {}
        struck_at = []
        for shard in at:
            found = run.until(shard)
            struck_at.append(len(found))
            seen.update(found)
            FAULTS[name](run, nodes, server)
        run.finish()
        return {"struck_at": struck_at, "shards": shards, **compared(task, seen)}


def prepare(store: Store, options: argparse.Namespace) -> CaptionTask:
    """Write pairs and their index."""
    config = SyntheticConfig(train=options.pairs, val=0, test=0)
    pairs = write_synthetic(config, store, "pairs")
    table = pairs_to_table(pairs)
    store.write_table("pairs.parquet", table, row_group_rows=SHARD_ROWS)
    return CaptionTask(store, "pairs.parquet", captioner(options.model), "captions", "embeddings")


def captioner(model: str | None) -> CaptionConfig:
    """Return the settings of either captioner."""
    if model is None:
        return CaptionConfig(shard_rows=SHARD_ROWS)
    engine = EngineResources(
        num_gpus=0, dtype="float32", max_num_seqs=8, batch_size=4, eager=True, start_timeout_s=300
    )
    vlm = VlmConfig(model=model, engine=engine)
    return CaptionConfig(captioner="qwen2_vl", shard_rows=SHARD_ROWS, vlm=vlm)


def compared(task: CaptionTask, seen: dict[str, bytes]) -> dict[str, Any]:
    """Return whether every pair has one row, and nothing that was stored has changed."""
    texts = read_texts(task.store, task.captions, task.embeddings)
    pairs = task.store.read_table(task.pairs)["pair_id"].to_pylist()
    found = {
        "rows": len(texts),
        "every_pair_once": sorted(texts) == sorted(pairs),
        "without_caption": sum(caption.status != "ok" for caption, _ in texts.values()),
        "stored_is_untouched": all(task.store.read_bytes(key) == seen[key] for key in seen),
    }
    holds = found["every_pair_once"] and found["stored_is_untouched"]
    if task.config.captioner == "statistics":
        found["as_unbroken"] = objects(task) == objects(unbroken(task))
        holds = holds and found["as_unbroken"]
    return {**found, "holds": holds and not found["without_caption"]}


def unbroken(task: CaptionTask) -> CaptionTask:
    """Caption the same in this process."""
    again = CaptionTask(task.store, task.pairs, task.config, "unbroken/c", "unbroken/e")
    caption_pairs(again)
    return again


def objects(task: CaptionTask) -> list[bytes]:
    """Return all that a captioning has written, in the order of its shards."""
    prefixes = (task.captions, task.embeddings)
    keys = [key for prefix in prefixes for key in task.store.keys(prefix)]
    return [task.store.read_bytes(key) for key in keys]


if __name__ == "__main__":
    main()
