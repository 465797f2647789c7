"""Crops per second of two single-threaded workers beside one.

    python benchmarks/data_parallel.py [--model PRESET] [--crop N] [--batch N] [--rounds N] [--json]

Every run is a fresh set of processes that torchrun starts; one worker, two that exchange gradients,
and two that do not (the ceiling of the machine) take turns. The batch is shared, so two workers do
the same steps. Done when two reach 1.8 times the crops per second of one; `of_ceiling` says how
much of what the machine gives two processes is left after exchanging gradients.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import torch

from dtpf.core.losses import LossConfig, weights_for
from dtpf.core.machine import keep_freed_memory
from dtpf.core.models import preset
from dtpf.core.storage.store import Store
from dtpf.training.checkpoints import Checkpoints
from dtpf.training.config import TrainConfig
from dtpf.training.group import Group, current_group
from dtpf.training.loop import Hooks, StepReport, fit
from dtpf.training.tasks import FusionTask, TrainBatch

AT_LEAST = 1.8
WARM = 2  # first steps, left out


def main() -> None:
    """Parse, measure, print; exit code 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--model", default="student_w8")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    report = measure(options)
    print(json.dumps(report, indent=2) if options.json else report)
    sys.exit(0 if report["holds"] else 1)


def measure(options: argparse.Namespace) -> dict:
    """Return medians over the rounds."""
    rates: dict[str, list[float]] = {"one": [], "two": [], "two_apart": []}
    for _ in range(options.rounds):
        rates["one"].append(sum(run(options, "together", 1)))
        rates["two"].append(min(run(options, "together", 2)))
        rates["two_apart"].append(sum(run(options, "apart", 2)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    pairs = zip(rates["two"], rates["one"], strict=True)
    ratio = statistics.median(two / one for two, one in pairs)
    return {
        "model": options.model,
        "crops_per_second": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(ratio, 2),
        "of_ceiling": round(medians["two"] / medians["two_apart"], 3),
        "at_least": AT_LEAST,
        "holds": ratio >= AT_LEAST,
    }


def run(options: argparse.Namespace, mode: str, processes: int) -> list[float]:
    """Return the crops per second that each process saw; together, each sees all of them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), __file__, "--worker", mode]
    for name in ("model", "crop", "batch", "steps"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.check_output(command, env=environment, text=True)
    return [float(line.split()[1]) for line in output.splitlines() if line.startswith("rate ")]


def work(options: argparse.Namespace) -> None:
    """Be one worker: train on made batches and print the crops per second."""
    torch.set_num_threads(1)
    keep_freed_memory()
    alone = options.worker == "apart"
    group = Group(0, 1, torch.device("cpu")) if alone else current_group()
    batch = options.batch // 2 if alone else options.batch
    config = TrainConfig(steps=options.steps, batch=batch, crop=options.crop, warmup=0)
    torch.manual_seed(0)
    task, ends = FusionTask(preset(options.model)), []

    def on_step(report: StepReport) -> None:
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Store(folder), "checkpoints", 1)
        hooks = Hooks(on_step=on_step)
        fit(task, lambda first: batches(config, group), config, group, checkpoints, hooks)
    steps = [after - before for before, after in zip(ends[WARM:], ends[WARM + 1 :], strict=False)]
    print(f"rate {batch / statistics.median(steps)}", flush=True)


def batches(config: TrainConfig, group: Group) -> Iterator[tuple[TrainBatch, float]]:
    """Yield the same made batch again and again: no reading, no decoding."""
    size = len(range(config.batch)[group.rank :: group.world])
    shapes = [(size, channels, config.crop, config.crop) for channels in (3, 1)]
    seen, heat = (torch.rand(shape) for shape in shapes)
    row = weights_for((), LossConfig()).as_dict()
    weights = {name: torch.full((size,), value) for name, value in row.items()}
    names = tuple(str(number) for number in range(size))
    while True:
        dull, text = torch.zeros(size, dtype=torch.bool), torch.zeros(size, 1)
        yield TrainBatch(names, seen, heat, seen, heat, dull, text, weights), 0.0


if __name__ == "__main__":
    main()
