"""What changes in training: the weights, their average, and the optimiser's moments."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from dtpf.training.config import TrainConfig


@dataclass(frozen=True)
class TrainState:
    """The trained module, its optimiser, and the moving average of its weights if there is one."""

    module: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None = None

    @property
    def best_module(self) -> nn.Module:
        """What is validated and shipped: the averaged weights, or else the latest."""
        return self.module if self.average is None else self.average.module

    def average_in(self) -> None:
        """Take the weights of a finished step into the average."""
        if self.average is not None:
            self.average.update_parameters(self.module)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name, in what `load` takes."""
        found = {f"model.{name}": value for name, value in self.module.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        if self.average is not None:
            average = self.average.state_dict()
            found |= {f"average.{name}": value for name, value in average.items()}
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned in another process."""
        self.module.load_state_dict(_below(tensors, "model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, _, field = name.partition(".")
            moments.setdefault(int(index), {})[field] = value
        groups: Any = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.average is not None:
            self.average.load_state_dict(_below(tensors, "average."))


def new_state(module: nn.Module, config: TrainConfig) -> TrainState:
    """Return a module with a fresh AdamW, and an average if the config asks for one."""
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    if config.ema is None:
        return TrainState(module, optimizer)
    return TrainState(module, optimizer, _average(module, config.ema))


def _average(module: nn.Module, decay: float) -> AveragedModel:
    def lerp(average: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        # From the first steps on nothing of the initial weights should stay.
        reached = min(decay, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(average, latest, 1 - reached)

    return AveragedModel(module, avg_fn=lerp).requires_grad_(False)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}
