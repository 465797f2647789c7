"""The training loop: one for every task, in a plain process, under torchrun and under Ray Train."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dtpf.core.errors import UserError
from dtpf.core.models import FusionNet
from dtpf.training.checkpoints import Checkpoints, Progress
from dtpf.training.config import TrainConfig
from dtpf.training.group import Group
from dtpf.training.health import WINDOW, ailment, memory_errors
from dtpf.training.state import TrainState, new_state
from dtpf.training.tasks import Task, TrainBatch

# Batches from a step on, each with the seconds that were waited for it.
Feed = Callable[[int], Iterator[tuple[TrainBatch, float]]]


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did; `losses` are means over the whole batch of all workers.

    `skipped` says what was wrong with a step that left the weights as they were; `workers` is how
    many processes shared the batch.
    """

    step: int
    steps: int
    losses: dict[str, float]
    gradient_norm: float
    learning_rate: float
    seconds: float
    waited: float
    skipped: str | None = None
    workers: int = 1


@dataclass
class Hooks:
    """What a caller wants to happen during training; every process calls every hook.

    `on_step` after each step; `on_validate`, with the network to ship as it stands, after every
    `validate_every` steps and the last.
    """

    on_step: Callable[[StepReport], None] = lambda report: None
    on_validate: Callable[[int, FusionNet], None] = lambda step, network: None


@dataclass(frozen=True)
class FitResult:
    """The loss curve, one row a step (`step`, `loss` and each term), and the network to ship.

    Steps whose update was skipped have no row.
    """

    network: FusionNet
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
        UserError: the loss is not finite or explodes (names the step, the pairs and the last good
            checkpoint), memory runs out, or the batch is too small for its workers and parts.
    """
    _check_shares(config, group)
    task.to(group.device)
    state = new_state(task.trainable, config)
    progress = checkpoints.restore(state, group.device)
    run = _Run(task, config, group, state, group.wrap(task.trainable.train()))
    run.history, run.saved = list(progress.history), progress.step
    batches = feed(progress.step)
    for step in range(progress.step, config.steps):
        report = run.step(step, batches)
        hooks.on_step(report)
        if report.step % config.checkpoint_every == 0 or report.step == config.steps:
            if group.leads:
                checkpoints.save(Progress(report.step, tuple(run.history)), state)
            run.saved = report.step
        if report.step % config.validate_every == 0 or report.step == config.steps:
            hooks.on_validate(report.step, task.network_in(state.best_module))
    return FitResult(task.network_in(state.best_module), tuple(run.history))


def _check_shares(config: TrainConfig, group: Group) -> None:
    parts = group.world * config.accumulate
    if config.batch < parts:
        raise UserError(
            f"train.batch={config.batch} is smaller than the {group.world} workers times "
            f"train.accumulate={config.accumulate}; raise train.batch or lower one of them"
        )


@dataclass
class _Run:
    """One optimiser step after the other."""

    task: Task
    config: TrainConfig
    group: Group
    state: TrainState
    wrapped: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    saved: int = 0
    skipped: int = 0  # in a row

    def step(self, step: int, batches: Iterator[tuple[TrainBatch, float]]) -> StepReport:
        started = time.perf_counter()
        batch, waited = next(batches)
        rate = _set_learning_rate(self.state.optimizer, step, self.config)
        with memory_errors(step, self.config, self.group.device):
            losses, norm = self._gradients(batch)
        before = [row["loss"] for row in self.history[-WINDOW:]]
        wrong = ailment(losses["loss"], norm, before, self.config)
        if wrong is None:
            self.state.optimizer.step()
            self.state.average_in()
            self.history.append({"step": step + 1.0, **losses})
            self.skipped = 0
        else:
            self._skip_or_stop(step, wrong, batch)
        return StepReport(
            step + 1,
            self.config.steps,
            losses,
            norm,
            rate,
            time.perf_counter() - started,
            waited,
            wrong,
            self.group.world,
        )

    def _gradients(self, batch: TrainBatch) -> tuple[dict[str, float], float]:
        """Leave the clipped gradient of the whole batch in the parameters."""
        self.state.optimizer.zero_grad(set_to_none=True)
        found: list[dict[str, Tensor]] = []
        parts = np.array_split(np.arange(len(batch)), self.config.accumulate)
        for number, part in enumerate(parts, start=1):
            micro = batch.part(slice(int(part[0]), int(part[-1]) + 1)).to(self.group.device)
            with _exchange(self.wrapped, last=number == len(parts)):
                found.append(self._backward(micro))
        norm = torch.nn.utils.clip_grad_norm_(
            self.state.module.parameters(), self.config.gradient_clip
        )
        values = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        return _means(values, self.config.batch, self.group), float(norm)

    def _backward(self, batch: TrainBatch) -> dict[str, Tensor]:
        mixed = self.config.precision == "bfloat16"
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=mixed):
            samples, terms = self.task(batch, self.wrapped)
        # Data-parallel training averages gradients over workers, whose shares may differ by one
        # sample; this scale makes the average that of the whole batch.
        share = self.group.world / self.config.batch
        (samples.sum() * share).backward()
        return {name: value.detach() for name, value in {"loss": samples, **terms}.items()}

    def _skip_or_stop(self, step: int, wrong: str, batch: TrainBatch) -> None:
        self.skipped += 1
        pairs = ", ".join(self.group.gather(batch.pair_ids))
        line = f"{wrong} at step {step}, pairs {pairs}; last good checkpoint at step {self.saved}"
        if self.config.on_bad_loss == "stop":
            raise UserError(
                f"{line}: lower train.learning_rate, look at these pairs, or set "
                "train.on_bad_loss=skip"
            )
        if self.skipped > self.config.max_skipped:
            raise UserError(
                f"{line}: {self.skipped} steps in a row were skipped (train.max_skipped="
                f"{self.config.max_skipped}); lower train.learning_rate"
            )


def _exchange(wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Let workers exchange gradients once a step, with its last part."""
    if last or not isinstance(wrapped, DistributedDataParallel):
        return nullcontext()
    return wrapped.no_sync()


def _means(values: dict[str, Tensor], batch: int, group: Group) -> dict[str, float]:
    sums = torch.stack([value.sum().double() for value in values.values()])
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
