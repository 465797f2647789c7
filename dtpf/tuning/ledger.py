"""What is known of a search, in the store: written as it happens, read again when it goes on.

Only the process that drives the search writes here, one small JSON object a trial. So a search
that is killed at any time goes on from what was written last.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from dtpf.core.storage.receipts import utc_now
from dtpf.core.storage.store import Store
from dtpf.tuning.hparams import write_hparams
from dtpf.tuning.space import Setting
from dtpf.tuning.trials import (
    SETTLED,
    RoundReport,
    SearchTask,
    Status,
    Trial,
    trial_name,
    trial_prefix,
)

SEARCH, SPENT, RECORD = "search.json", "spent.json", "trial.json"
_WRITE_SECONDS = 5.0  # between two writes of what was spent

OnTrials = Callable[[Sequence[Trial]], None]


class Ledger:
    """The trials of one search and what they have spent.

    `on_trials` is called with all trials after each change.
    """

    def __init__(self, task: SearchTask, on_trials: OnTrials = lambda trials: None) -> None:
        self._task, self._on_trials = task, on_trials
        self._store, self._root = Store(task.base.store), task.base.root
        self._trials = {trial.name: trial for trial in read_trials(self._store, self._root)}
        self._since: dict[str, float] = {}
        self._store.write_json(f"{self._root}/{SEARCH}", {**describe(task), "begun": utc_now()})

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were chosen."""
        return sorted(self._trials.values(), key=lambda trial: trial.number)

    def knows(self, setting: Setting) -> bool:
        """Say whether there is a trial of this setting."""
        return trial_name(setting) in self._trials

    def add(self, setting: Setting) -> Trial:
        """Record that a setting will be tried."""
        trial = self._task.trial(len(self._trials) + 1, setting)
        return self._keep(trial)

    def is_whole(self, name: str) -> bool:
        """Say whether a trial has reported its last round."""
        history = self._trials[name].history
        return bool(history) and history[-1][0] == self._task.config.rounds

    def start(self, name: str) -> None:
        """Record that a trial runs."""
        self._since[name] = time.monotonic()
        self._update(name, status="running", error="")

    def report(self, name: str, report: RoundReport) -> None:
        """Record one validation of a trial."""
        trial = self._trials[name]
        history = {**dict(trial.history), report.round: report.retention}
        self._update(
            name,
            retention=report.retention,
            history=tuple(sorted(history.items())),
            scores=report.scores,
            steps=report.step,
            latency_ms=report.latency_ms if report.latency_ms is not None else trial.latency_ms,
        )

    def end(self, name: str, status: Status, error: str = "") -> None:
        """Record how a trial ended."""
        self._update(name, status=status, error=error)
        self._since.pop(name, None)
        write_hparams(self._store, self._root, self._trials[name])

    def _update(self, name: str, **changes: Any) -> None:
        now = time.monotonic()
        since = self._since.get(name, now)
        if name in self._since:
            self._since[name] = now
        trial = self._trials[name]
        self._keep(trial.model_copy(update={"seconds": trial.seconds + now - since, **changes}))

    def _keep(self, trial: Trial) -> Trial:
        self._trials[trial.name] = trial
        key = f"{self._root}/{trial_prefix(trial.name)}/{RECORD}"
        self._store.write_json(key, trial.as_dict())
        self._on_trials(self.trials)
        return trial


class Meter:
    """What a search has spent, all its runs together, held against its budget in time."""

    def __init__(self, task: SearchTask) -> None:
        self._store, self._key = Store(task.base.store), f"{task.base.root}/{SPENT}"
        self._config, self._gpus = task.config, task.resources.gpus
        known = self._store.read_json(self._key) if self._store.exists(self._key) else {}
        self.seconds: float = known.get("seconds", 0.0)
        self.gpu_seconds: float = known.get("gpu_seconds", 0.0)
        self._last = self._written = time.monotonic()

    def tick(self, running: int) -> None:
        """Add the time since the last tick, in which `running` trials held their GPUs."""
        now = time.monotonic()
        self.seconds += now - self._last
        self.gpu_seconds += (now - self._last) * running * self._gpus
        self._last = now
        if now - self._written >= _WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write down what was spent."""
        self._written = time.monotonic()
        spent = {"seconds": self.seconds, "gpu_seconds": self.gpu_seconds}
        self._store.write_json(self._key, spent)

    @property
    def exhausted(self) -> str:
        """Which budget is spent, for people; empty while there is some left."""
        limits = {"hours": self.seconds, "gpu_hours": self.gpu_seconds}
        for name, seconds in limits.items():
            limit = getattr(self._config, name)
            if limit is not None and seconds >= limit * 3600:
                return f"tune.{name}={limit:g}"
        return ""


def read_trials(store: Store, root: str) -> list[Trial]:
    """Return the recorded trials of the search below `root`, in their order."""
    keys = [key for key in store.keys(f"{root}/{trial_prefix('')}") if key.endswith(f"/{RECORD}")]
    found = [Trial.parse(store.read_bytes(key), store.uri_of(key)) for key in keys]
    return sorted(found, key=lambda trial: trial.number)


def unfinished(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that a search which goes on has to run (again)."""
    return [trial for trial in trials if trial.status not in SETTLED]


def describe(task: SearchTask) -> dict[str, Any]:
    """Return what a person wants to know of a search, as JSON types."""
    return {
        "space": task.space.name,
        "names": task.space.names,
        "config": task.config.as_dict(),
        "resources": task.resources.as_dict(),
        "teacher_scores": dict(task.teacher_scores),
        "teacher_parameters": task.teacher_parameters,
        "parameter_limit": task.parameter_limit,
    }
