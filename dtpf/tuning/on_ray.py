"""The search under Ray Tune: trials side by side, the weak ones stopped early by ASHA.

Settings are drawn before the search, and finished trials leave their results in the store; so a
search that was killed is simply run again, without Tune's pickled state.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from dtpf.on_ray import Sender, relay
from dtpf.tuning.search import OnTrials, SearchTask, Trial, run_trial

RETRIES = 2  # a trial whose worker is lost goes on from its checkpoint


def search_on_ray(task: SearchTask, on_trials: OnTrials = lambda trials: None) -> list[Trial]:
    """Run all trials of a search on the cluster; see `search_in_process`.

    Trials that ASHA stopped have status `stopped` and the retention of their last round.
    """
    trials = task.trials()

    def receive(event: dict[str, Any]) -> None:
        index = event.pop("index")
        trials[index] = replace(trials[index], **event)
        on_trials(trials)

    with relay(receive) as send:
        results = _tuner(task, trials, send).fit()
    ended = [results[number] for number in range(len(results))]
    failed = {end.config["index"]: str(end.error) for end in ended if end.error and end.config}
    return [_settled(trial, failed.get(index, "")) for index, trial in enumerate(trials)]


def _tuner(task: SearchTask, trials: Sequence[Trial], send: Sender) -> tune.Tuner:
    resources = {"cpu": task.resources.cpus_per_trial, "gpu": task.resources.gpus_per_trial}
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_run, task=task, trials=trials, send=send), resources
        ),
        param_space={"index": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(
            metric="retention",
            mode="max",
            scheduler=AsyncHyperBandScheduler(
                time_attr="training_iteration",
                # One more than there are rounds: the last report must not end the trial before
                # it has written its result.
                max_t=task.config.rounds + 1,
                grace_period=min(task.config.grace, task.config.rounds),
                reduction_factor=task.config.reduction,
            ),
            max_concurrent_trials=task.resources.concurrent,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=f"{task.base.store.removeprefix('file://')}/{task.base.root}",
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )


def _run(config: dict[str, Any], task: SearchTask, trials: Sequence[Trial], send: Sender) -> None:
    index = config["index"]
    trial = trials[index]
    torch.set_num_threads(task.resources.cpus_per_trial)

    def on_round(step: int, retention: float) -> None:
        send({"index": index, "status": "running", "retention": retention, "steps": step})
        tune.report({"retention": retention, "steps": step})

    try:
        done = run_trial(task, trial, on_round)
    except Exception as error:
        send({"index": index, "status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    news = {"status": done.status, "retention": done.retention, "steps": done.steps}
    send({"index": index, **news})


def _settled(trial: Trial, error: str) -> Trial:
    if error and trial.status != "finished":
        return replace(trial, status="failed", error=trial.error or error.splitlines()[-1])
    return replace(trial, status="stopped") if trial.status == "running" else trial
