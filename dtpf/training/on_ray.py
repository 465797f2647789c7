"""Training under Ray Train: data-parallel workers that run `run_training`.

Checkpoints are the loop's own, in the store: when workers are lost, Ray starts the group again and
each worker goes on from the latest one. The same holds when the driver is gone and the same job
is submitted again.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig
from ray.train import ScalingConfig as RayScalingConfig
from ray.train.torch import TorchTrainer, get_device

from dtpf.core.errors import UserError
from dtpf.on_ray import Sender, outcome_of, quota, relay
from dtpf.training.config import ScalingConfig, TrainSpec
from dtpf.training.group import current_group
from dtpf.training.journal import StepHook
from dtpf.training.loop import StepReport
from dtpf.training.run import TrainResult, run_training

NEWS_SECONDS = 0.5  # how often the leader tells the driver where it stands


def train_on_ray(
    spec: TrainSpec, scaling: ScalingConfig, on_step: StepHook = lambda report: None
) -> TrainResult:
    """Train on the cluster and return what the leader returned.

    Args:
        spec: what to train.
        scaling: workers and their resources.
        on_step: called in the driver, at most twice a second.

    Raises:
        UserError: what `run_training` raised in a worker.
    """
    with relay(lambda event: on_step(StepReport(**event))) as send:
        trainer = TorchTrainer(
            _worker,  # type: ignore[arg-type]  # what it returns is in the result
            train_loop_config={
                "spec": spec.as_dict(),
                "send": send,
                "gradients": scaling.gradients,
            },
            scaling_config=_ray_scaling(scaling),
            run_config=RunConfig(  # type: ignore[call-arg]  # mypy sees the class of Ray Train v1
                name="ray",
                storage_path=f"{spec.store.removeprefix('file://')}/{spec.root}",
                failure_config=FailureConfig(max_failures=scaling.max_failures),
                # In place before the workers meet: NCCL reads its variables once.
                worker_runtime_env=_environment(scaling),
            ),
        )
        outcome = outcome_of(trainer)
    return TrainResult(**outcome["result"])


def _environment(scaling: ScalingConfig) -> dict[str, Any] | None:
    return {"env_vars": scaling.environment} if scaling.environment else None


def _ray_scaling(scaling: ScalingConfig) -> RayScalingConfig:
    """Return Ray's settings; with a range of workers it starts with those there is room for.

    A run that shrinks or grows starts again from its latest checkpoint. Crops follow from the step
    alone and the batch is the same for every number of workers, so its result stays what it was.
    """
    elastic = scaling.min_workers is not None and scaling.min_workers < scaling.workers
    return RayScalingConfig(  # type: ignore[call-arg]  # as above
        num_workers=(scaling.min_workers, scaling.workers) if elastic else scaling.workers,  # type: ignore[arg-type]
        use_gpu=scaling.gpu,
        resources_per_worker={"CPU": scaling.cpus_per_worker, "GPU": int(scaling.gpu), **quota()},
        elastic_resize_monitor_interval_s=scaling.resize_seconds,
    )


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    spec = TrainSpec.parse(config["spec"], "training spec")
    group = current_group(torch.device(get_device()), config["gradients"])
    on_step = _leader_news(config["send"]) if group.leads else lambda report: None
    try:
        result = run_training(spec, group, on_step, _report)
    except UserError as error:
        if group.world > 1:  # the others wait for this one; Ray ends and restarts them together
            raise
        return {"error": str(error)}  # raising would make Ray try again
    return {"result": asdict(result)}


def _leader_news(send: Sender) -> Callable[[StepReport], None]:
    last = 0.0

    def on_step(report: StepReport) -> None:
        nonlocal last
        if report.step == report.steps or time.monotonic() - last > NEWS_SECONDS:
            last = time.monotonic()
            send(asdict(report))

    return on_step


def _report(step: int, scores: dict[str, float]) -> None:
    ray.train.report({"step": step, **scores})
