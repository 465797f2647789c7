"""The search under Ray Tune: trials side by side, the weak ones stopped early by ASHA.

A trial is a driver function that starts a Ray Train run. What trials report is recorded in the
store by the driver of the search (`ledger.py`); a search that was killed goes on from there, not
from Tune's own state, which is pickled and lies beside it unused.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ray
import ray.train
import torch
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dtpf.core.errors import UserError
from dtpf.on_ray import outcome_of, quota
from dtpf.training.group import current_group
from dtpf.tuning.ledger import Ledger, Meter, OnTrials
from dtpf.tuning.placement import DRIVER_CPUS, concurrency
from dtpf.tuning.search import OnRound, run_trial
from dtpf.tuning.suggest import Suggestions
from dtpf.tuning.trials import RoundReport, SearchTask, Trial

RETRIES = 2  # a trial whose processes are lost goes on from its checkpoint
_NAME = "ray"


def search_on_ray(task: SearchTask, on_trials: OnTrials = lambda trials: None) -> list[Trial]:
    """Run the trials of a search on the cluster; see `search_in_process`.

    Trials that ASHA stopped have status `stopped` and the retention of their last round.

    Raises:
        UserError: trials need GPUs or CPUs that the cluster does not have.
    """
    ledger, meter = Ledger(task, on_trials), Meter(task)
    suggestions = Suggestions(task, ledger)
    if suggestions.left and not meter.exhausted:
        concurrent = concurrency(task, ray.cluster_resources())
        tuner = _tuner(task, ledger, meter, suggestions, concurrent)
        with _quiet():
            tuner.fit()
        meter.write()
    return ledger.trials[: task.config.trials]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Tune from printing and logging: the ledger has it all, in TensorBoard's format too."""
    switches = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    before = {name: os.environ.get(name) for name in switches}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(switches)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _tuner(
    task: SearchTask, ledger: Ledger, meter: Meter, suggestions: Suggestions, concurrent: int
) -> tune.Tuner:
    resources = task.resources
    own = {"cpu": DRIVER_CPUS}
    if not resources.train_workers:
        own = {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, task=task), own),
        tune_config=tune.TuneConfig(
            search_alg=_Search(suggestions),
            scheduler=scheduler(task, ledger.trials),
            num_samples=suggestions.left,
            max_concurrent_trials=concurrent,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=_NAME,
            storage_path=f"{task.base.store.removeprefix('file://')}/{task.base.root}",
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_Recorder(ledger, meter)],
            stop=_Budget(meter),
            verbose=0,
        ),
    )


def scheduler(task: SearchTask, known: list[Trial]) -> TrialScheduler:
    """Return ASHA, or a scheduler that stops nothing.

    ASHA is told of the rounds of `known` trials, so that a search that goes on is as strict as
    one that was never interrupted.
    """
    config = task.config
    if config.stopping == "none":
        return FIFOScheduler()
    asha = AsyncHyperBandScheduler(
        time_attr="round",
        metric="retention",
        mode="max",
        # One more than there are rounds: the last report must not be cut.
        max_t=config.rounds + 1,
        grace_period=min(config.grace, config.rounds),
        reduction_factor=config.reduction,
    )
    for trial in known:
        stand_in: Any = SimpleNamespace(trial_id=f"known-{trial.name}")
        asha.on_trial_add(None, stand_in)  # type: ignore[arg-type]
        for number, retention in trial.history:
            result = {"round": number, "retention": retention}
            asha.on_trial_result(None, stand_in, result)  # type: ignore[arg-type]
    return asha


class _Search(Searcher):
    """Hands Tune the trials that `Suggestions` chooses."""

    def __init__(self, suggestions: Suggestions) -> None:
        super().__init__(metric="retention", mode="max")
        self._suggestions = suggestions

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        trial = self._suggestions.next()
        if trial is None:
            return Searcher.FINISHED
        return {"name": trial.name, "trial": trial.as_dict()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to note: proposals follow from the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file: proposals follow from the ledger."""
        with open(checkpoint_path, "wb"):
            pass


class _Recorder(tune.Callback):
    """Writes what trials report into the ledger."""

    def __init__(self, ledger: Ledger, meter: Meter) -> None:
        self._ledger, self._meter = ledger, meter

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._meter.tick(sum(trial.status == TuneTrial.RUNNING for trial in trials))

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ledger.start(trial.config["name"])

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        if not result.get("error"):
            self._ledger.report(trial.config["name"], RoundReport(**result["report"]))

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        name, last = trial.config["name"], trial.last_result
        if last.get("error"):
            self._ledger.end(name, "failed", last["error"])
        elif self._ledger.is_whole(name):
            self._ledger.end(name, "finished")
        elif not self._meter.exhausted:
            self._ledger.end(name, "stopped")

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        error = trial.get_error()
        self._ledger.end(trial.config["name"], "failed", _one_line(error))


class _Budget(tune.Stopper):
    """Ends the search when its time is spent; what trials had reached is in their checkpoints."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._meter.exhausted)


def _trial(config: dict[str, Any], task: SearchTask) -> None:
    """Be the driver of one trial.

    What fails here would fail again: it is reported, not raised, and Tune does not retry it. Tune
    starts a trial again whose process was lost.
    """
    trial = Trial.parse(config["trial"], "trial")
    try:
        if task.resources.train_workers:
            _train(task, trial)
        else:
            torch.set_num_threads(task.resources.cpus_per_trial)
            run_trial(task, trial, current_group(), _sender(tune.report))
    except Exception as error:
        tune.report({"round": 0, "retention": math.nan, "error": _one_line(error)})


def _train(task: SearchTask, trial: Trial) -> None:
    """Run a trial's training under Ray Train.

    Raises:
        UserError: what `run_trial` raised in a worker.
    """
    resources = task.resources
    each = {"CPU": float(resources.cpus_per_trial), "GPU": resources.gpus_per_trial}
    trainer = TorchTrainer(
        _worker,  # type: ignore[arg-type]  # what it returns is in the result
        train_loop_config={"task": task, "trial": trial.as_dict()},
        scaling_config=ScalingConfig(
            num_workers=resources.train_workers,
            use_gpu=resources.gpus_per_trial > 0,
            resources_per_worker={kind: amount for kind, amount in each.items() if amount}
            | quota(),
        ),
        run_config=RunConfig(
            name=f"{_NAME}-train",
            storage_path=f"{task.base.store.removeprefix('file://')}/{task.spec(trial).root}",
            failure_config=FailureConfig(max_failures=RETRIES),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    )
    outcome_of(trainer)


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    group = current_group(torch.device(get_device()))
    trial = Trial.parse(config["trial"], "trial")
    try:
        run_trial(config["task"], trial, group, _sender(ray.train.report))
    except UserError as error:
        if group.world > 1:  # the others wait for this one; Ray ends and restarts them together
            raise
        return {"error": str(error)}  # raising would make Ray try again
    return {}


def _sender(send: Callable[[dict[str, Any]], None]) -> OnRound:
    """Return what reports a round to Tune; ASHA reads `round` and `retention`."""

    def on_round(report: RoundReport) -> None:
        send({"round": report.round, "retention": report.retention, "report": report.as_dict()})

    return on_round


def _one_line(error: BaseException | None) -> str:
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"
