"""What a distillation step costs with a live teacher and with its stored outputs.

    python benchmarks/teacher_outputs.py [--teacher PRESET] [--student PRESET] [--crop N]
                                         [--batch N] [--steps N] [--threads N] [--json]

Two students with the same weights take the same steps in turns, in this process; medians are
printed, and by how much their losses differ. A step is the batch, made and not prefetched, then
forward, backward and update; stored outputs are read without a cache, from a local disk that has
just written them. Networks are untrained: their times do not depend on their weights. An epoch is
one pass over the fixed crops; storing pays after `precompute / (live - stored)` of them, times the
batch. Exit code 1 where it never does.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from prepared import captioned

from dtpf.core.bundle import save_bundle
from dtpf.core.config import apply_overrides
from dtpf.core.models import PRESETS, build
from dtpf.core.records import pairs_from_table
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset
from dtpf.data.texts import read_texts
from dtpf.pipeline.specs import teacher_spec
from dtpf.recipes import recipe
from dtpf.training.config import TrainSpec
from dtpf.training.feed import TrainingFeed
from dtpf.training.group import current_group
from dtpf.training.run import build_task
from dtpf.training.tasks import TrainBatch
from dtpf.training.teacher_outputs.reader import OutputReader
from dtpf.training.teacher_outputs.shards import SHARD_CROPS
from dtpf.training.teacher_outputs.writer import ShardWriter, Work

MODES = ("live", "stored")


def main() -> None:
    """Parse, measure, print; exit code 1 where storing never pays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--teacher", default="teacher_tiny", choices=PRESETS)
    parser.add_argument("--student", default="student_tiny", choices=PRESETS)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(prepare(Store(scratch), options))
    lines = "\n".join(f"{name:<34}{value}" for name, value in report.items())
    print(json.dumps(report, indent=2) if options.json else lines)
    sys.exit(0 if report["epochs_until_storing_pays"] is not None else 1)


def prepare(store: Store, options: argparse.Namespace) -> TrainSpec:
    """Return a student's spec over synthetic scenes and an untrained teacher."""
    side = max(128, options.crop)
    settings = [
        "data.synthetic.train=8",
        *(f"data.synthetic.{name}={side}" for name in ("height", "width")),
        *(f"teacher.train.{name}={getattr(options, name)}" for name in ("crop", "batch", "steps")),
        f"teacher.train.fixed_crops={options.steps * options.batch}",
        "teacher.train.warmup=0",
    ]
    plan = captioned(apply_overrides(recipe("tiny_cpu"), settings), store)
    save_bundle(store, "teacher", build(options.teacher), provenance={})
    spec = teacher_spec(plan.config, store.uri, "run", plan.need("data"), plan.need("caption"))
    update = {"task": "student", "model": PRESETS[options.student], "teacher_bundle": "teacher"}
    return spec.model_copy(update=update)


def measure(spec: TrainSpec) -> dict:
    """Return all numbers; seconds are medians over turns, each of one step a mode and one shard."""
    store, device = Store(spec.store), current_group().device
    stored = spec.model_copy(update={"teacher_outputs": "stored"})
    work, writer = Work.of(stored), ShardWriter(stored, device)
    for shard in work.pending:
        writer.write(shard)
    size = sum(len(store.read_bytes(key)) for key in store.keys(work.report.prefix))
    steps = {mode: stepper(spec, mode, work) for mode in MODES}
    turns: dict[str, list[float]] = {}
    differences = []
    for number in range(spec.train.steps):
        losses = {}
        for mode in MODES if number % 2 else reversed(MODES):
            made, updated, losses[mode] = steps[mode](number)
            turns.setdefault(f"{mode}_batch", []).append(made)
            turns.setdefault(f"{mode}_step", []).append(made + updated)
        again = work.pending[number % len(work.pending)]
        turns.setdefault("write", []).append(seconds(lambda shard=again: writer.write(shard)))
        differences.append(abs(losses["stored"] / losses["live"] - 1))
    # The first turn warms up.
    found = {name: statistics.median(values[1:] or values) for name, values in turns.items()}
    saved, per_crop = found["live_step"] - found["stored_step"], found["write"] / SHARD_CROPS
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        **{name: getattr(spec.train, name) for name in ("crop", "batch", "steps")},
        "live_step_seconds": round(found["live_step"], 4),
        "stored_step_seconds": round(found["stored_step"], 4),
        "of_which_live_batch": round(found["live_batch"], 4),
        "of_which_stored_batch": round(found["stored_batch"], 4),
        "precompute_seconds_per_crop": round(per_crop, 4),
        "bytes_per_crop": round(size / work.report.crops),
        "largest_relative_loss_difference": float(f"{max(differences):.2g}"),
        "epochs_until_storing_pays": (
            round(per_crop * spec.train.batch / saved, 2) if saved > 0 else None
        ),
    }


def stepper(spec: TrainSpec, mode: str, work: Work) -> Callable[[int], tuple[float, float, float]]:
    """Return what takes a step: seconds for its batch, seconds for the rest, and the loss."""
    store, device = Store(spec.store), current_group().device
    pairs = [p for p in pairs_from_table(store.read_table(spec.pairs)) if p.split == "train"]
    texts = read_texts(store, spec.captions, spec.embeddings)
    outputs = (OutputReader(work.shards, cache_bytes=0),) if mode == "stored" else ()
    feed = TrainingFeed(pairs, PairDataset(pairs), texts, spec.loss, *outputs)
    task = build_task(spec.model_copy(update={"teacher_outputs": mode}), store).to(device)
    optimizer = torch.optim.AdamW(task.trainable.parameters(), lr=spec.train.learning_rate)

    def update(batch: TrainBatch) -> float:
        optimizer.zero_grad(set_to_none=True)
        samples, _ = task(batch, task.trainable)
        loss = samples.mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    def step(number: int) -> tuple[float, float, float]:
        started = time.perf_counter()
        batch = feed.batch(number, spec.train)
        made = time.perf_counter()
        loss = update(batch.to(device))
        return made - started, time.perf_counter() - made, loss

    return step


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
