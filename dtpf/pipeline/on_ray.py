"""What Prometheus learns of a pipeline: its driver's progress, as metrics of the Ray cluster.

The engines report to the driver anyway; here a copy of each report becomes a metric. The metrics
port of the driver's node shows them with `ray_` before each name, until the driver ends.
`cluster/monitoring` has the dashboard, the alerts and a table of the names.
"""

import atexit
import logging
import threading
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from ray.util.metrics import Counter, Gauge

from dtpf.core.storage.receipts import Receipt
from dtpf.pipeline.engines import Engines
from dtpf.training.journal import step_rates
from dtpf.training.loop import StepReport
from dtpf.tuning.trials import ENDED, Status, Trial

# Kind, description and labels beside `pipeline`. A counter is shown with `_total` after its name.
METRICS: dict[str, tuple[type[Counter | Gauge], str, tuple[str, ...]]] = {
    "dtpf_stage_running": (Gauge, "1 while a stage runs, 0 afterwards", ("stage",)),
    "dtpf_stage_progress": (Gauge, "Share of a stage's pairs, steps or trials done", ("stage",)),
    "dtpf_stage_seconds": (Gauge, "Wall time of a complete stage", ("stage",)),
    "dtpf_stage_result": (Gauge, "Numbers of a complete stage's receipt", ("stage", "name")),
    "dtpf_caption_pairs": (Counter, "Pairs captioned by this driver, by outcome", ("status",)),
    "dtpf_training_step": (Gauge, "Optimiser steps done", ("stage",)),
    "dtpf_training_loss": (Gauge, "Loss of the latest step, and its terms", ("stage", "term")),
    "dtpf_training_learning_rate": (Gauge, "Learning rate", ("stage",)),
    "dtpf_training_gradient_norm": (Gauge, "Norm of the gradient before clipping", ("stage",)),
    "dtpf_training_step_seconds": (Gauge, "Wall time of the latest step", ("stage",)),
    "dtpf_training_crops_per_second": (Gauge, "Crops of all workers per second", ("stage",)),
    "dtpf_training_data_wait_share": (Gauge, "Share of a step spent waiting for data", ("stage",)),
    "dtpf_training_workers": (Gauge, "Processes that share the batch", ("stage",)),
    "dtpf_trials": (Gauge, "Trials of the search, by status", ("status",)),
    "dtpf_trial_retention": (Gauge, "Share of the teacher's scores that a trial has", ("trial",)),
}

REPEAT_SECONDS = 5.0  # half of the time between two exports

_logger = logging.getLogger(__name__)


def measured(engines: Engines, pipeline: str) -> Engines:
    """Return the same engines; what they report is exported as well.

    Args:
        engines: whose callbacks are called in this process, which has joined a cluster.
        pipeline: label of all metrics, such as the place of the run in the store: pipelines that
            share a cluster are told apart by it.
    """
    watch = _Watch(_Export(pipeline))
    return replace(
        engines,
        caption=lambda task, progress: engines.caption(task, _both(progress, watch.pairs())),
        train=lambda spec, scaling, on_step: engines.train(
            spec, scaling, _both(on_step, watch.steps(spec.train.batch))
        ),
        search=lambda task, on_trials: engines.search(
            task, _both(on_trials, partial(watch.trials, task.config.trials))
        ),
        score=lambda methods, pairs, load, config, progress: engines.score(
            methods, pairs, load, config, _both(progress or (lambda *_: None), watch.progress)
        ),
        write_outputs=lambda spec, scaling, on_count: engines.write_outputs(
            spec, scaling, _both(on_count, watch.progress)
        ),
        on_stage=_both(engines.on_stage, watch.stage),
    )


class _Export:
    """Hands values to Ray, which sends them to the node every ten seconds.

    Ray sends a gauge once for each time it is set. So a thread sets them all again, until they are
    forgotten or the process ends.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._metrics: dict[str, Any] = {}
        self._gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Export, (self._pipeline,)  # Tune pickles its callbacks; the copies stay unused

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge; it keeps its value."""
        with self._lock:
            self._gauges[name, tuple(labels.items())] = float(value)
            self._metric(name).set(float(value), {"pipeline": self._pipeline, **labels})
            if self._thread is None:
                self._thread = threading.Thread(target=self._repeat, name="metrics", daemon=True)
                self._thread.start()
                atexit.register(self._end)  # before Ray, whose own hook is older

    def add(self, name: str, value: float, /, **labels: str) -> None:
        """Raise a counter; Ray takes no zero."""
        if value > 0:
            self._metric(name).inc(float(value), {"pipeline": self._pipeline, **labels})

    def forget(self, prefix: str) -> None:
        """Let the gauges go whose names begin so; after some seconds they are gone everywhere."""
        with self._lock:
            self._gauges = {
                key: value for key, value in self._gauges.items() if not key[0].startswith(prefix)
            }

    def _repeat(self) -> None:
        while not self._ended.wait(REPEAT_SECONDS):
            with self._lock:
                for (name, labels), value in self._gauges.items():
                    self._metric(name).set(value, {"pipeline": self._pipeline, **dict(labels)})

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            kind, what, labels = METRICS[name]
            self._metrics[name] = kind(name, what, ("pipeline", *labels))
        return self._metrics[name]


class _Watch:
    """Callbacks that turn the news of a pipeline into metrics."""

    def __init__(self, export: _Export) -> None:
        self._export = export
        self._stage = ""

    def stage(self, name: str, receipt: Receipt | None) -> None:
        self._stage = name
        self._export.set("dtpf_stage_running", receipt is None, stage=name)
        if receipt is not None:
            self._export.forget("dtpf_training_")
            self._export.set("dtpf_stage_seconds", receipt.seconds, stage=name)
            for metric, value in receipt.metrics.items():
                self._export.set("dtpf_stage_result", value, stage=name, name=metric)

    def progress(self, done: int, total: int) -> None:
        self._export.set("dtpf_stage_progress", done / max(total, 1), stage=self._stage)

    def pairs(self) -> Callable[[int, int, int], None]:
        """Return what counts the pairs between two calls; the first tells what was there before.

        A language model is asked again about some pairs: then the numbers begin anew.
        """
        reached = -1
        counted: dict[str, int] = {}

        def count(finished: int, total: int, failed: int) -> None:
            nonlocal reached
            now = {"done": finished - failed, "failed": failed}
            if reached < 0 or finished < reached:
                counted.update(now)
            reached = finished
            for status, number in now.items():
                self._export.add("dtpf_caption_pairs", number - counted[status], status=status)
                # Failures may be told later than their pairs; what is counted stays counted.
                counted[status] = max(counted[status], number)
            self.progress(finished, total)

        return count

    def steps(self, batch: int) -> Callable[[StepReport], None]:
        """Return what exports the steps of a training; under Ray some of them, twice a second."""

        def step(report: StepReport) -> None:
            rates = step_rates(report, batch)
            rates["step"] = report.step
            for name, value in rates.items():
                if f"dtpf_training_{name}" in METRICS:
                    self._export.set(f"dtpf_training_{name}", value, stage=self._stage)
            for term, value in report.losses.items():
                self._export.set("dtpf_training_loss", value, stage=self._stage, term=term)
            self.progress(report.step, report.steps)

        return step

    def trials(self, total: int, trials: Sequence[Trial]) -> None:
        states = Tally(trial.status for trial in trials)
        for status in get_args(Status):
            self._export.set("dtpf_trials", states[status], status=status)
        for trial in trials:
            if trial.retention is not None:
                name = str(trial.number)
                self._export.set("dtpf_trial_retention", trial.retention, trial=name)
        self.progress(sum(states[status] for status in ENDED), total)


def _both(told: Callable[..., None], watch: Callable[..., None]) -> Callable[..., None]:
    """Return a callback that tells both; what goes wrong in the second is logged once."""
    broken = False

    def tell(*news: Any) -> None:
        nonlocal broken
        told(*news)
        try:
            watch(*news)
        except Exception:
            if not broken:
                _logger.warning("metrics are not exported; the run goes on", exc_info=True)
            broken = True

    return tell
