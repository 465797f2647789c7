"""Trainings that are struck in the middle, and whether they end with the weights of unbroken ones.

    python benchmarks/training_faults.py [--faults NAME ...] [--strikes N] [--steps N] [--json]

    process  SIGKILL of a plain training process; the same command goes on
    worker   SIGKILL of one of two Ray Train workers; the run goes on by itself
    raylet   SIGKILL of a node: an elastic run goes on with one worker, and with two when it is back
    driver   SIGKILL of the driver of two workers; the same command goes on
    storage  the S3 server is away for 30 seconds; the run waits
    disk     the disk is full (needs the right to mount); freed, the same command goes on

Each strike falls on a random step. Plain processes must end with the same bits, several workers
with losses within a relative 1e-3, or within twice what rounding alone does in as many steps: they
add gradients in another order, as does one process that halves its batches, which is measured.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from fault_tools import S3, Disk, RayNodes, Struck, Unavailable, copied
from prepared import captioned

from dtpf.core.bundle import load_bundle
from dtpf.core.config import apply_overrides
from dtpf.core.storage.store import Store
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.specs import teacher_spec
from dtpf.recipes import recipe
from dtpf.training.config import TrainSpec
from dtpf.training.group import current_group
from dtpf.training.run import run_training

TOLERANCE = 1e-3
SMALL = (
    "data.synthetic.train=5",
    "data.synthetic.val=1",
    "data.synthetic.test=1",
    "data.synthetic.height=64",
    "data.synthetic.width=64",
    "teacher.model.width=4",
    "teacher.train.crop=32",
    "teacher.train.batch=2",
    "teacher.train.checkpoint_every=2",
    "teacher.train.learning_rate=1e-4",  # the larger, the faster do roundings grow
)


def main() -> None:
    """Parse, strike, print; exit code 1 where a run did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--strikes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the steps that are struck")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options)
    print(json.dumps(report, indent=2) if options.json else "\n".join(map(str, report.items())))
    sys.exit(0 if all(row.get("holds", True) for row in report.values()) else 1)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Train unbroken, then with each fault."""
    plan = captioned(apply_overrides(recipe("tiny_cpu"), SMALL), Store(folder / "store"))
    draw = random.Random(options.seed)
    unbroken: dict[int, Unbroken] = {}
    report = {}
    for name in options.faults:
        steps = options.steps + GROWING.get(name, 0) * options.strikes
        if steps not in unbroken:
            unbroken[steps] = train_unbroken(plan, steps)
        at = sorted(draw.sample(range(2, options.steps - 2), options.strikes))
        started = time.monotonic()
        report[name] = strike(name, folder, spec_of(plan, name, steps), at, unbroken[steps])
        report[name]["seconds"] = round(time.monotonic() - started, 1)
        print(name, report[name], file=sys.stderr, flush=True)
    return report


@dataclass(frozen=True)
class Unbroken:
    """A run that nothing happened to, and how far one ends from it that rounds otherwise."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    rounding: float


def train_unbroken(plan: Plan, steps: int) -> Unbroken:
    """Train twice in this process: as it is, and with every batch in two halves."""
    spec = spec_of(plan, f"unbroken-{steps}", steps)
    halved = apply_overrides(spec_of(plan, f"halved-{steps}", steps), ["train.accumulate=2"])
    losses, others = (
        [row["loss"] for row in run_training(each, current_group()).losses]
        for each in (spec, halved)
    )
    return Unbroken(losses, weights(spec), curve_difference(others, losses))


def spec_of(plan: Plan, name: str, steps: int) -> TrainSpec:
    """Return a teacher of its own over the shared data."""
    data, caption = plan.need("data"), plan.need("caption")
    spec = teacher_spec(plan.config, plan.store.uri, f"runs/{name}", data, caption)
    return apply_overrides(spec, [f"train.steps={steps}", f"train.validate_every={steps}"])


def strike(name: str, folder: Path, spec: TrainSpec, at: list[int], whole: Unbroken) -> dict:
    """Return how a struck run ended beside the unbroken one."""
    try:
        struck, losses = FAULTS[name](folder, spec, at)
    except Unavailable as error:
        return {"skipped": str(error)}
    found = compared(losses, weights(spec), whole, exact=name in EXACT)
    return {"struck_at": struck, **found}


def compared(
    losses: list[float], found: dict[str, torch.Tensor], whole: Unbroken, exact: bool
) -> dict:
    """Return the largest differences, and whether they are as small as they must be."""
    curve = curve_difference(losses, whole.losses)
    largest = max((found[name] - value).abs().max().item() for name, value in whole.weights.items())
    bound = max(TOLERANCE, 2 * whole.rounding)
    return {
        "loss_difference": curve,
        "weight_difference": largest,
        "rounding": whole.rounding,
        "holds": curve == 0 and largest == 0 if exact else curve <= bound,
    }


def curve_difference(losses: list[float], expected: list[float]) -> float:
    """Return the largest relative difference of two curves of losses."""
    return max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True))


def weights(spec: TrainSpec) -> dict[str, torch.Tensor]:
    """Return the weights that a finished run left."""
    return load_bundle(Store(spec.store).uri_of(f"{spec.root}/bundle")).model.state_dict()


def struck_at_each(
    run: Struck, at: list[int], strike_once: Callable[[], None]
) -> tuple[list[int], list[float]]:
    """Return the steps at which a run was struck, and its losses in the end."""
    seen = []
    for step in at:
        seen.append(run.until(step))
        strike_once()
    return seen, run.losses()


def kill_process(folder: Path, spec: TrainSpec, at: list[int]):
    """SIGKILL of a plain process."""
    run = Struck(folder, spec)
    return struck_at_each(run, at, run.kill)


def kill_worker(folder: Path, spec: TrainSpec, at: list[int]):
    """SIGKILL of one of two workers."""
    with RayNodes() as nodes:
        run = Struck(folder, spec, nodes.address, {"workers": 2, "max_failures": 50})
        return struck_at_each(run, at, nodes.kill_worker)


def kill_node(folder: Path, spec: TrainSpec, at: list[int]):
    """SIGKILL of a raylet; its node comes back when the run has gone on without it."""
    scaling = {"workers": 2, "min_workers": 1, "resize_seconds": 1.0, "max_failures": 50}
    with RayNodes() as nodes:
        run = Struck(folder, spec, nodes.address, scaling)

        def lose_and_return() -> None:
            nodes.kill_node()
            run.until_workers(1)
            nodes.add()
            run.until_workers(2)

        return struck_at_each(run, at, lose_and_return)


def kill_driver(folder: Path, spec: TrainSpec, at: list[int]):
    """SIGKILL of the process that drives two workers."""
    with RayNodes() as nodes:
        run = Struck(folder, spec, nodes.address, {"workers": 2})
        return struck_at_each(run, at, run.kill)


def stop_storage(folder: Path, spec: TrainSpec, at: list[int]):
    """The S3 server ends and comes back after a while."""
    with S3(folder) as server:
        store = Store(f"s3://dtpf/{spec.root}")
        return elsewhere(folder, spec, store, lambda run: struck_at_each(run, at[:1], server.away))


def fill_disk(folder: Path, spec: TrainSpec, at: list[int]):
    """The disk of the store fills up; there is room again before the next start."""
    with Disk(folder) as disk:

        def fill(run: Struck) -> None:
            disk.fill()
            run.ends_with("the disk is full; free some space and run the same command again")
            disk.free()

        return elsewhere(
            folder,
            spec,
            Store(disk.place / "store"),
            lambda run: struck_at_each(run, at[:1], lambda: fill(run)),
        )


def elsewhere(
    folder: Path,
    spec: TrainSpec,
    store: Store,
    work: Callable[[Struck], tuple[list[int], list[float]]],
) -> tuple[list[int], list[float]]:
    """Strike a run over a copy of the data in another store, and bring its bundle back."""
    home = Store(spec.store)
    for prefix in ("datasets", "captions", "embeddings"):
        copied(home, store, prefix)
    result = work(Struck(folder, spec.model_copy(update={"store": store.uri})))
    copied(store, home, f"{spec.root}/bundle")
    return result


Fault = Callable[[Path, TrainSpec, list[int]], tuple[list[int], list[float]]]
FAULTS: dict[str, Fault] = {
    "process": kill_process,
    "worker": kill_worker,
    "raylet": kill_node,
    "driver": kill_driver,
    "storage": stop_storage,
    "disk": fill_disk,
}
EXACT = ("process", "storage", "disk")
# Steps more for each strike: a node needs so long to come back.
GROWING = {"raylet": 200}

if __name__ == "__main__":
    main()
