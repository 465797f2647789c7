"""Checkpoints in the store: one safetensors object a step, so each is whole or absent.

Crops and their order follow from the seed and the step alone, the learning rate from the step, and
the network has no dropout. So weights, their average, optimiser moments and the step are all there
is (no state of samplers or random generators): a resumed run equals an unbroken one.
"""

import json
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from dtpf.core.storage.store import Store
from dtpf.training.state import TrainState


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

    def save(self, progress: Progress, state: TrainState) -> None:
        """Write one checkpoint, then delete the oldest beyond `keep`."""
        document = {"step": progress.step, "history": list(progress.history)}
        tensors = state.tensors().items()
        data = save_safetensors(
            {name: value.detach().cpu().contiguous() for name, value in tensors},
            metadata={"progress": json.dumps(document)},
        )
        self._store.write_bytes(f"{self._prefix}/step-{progress.step:08d}.safetensors", data)
        for key in self._keys()[: -self._keep]:
            self._store.delete(key)

    def restore(self, state: TrainState, device: torch.device) -> Progress:
        """Load the latest checkpoint into the state; step 0 if there is none."""
        keys = self._keys()
        if not keys:
            return Progress(0)
        tensors, document = _read(self._store.read_bytes(keys[-1]), device)
        state.load(tensors)
        return Progress(document["step"], tuple(document["history"]))

    def _keys(self) -> list[str]:
        return [key for key in self._store.keys(self._prefix) if key.endswith(".safetensors")]


def _read(data: bytes, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        with safe_open(file.name, framework="pt", device=str(device)) as reader:
            tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
            return tensors, json.loads(reader.metadata()["progress"])
