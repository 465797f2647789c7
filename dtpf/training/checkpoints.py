"""Checkpoints in the store: one safetensors object a step, so each is whole or absent.

Crops and their order follow from the seed and the step alone and the network has no dropout, so
weights, optimiser moments and the step are all there is: a resumed run equals an unbroken one.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from dtpf.core.storage.store import Store


@dataclass(frozen=True)
class Progress:
    """Where a run stands: finished steps, and the rows of its loss curve so far."""

    step: int
    history: tuple[dict[str, float], ...] = ()


class Checkpoints:
    """Saves and restores training state below one prefix of a store."""

    def __init__(self, store: Store, prefix: str, keep: int) -> None:
        self._store = store
        self._prefix = prefix
        self._keep = keep

    def save(self, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write one checkpoint, then delete the oldest beyond `keep`."""
        tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        document = {"step": progress.step, "history": list(progress.history)}
        data = save_safetensors(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            metadata={"progress": json.dumps(document)},
        )
        self._store.write_bytes(f"{self._prefix}/step-{progress.step:08d}.safetensors", data)
        for key in self._keys()[: -self._keep]:
            self._store.delete(key)

    def restore(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> Progress:
        """Load the latest checkpoint into module and optimiser; step 0 if there is none."""
        keys = self._keys()
        if not keys:
            return Progress(0)
        tensors, document = _read(self._store.read_bytes(keys[-1]), device)
        module.load_state_dict(_below(tensors, "model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, _, field = name.partition(".")
            moments.setdefault(int(index), {})[field] = value
        groups: Sequence[Any] = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return Progress(document["step"], tuple(document["history"]))

    def _keys(self) -> list[str]:
        return [key for key in self._store.keys(self._prefix) if key.endswith(".safetensors")]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _read(data: bytes, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        with safe_open(file.name, framework="pt", device=str(device)) as reader:
            tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
            return tensors, json.loads(reader.metadata()["progress"])
