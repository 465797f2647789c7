"""What can be evaluated: trivial baselines, and networks; folders and limits have own modules.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dtpf.core.errors import UserError
from dtpf.evaluation.baselines import ALIASES, BASELINES, Baseline
from dtpf.evaluation.batches import Batch


class Method(Protocol):
    """Anything that turns pairs into fused images. Pickles, so that it travels to workers."""

    @property
    def name(self) -> str:
        """How tables call the method; unique within an evaluation."""

    def fuse(self, batch: Batch) -> Tensor:
        """Return the fused images (B, 3, H, W) in [0, 1], on the device of the batch."""


@dataclass(frozen=True)
class BaselineMethod:
    """One of BASELINES, by its name there or a short one of ALIASES."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in {*BASELINES, *ALIASES}:
            known = ", ".join([*BASELINES, *ALIASES])
            raise UserError(f"unknown baseline {self.name!r}; known: {known}")

    def fuse(self, batch: Batch) -> Tensor:
        """Return the fused images (B, 3, H, W)."""
        baseline: Baseline = BASELINES[ALIASES.get(self.name, self.name)]
        return baseline(batch.visible, batch.infrared)


@dataclass(frozen=True)
class NetworkMethod:
    """A fusion network: `network(visible, infrared, text)`; `uses_text` false gives it None."""

    name: str
    network: nn.Module
    uses_text: bool = False

    @torch.inference_mode()
    def fuse(self, batch: Batch) -> Tensor:
        """Return the clamped output (B, 3, H, W).

        Raises:
            UserError: the network reads text and the pairs have no embeddings.
        """
        if self.uses_text and batch.text is None:
            first = batch.pairs[0].pair_id
            raise UserError(f"{self.name}: no text for {first}; caption the data first")
        network = self.network.to(batch.visible.device).eval()
        # A batch is faster on a GPU alone; on a CPU it would only need more memory.
        size = 1 if batch.visible.device.type == "cpu" else len(batch.pairs)
        images = zip(batch.visible.split(size), batch.infrared.split(size), strict=True)
        texts = batch.text.split(size) if self.uses_text and batch.text is not None else None
        fused = [
            network(visible, infrared, texts[index] if texts else None)
            for index, (visible, infrared) in enumerate(images)
        ]
        return torch.cat(fused).clamp(0.0, 1.0)
