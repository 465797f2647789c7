"""The training loop: one for every task, in a plain process, under torchrun and under Ray Train."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dtpf.core.errors import UserError
from dtpf.training.checkpoints import Checkpoints, Progress
from dtpf.training.config import TrainConfig
from dtpf.training.group import Group
from dtpf.training.tasks import Task, TrainBatch

# Batches from a step on, each with the seconds that were waited for it.
Feed = Callable[[int], Iterator[tuple[TrainBatch, float]]]


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did; `losses` are means over the whole batch of all workers."""

    step: int
    steps: int
    losses: dict[str, float]
    gradient_norm: float
    learning_rate: float
    seconds: float
    waited: float


@dataclass
class Hooks:
    """What a caller wants to happen during training; every process calls every hook.

    `on_step` after each step, `on_validate` after every `validate_every` steps and the last.
    """

    on_step: Callable[[StepReport], None] = lambda report: None
    on_validate: Callable[[int], None] = lambda step: None


@dataclass(frozen=True)
class FitResult:
    """The loss curve, one row a step: `step`, `loss` and each term."""

    history: tuple[dict[str, float], ...] = field(default=())


def fit(
    task: Task,
    feed: Feed,
    config: TrainConfig,
    group: Group,
    checkpoints: Checkpoints,
    hooks: Hooks,
) -> FitResult:
    """Train `task.trainable` up to `config.steps`, from the latest checkpoint if there is one.

    Raises:
        UserError: the loss is not finite; names the step, the pairs and the last checkpoint.
    """
    if config.batch < group.world:
        raise UserError(
            f"train.batch={config.batch} is smaller than the {group.world} workers; "
            "raise train.batch or lower the number of workers"
        )
    task.to(group.device)
    optimizer = torch.optim.AdamW(
        task.trainable.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    progress = checkpoints.restore(task.trainable, optimizer, group.device)
    trainable = group.wrap(task.trainable.train())
    history = list(progress.history)
    saved = progress.step
    batches = feed(progress.step)
    for step in range(progress.step, config.steps):
        started = time.perf_counter()
        batch, waited = next(batches)
        rate = _set_learning_rate(optimizer, step, config)
        losses, norm = _train_step(
            task, trainable, batch.to(group.device), optimizer, config, group
        )
        if not math.isfinite(losses["loss"]):
            raise UserError(
                f"loss is {losses['loss']} at step {step}, pairs {', '.join(batch.pair_ids)}; last "
                f"checkpoint at step {saved}: lower train.learning_rate or look at these pairs"
            )
        done = step + 1
        history.append({"step": float(done), **losses})
        seconds = time.perf_counter() - started
        hooks.on_step(StepReport(done, config.steps, losses, norm, rate, seconds, waited))
        if done % config.checkpoint_every == 0 or done == config.steps:
            if group.leads:
                checkpoints.save(Progress(done, tuple(history)), task.trainable, optimizer)
            saved = done
        if done % config.validate_every == 0 or done == config.steps:
            hooks.on_validate(done)
    return FitResult(tuple(history))


def _train_step(
    task: Task,
    trainable: nn.Module,
    batch: TrainBatch,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    group: Group,
) -> tuple[dict[str, float], float]:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(group.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        samples, terms = task(batch, trainable)
    # Data-parallel training averages gradients over workers, whose shares may differ by one
    # sample; this scale makes the average that of the whole batch.
    share = group.world / config.batch
    (samples.sum() * share).backward()
    norm = torch.nn.utils.clip_grad_norm_(task.trainable.parameters(), config.gradient_clip)
    if not torch.isfinite(norm):
        norm = torch.full_like(norm, math.nan)
    else:
        optimizer.step()
    return _means({"loss": samples, **terms}, config.batch, group), float(norm)


def _means(values: dict[str, Tensor], batch: int, group: Group) -> dict[str, float]:
    sums = torch.stack([value.detach().sum().double() for value in values.values()])
    means = (group.sum(sums) / batch).tolist()
    return dict(zip(values, means, strict=True))


def _set_learning_rate(optimizer: torch.optim.Optimizer, step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to zero; a function of the step, so resuming needs no state."""
    if step < config.warmup:
        factor = (step + 1) / config.warmup
    else:
        done = (step - config.warmup) / max(config.steps - config.warmup, 1)
        factor = 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor
    return config.learning_rate * factor
