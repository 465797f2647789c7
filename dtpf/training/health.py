"""When a step must not count: losses that are not finite or explode, and memory that runs out."""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from dtpf.core.errors import UserError
from dtpf.training.config import TrainConfig

WINDOW = 100  # losses that an explosion is measured against
_ENOUGH = 20  # how many of them there must be

# What the CPU allocator says; it has no exception of its own.
_CPU_SHORTAGE = ("can't allocate memory", "not enough memory")


def ailment(loss: float, norm: float, before: Sequence[float], config: TrainConfig) -> str | None:
    """Say what is wrong with a step, None if nothing.

    Args:
        loss: mean over the whole batch.
        norm: of the gradient.
        before: losses of the steps before, the last `WINDOW` at most.
        config: how much is an explosion.
    """
    if not math.isfinite(loss):
        return f"loss is {loss}"
    if not math.isfinite(norm):
        return f"norm of the gradient is {norm}"
    if len(before) < _ENOUGH:
        return None
    usual = statistics.median(before)
    if abs(loss) > config.explosion * abs(usual):
        return f"loss is {loss:.4g}, more than {config.explosion:g} times the usual {usual:.4g}"
    return None


@contextmanager
def memory_errors(step: int, config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Turn a lack of memory into a UserError that names the settings to change."""
    try:
        yield
    except RuntimeError as error:
        short = isinstance(error, torch.OutOfMemoryError)
        if not short and not any(mark in str(error) for mark in _CPU_SHORTAGE):
            raise
        raise UserError(
            f"out of memory on {device} at step {step} with train.batch={config.batch}, "
            f"train.crop={config.crop}, train.accumulate={config.accumulate}: raise "
            "train.accumulate (same result), or lower train.batch or train.crop"
        ) from None
