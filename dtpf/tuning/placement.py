"""How many trials a cluster holds side by side."""

import math
from collections.abc import Mapping

from dtpf.core.errors import UserError
from dtpf.tuning.trials import SearchTask

DRIVER_CPUS = 0.1  # a trial's driver waits for its workers
_ROUNDING = 1e-6


def concurrency(task: SearchTask, cluster: Mapping[str, float]) -> int:
    """Return how many trials run side by side: what was asked for, or what the cluster holds.

    More would wait for each other's resources for ever.

    Raises:
        UserError: not even one trial fits, or a budget in GPU-hours for trials without GPUs.
    """
    resources, workers = task.resources, max(task.resources.train_workers, 1)
    if task.config.gpu_hours is not None and not resources.gpus:
        raise UserError(
            "tune.gpu_hours counts GPUs, and trials hold none; set tune_resources.gpus_per_trial"
        )
    needs = {"CPU": DRIVER_CPUS + workers * resources.cpus_per_trial, "GPU": resources.gpus}
    rooms = {
        "CPU": math.floor(cluster.get("CPU", 0.0) / needs["CPU"] + _ROUNDING),
        "GPU": _on_gpus(resources.gpus_per_trial, cluster.get("GPU", 0.0)) // workers,
    }
    for kind, need in needs.items():
        if need and rooms[kind] < 1:
            raise UserError(
                f"a trial needs {need:g} {kind} and the cluster has {cluster.get(kind, 0.0):g}; "
                "lower tune_resources.workers, cpus_per_trial or gpus_per_trial"
            )
    return min(resources.concurrent, *(room for kind, room in rooms.items() if needs[kind]))


def _on_gpus(share: float, gpus: float) -> int:
    """Return how many workers the GPUs hold; a share of one lies on a single GPU."""
    if not share:
        return 0
    if share < 1:
        return math.floor(1 / share + _ROUNDING) * math.floor(gpus)
    return math.floor(gpus / share + _ROUNDING)
