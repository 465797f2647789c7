"""Settings of the search for a student."""

from typing import Any, Literal

from pydantic import Field

from dtpf.core.config import Config

# These end a search or choose among its results; they do not change what a trial is.
_BUDGET = ("trials", "hours", "gpu_hours")
_LIMITS = ("finalists", "max_parameter_share", "max_latency_ms")


class TuneConfig(Config):
    """How the search runs; the space itself is a file whose content is fingerprinted too.

    Attributes:
        space: file, or name of one in `tune_spaces/`.
        search: `optuna` draws `startup` settings at random and then lets a tree-structured Parzen
            estimator with two objectives (retention up, `cost` down) propose; `random` draws all;
            `grid` goes through every combination of choices.
        cost: the second objective: the student's parameters, or its measured latency.
        trials: settings to try; none is begun beyond it.
        hours: wall time after which the search stops, all its runs together.
        gpu_hours: the same for time multiplied by the GPUs that trials hold.
        startup: settings drawn before Optuna proposes; the untuned one, where the space holds it,
            is tried before them.
        steps: optimiser steps of a trial that is not stopped early; None is the student's own.
        rounds: validations of a trial; early stopping looks after each of them.
        stopping: `asha` stops the weaker trials of each round, `none` trains all to the end.
        grace: rounds before a trial may be stopped.
        reduction: one of so many trials survives each cut.
        finalists: how many of the best trials are trained as long as the untuned student, and held
            against it; the best of them all is the winner.
        max_parameter_share: largest student, as a share of the teacher's parameters; settings
            beyond it are not tried.
        max_latency_ms: slowest student that may win, milliseconds for one pair.
        latency_size: height and width of the pair whose fusion is timed.
        seed: of the sampled settings.
    """

    space: str = "smoke"
    search: Literal["optuna", "random", "grid"] = "optuna"
    cost: Literal["parameters", "latency"] = "parameters"
    trials: int = Field(default=16, ge=1)
    hours: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    startup: int = Field(default=8, ge=1)
    steps: int | None = Field(default=400, ge=1)
    rounds: int = Field(default=4, ge=1)
    stopping: Literal["asha", "none"] = "asha"
    grace: int = Field(default=1, ge=1)
    reduction: float = Field(default=2.0, gt=1)
    finalists: int = Field(default=1, ge=1)
    max_parameter_share: float = Field(default=0.10, gt=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0)
    latency_size: tuple[int, int] = (480, 640)
    seed: int = 0

    @property
    def times_networks(self) -> bool:
        """Whether trials measure the latency of their network."""
        return self.cost == "latency" or self.max_latency_ms is not None

    def identity(self) -> dict[str, Any]:
        """Return what the result depends on beside the space: all but the space's name."""
        return {name: value for name, value in self.as_dict().items() if name != "space"}

    def trial_identity(self) -> dict[str, Any]:
        """Return what trials depend on: a larger budget goes on with those that are there."""
        left_out = (*_BUDGET, *(name for name in _LIMITS if name != "max_latency_ms"))
        document = {key: value for key, value in self.identity().items() if key not in left_out}
        document["max_latency_ms"] = self.times_networks
        return document


class TuneResources(Config):
    """Where trials run; not part of the fingerprint.

    Attributes:
        concurrent: trials side by side; fewer if the cluster's GPUs hold fewer.
        workers: Ray Train workers of a trial. 0 trains in the trial's own process: the same
            result without two more processes to start, which counts on a small machine. None is
            1 where trials hold GPUs, else 0.
        cpus_per_trial: CPUs, and threads, of each worker.
        gpus_per_trial: GPUs of each worker; a fraction lets small trials share one.
    """

    concurrent: int = Field(default=2, ge=1)
    workers: int | None = Field(default=None, ge=0)
    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0)

    @property
    def train_workers(self) -> int:
        """Ray Train workers of one trial; 0 if it trains in its own process."""
        return int(self.gpus_per_trial > 0) if self.workers is None else self.workers

    @property
    def gpus(self) -> float:
        """GPUs that one trial holds."""
        return self.gpus_per_trial * max(self.train_workers, 1)
