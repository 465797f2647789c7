"""What a run writes down while it goes: TensorBoard, the best network so far, its receipt."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from dtpf.core.bundle import CONFIG, load_bundle, save_bundle
from dtpf.core.config import fingerprint
from dtpf.core.models import FusionNet
from dtpf.core.records import Pair
from dtpf.core.storage.receipts import environment, utc_now
from dtpf.core.storage.store import Store
from dtpf.training.config import TrainSpec
from dtpf.training.group import Group
from dtpf.training.logbook import Logbook
from dtpf.training.loop import StepReport
from dtpf.training.validation import Validator

StepHook = Callable[[StepReport], None]
ValidationHook = Callable[[int, dict[str, float]], None]

RUN_RECEIPT = "run.json"
_WARM = 3  # first steps of a process, which allocate and compile: left out of its medians


class Journal:
    """Hooks of the loop: the leader writes to the store, every process calls the caller's hooks."""

    def __init__(
        self,
        store: Store,
        spec: TrainSpec,
        validator: Validator,
        group: Group,
        on_step: StepHook,
        on_validation: ValidationHook,
    ) -> None:
        self._store, self._spec, self._validator, self._group = store, spec, validator, group
        self._on_step, self._on_validation = on_step, on_validation
        self._best = BestNetwork(store, f"{spec.root}/best", spec.provenance)
        self._book: Logbook | None = None
        self._scores: dict[str, float] = {}
        self._reports: list[StepReport] = []
        self._started, self._began = utc_now(), time.monotonic()

    def step(self, report: StepReport) -> None:
        """Log one step."""
        self._reports.append(report)
        if self._group.leads:
            if self._book is None:
                prefix = f"{self._spec.root}/tensorboard"
                self._book = Logbook(self._store, prefix, report.step)
            self._book.scalars("loss", report.losses, report.step)
            self._book.scalars("train", step_rates(report, self._spec.train.batch), report.step)
        self._on_step(report)

    def validate(self, step: int, network: FusionNet) -> None:
        """Score the network as it stands; keep it if it is the best so far."""
        if not len(self._validator):
            return
        self._scores = self._validator.scores(network, self._group)
        if self._group.leads:
            self._best.offer(step, network, self._scores)
        if self._book is not None:
            self._book.scalars("validation", self._scores, step)
            for pair_id, picture in self._validator.pictures(network, self._group).items():
                self._book.picture(f"visible_infrared_fused/{pair_id}", picture, step)
            self._book.publish()
        self._on_validation(step, self._scores)

    def finish(self, network: FusionNet) -> tuple[FusionNet, dict[str, float]]:
        """Return the network to ship and its scores.

        A run resumed after its last step validates again.
        """
        if not self._scores and len(self._validator):
            self._scores = self._validator.scores(network, self._group)
        if self._book is not None:
            self._book.close()
        found = self._best.load() if self._spec.train.ship == "best" else None
        if found is not None:
            network, self._scores = found
        return network, self._scores

    def write_receipt(self, pairs: list[Pair], digest: str) -> None:
        """Write what a person needs to repeat or to judge the run."""
        self._store.write_json(
            f"{self._spec.root}/{RUN_RECEIPT}",
            {
                "spec": self._spec.as_dict(),
                "data": data_fingerprint(pairs),
                "environment": environment(),
                "hardware": hardware(self._group),
                "started": self._started,
                "finished": utc_now(),
                "seconds": round(time.monotonic() - self._began, 1),
                "sha256": digest,
                "validation": self._scores,
                **self._summary(),
            },
        )

    def _summary(self) -> dict[str, Any]:
        """Return how this process fared; a resumed run tells of its own steps alone."""
        steps = self._reports[_WARM:] or self._reports
        if not steps:
            return {"steps_here": 0}
        seconds = statistics.median(report.seconds for report in steps)
        waited = sum(report.waited for report in steps) / sum(report.seconds for report in steps)
        return {
            "steps_here": len(self._reports),
            "step_seconds": round(seconds, 4),
            "crops_per_second": round(self._spec.train.batch / seconds, 3),
            "data_wait_share": round(waited, 4),
            "skipped": [report.step for report in self._reports if report.skipped is not None],
        }


def step_rates(report: StepReport, batch: int) -> dict[str, float]:
    """Return what is shown of a step beside its losses; `batch` is the crops of all workers."""
    seconds = max(report.seconds, 1e-9)
    return {
        "learning_rate": report.learning_rate,
        "gradient_norm": report.gradient_norm,
        "step_seconds": report.seconds,
        "crops_per_second": batch / seconds,
        "data_wait_share": report.waited / seconds,
        "skipped": float(report.skipped is not None),
        "workers": float(report.workers),
    }


class BestNetwork:
    """The network with the highest mean of the validation scores, as a bundle of its own."""

    def __init__(self, store: Store, prefix: str, provenance: dict[str, str]) -> None:
        self._store, self._prefix, self._provenance = store, prefix, provenance

    def offer(self, step: int, network: FusionNet, scores: dict[str, float]) -> None:
        """Keep the network in place of the one before if it is better."""
        before = self._steps()
        if before and self._mean(before[-1]) >= statistics.fmean(scores.values()):
            return
        notes = self._provenance | {"steps": str(step)}
        save_bundle(self._store, self._key(step), network, provenance=notes, metrics=scores)
        for old in before:
            if old != step:
                self._store.delete(self._key(old))

    def load(self) -> tuple[FusionNet, dict[str, float]] | None:
        """Return the best network and its scores, None before the first validation."""
        steps = self._steps()
        if not steps:
            return None
        bundle = load_bundle(self._store.uri_of(self._key(steps[-1])))
        return bundle.model, dict(bundle.metrics)

    def _key(self, step: int) -> str:
        return f"{self._prefix}/step-{step:08d}"

    def _steps(self) -> list[int]:
        """Steps of complete bundles, the best last: a newer one was better than those before."""
        keys = [key for key in self._store.keys(self._prefix) if key.endswith(f"/{CONFIG}")]
        return sorted(int(key.split("/")[-2].removeprefix("step-")) for key in keys)

    def _mean(self, step: int) -> float:
        scores = self._store.read_json(f"{self._key(step)}/metrics.json")
        return statistics.fmean(scores.values())


def data_fingerprint(pairs: list[Pair]) -> str:
    """Identify the training data by name, split and contents, wherever the files lie."""
    return fingerprint(
        sorted([p.pair_id, p.split, p.visible_sha256, p.infrared_sha256] for p in pairs)
    )


def hardware(group: Group) -> dict[str, Any]:
    """Return what a run went on; the processor stands in `environment`."""
    cuda = group.device.type == "cuda"
    return {
        "workers": group.world,
        "device": torch.cuda.get_device_name(group.device) if cuda else "cpu",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gradients": group.gradients,
    }
