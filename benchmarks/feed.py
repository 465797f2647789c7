"""Where training batches come from: a sampler in the worker, or a Ray Data pipeline.

    python benchmarks/feed.py [--data FOLDER] [--crop N] [--batch N] [--json]

Both deliver the same crops of the same positions as tensors. `sampler` is `dtpf`'s: decoded pairs
stay in the worker's memory, a thread makes the next batch. `ray_data` maps positions to crops in
two tasks with a cache each, and streams batches to the worker. `cold` is the first epoch, which
decodes; `warm` the next. Seconds per batch beside those of `sampler`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dtpf.core.records import Pair
from dtpf.core.storage.store import Store
from dtpf.data.dataset import PairDataset, training_crops
from dtpf.data.index import DataConfig, build_index
from dtpf.data.synthetic import SyntheticConfig

SEED, TASKS = 0, 2


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig(source=options.data, synthetic=SyntheticConfig(val=0, test=0))
        pairs = list(build_index(config, Store(folder), "images", lambda done, total: None).pairs)
        train = [pair for pair in pairs if pair.split == "train"]
        report = measure(train, options.crop, options.batch)
    print(json.dumps(report, indent=2) if options.json else report)


def measure(pairs: list[Pair], crop: int, batch: int) -> dict:
    """Return medians of one cold and one warm epoch each."""
    count = len(pairs) // batch
    seconds = {"sampler": timed(sampler(pairs, crop, batch, 2 * count), count)}
    seconds["ray_data"] = timed(ray_data(pairs, crop, batch, 2 * count), count)
    rows = {
        epoch: {
            name: {
                "seconds_per_batch": round(found[epoch], 5),
                "ratio": round(found[epoch] / seconds["sampler"][epoch], 1),
            }
            for name, found in seconds.items()
        }
        for epoch in ("cold", "warm")
    }
    return {"pairs": len(pairs), "crop": crop, "batch": batch, **rows}


def timed(batches: Iterator[Any], count: int) -> dict[str, float]:
    """Return the median seconds between batches of the first epoch and of the second."""
    times = []
    for _ in range(2 * count):
        start = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - start)
    return {"cold": statistics.median(times[:count]), "warm": statistics.median(times[count:])}


def sampler(pairs: list[Pair], crop: int, batch: int, count: int) -> Iterator[Any]:
    """Yield batches as `TrainingFeed` makes them, without text and without running ahead."""
    dataset = PairDataset(pairs)
    for number in range(count):
        yield training_crops(dataset, range(number * batch, (number + 1) * batch), SEED, crop)


def ray_data(pairs: list[Pair], crop: int, batch: int, count: int) -> Iterator[Any]:
    """Yield the same from tasks of Ray Data, which run ahead."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray.init(num_cpus=TASKS + 1, include_dashboard=False, log_to_driver=False)
    DataContext.get_current().enable_progress_bars = False
    positions = ray.data.range(count * batch, override_num_blocks=count)
    crops = positions.map_batches(
        Cutter,
        fn_constructor_args=(pairs, crop),
        batch_size=batch,
        compute=ActorPoolStrategy(size=TASKS),
        num_cpus=1,
    )
    yield from crops.iter_torch_batches(batch_size=batch, prefetch_batches=2)
    ray.shutdown()


class Cutter:
    """Actor that turns positions into crops."""

    def __init__(self, pairs: list[Pair], crop: int) -> None:
        self._dataset, self._crop = PairDataset(pairs), crop

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return visible and infrared crops with their guides."""
        crops = training_crops(self._dataset, batch["id"].tolist(), SEED, self._crop)
        names = ("visible", "infrared", "visible_guide", "infrared_guide")
        return {name: getattr(crops, name).numpy() for name in names}


if __name__ == "__main__":
    main()
