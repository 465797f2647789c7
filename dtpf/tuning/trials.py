"""Trials: one setting each, what came of it, and the search they belong to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import Field

from dtpf.core.config import Config, fingerprint
from dtpf.core.metrics import retention
from dtpf.core.models import FusionNet, ModelConfig, count_parameters
from dtpf.training.config import TrainSpec
from dtpf.tuning.config import TuneConfig, TuneResources
from dtpf.tuning.space import Setting, Space, override

Status = Literal["pending", "running", "finished", "stopped", "failed"]
ENDED: tuple[Status, ...] = ("finished", "stopped", "failed")
FINALS = "finals"
SETTLED = ("finished", "stopped")  # nothing is left to do; others go on in the next run


class Trial(Config):
    """One setting and what came of it.

    Attributes:
        number: order in which settings were chosen, from 1.
        name: fingerprint of the setting; names the trial's folder.
        setting: parameter names and values.
        status: `stopped` is by early stopping, `running` also a trial whose search was killed.
        retention: of the last validation, None before the first.
        history: (round, retention) of each validation.
        scores: validation scores of the last one.
        parameters: of the student.
        latency_ms: median time of fusing one pair, if it was measured.
        steps: optimiser steps done.
        seconds: wall time of the trial, all its runs together.
        error: why it failed.
    """

    number: int
    name: str
    setting: dict[str, Any]
    status: Status = "pending"
    retention: float | None = None
    history: tuple[tuple[int, float], ...] = ()
    scores: dict[str, float] = Field(default_factory=dict)
    parameters: int = 0
    latency_ms: float | None = None
    steps: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def shown(self) -> str:
        """The setting for people."""
        return ", ".join(f"{name} {_short(value)}" for name, value in self.setting.items())

    def row(self) -> dict[str, Any]:
        """Return plain types for tables and receipts."""
        left_out = ("number", "name", "history", "scores")
        shown = {key: value for key, value in self.as_dict().items() if key not in left_out}
        return {"trial": self.number, **shown}


@dataclass(frozen=True)
class RoundReport:
    """What one validation of a trial says; JSON types, so it travels from workers."""

    round: int
    step: int
    retention: float
    scores: dict[str, float]
    latency_ms: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


@dataclass(frozen=True)
class SearchTask:
    """A search: the base run, what varies, and what it is measured against.

    Attributes:
        base: the untuned student's run; `root` is the folder of the search.
        space: what varies.
        config: how the search runs.
        resources: where.
        teacher_scores: validation scores of the teacher, each positive.
        teacher_parameters: of the teacher.
    """

    base: TrainSpec
    space: Space
    config: TuneConfig
    resources: TuneResources
    teacher_scores: Mapping[str, float]
    teacher_parameters: int

    @property
    def parameter_limit(self) -> float:
        """Largest student that may win."""
        return self.config.max_parameter_share * self.teacher_parameters

    @property
    def steps_per_round(self) -> int:
        """Optimiser steps between two validations of a trial."""
        return max((self.config.steps or self.base.train.steps) // self.config.rounds, 1)

    def trial(self, number: int, setting: Setting) -> Trial:
        """Return a trial that has not begun."""
        parameters = _parameters(override(self.base, setting).model)
        name = trial_name(setting)
        return Trial(number=number, name=name, setting=dict(setting), parameters=parameters)

    def spec(self, trial: Trial) -> TrainSpec:
        """Return the training run that a trial stands for."""
        spec: TrainSpec = override(self.base, trial.setting)
        every = self.steps_per_round
        train = spec.train.model_copy(
            update={
                "steps": every * self.config.rounds,
                "validate_every": every,
                "checkpoint_every": every,
                "warmup": min(spec.train.warmup, every),
            }
        )
        root = f"{self.base.root}/{trial_prefix(trial.name)}"
        return spec.model_copy(update={"train": train, "root": root})

    def full_spec(self, trial: Trial) -> TrainSpec:
        """Return the run of a trial's setting as long as the untuned student is trained.

        A trial that is as long already is its own: it is complete.
        """
        spec = self.spec(trial)
        if spec.train.steps == self.base.train.steps:
            return spec
        lengths = ("steps", "validate_every", "checkpoint_every", "warmup")
        train = spec.train.model_copy(
            update={name: getattr(self.base.train, name) for name in lengths}
        )
        return spec.model_copy(
            update={
                "train": train,
                "root": f"{self.base.root}/{FINALS}/{trial.name}",
                "provenance": {**spec.provenance, "tuned": json.dumps(trial.setting)},
            }
        )

    def is_untuned(self, trial: Trial) -> bool:
        """Say whether a trial's setting is the untuned student's own."""
        return bool(override(self.base, trial.setting) == self.base)

    def cost(self, trial: Trial) -> float:
        """Return the second objective, to be small."""
        measured = trial.latency_ms if self.config.cost == "latency" else trial.parameters
        return float(measured or 0.0)

    def objective(self, scores: Mapping[str, float]) -> float:
        """Return the retention of a student with these validation scores."""
        return retention(dict(scores), dict(self.teacher_scores), list(self.teacher_scores))


def trial_name(setting: Setting) -> str:
    """Return what names a setting's trial, the same in every search."""
    return fingerprint(dict(setting))


def trial_prefix(name: str) -> str:
    """Return a trial's folder below that of its search."""
    return f"trials/{name}"


@lru_cache(maxsize=256)
def _parameters(model: ModelConfig) -> int:
    with torch.device("meta"):  # shapes alone
        return count_parameters(FusionNet(model))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
