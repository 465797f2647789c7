"""Pairs in memory: batches of one size, as methods and metrics take them.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from dtpf.core.records import Pair


@dataclass(frozen=True)
class Batch:
    """Pairs of one size in memory.

    Attributes:
        pairs: B rows of the index.
        visible: (B, 3, H, W) in [0, 1].
        infrared: (B, 1, H, W) in [0, 1].
        guides: clean visible and infrared of the same shapes, where they are known.
        text: text embeddings (B, 512), where the pairs have them.
    """

    pairs: tuple[Pair, ...]
    visible: Tensor
    infrared: Tensor
    guides: tuple[Tensor, Tensor] | None = None
    text: Tensor | None = None

    @classmethod
    def join(cls, parts: Sequence["Batch"]) -> "Batch":
        """Return one batch of parts that agree in size and in what they hold."""
        if len(parts) == 1:
            return parts[0]
        guides = [part.guides for part in parts if part.guides is not None]
        texts = [part.text for part in parts if part.text is not None]
        assert len(guides) in (0, len(parts)), "parts with and without guides"
        assert len(texts) in (0, len(parts)), "parts with and without texts"
        return cls(
            pairs=tuple(pair for part in parts for pair in part.pairs),
            visible=torch.cat([part.visible for part in parts]),
            infrared=torch.cat([part.infrared for part in parts]),
            guides=(torch.cat([g[0] for g in guides]), torch.cat([g[1] for g in guides]))
            if guides
            else None,
            text=torch.cat(texts) if texts else None,
        )

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            visible=self.visible.to(device),
            infrared=self.infrared.to(device),
            guides=self.guides and (self.guides[0].to(device), self.guides[1].to(device)),
            text=None if self.text is None else self.text.to(device),
        )

    def references(self, which: Literal["guide", "input"]) -> tuple[Tensor, Tensor]:
        """Return the images that scores look at: clean ones if wanted and known."""
        if which == "guide" and self.guides is not None:
            return self.guides
        return self.visible, self.infrared


Load = Callable[[Pair], Batch]  # a batch of one


def group_pairs(pairs: Sequence[Pair], size: int) -> list[list[Pair]]:
    """Return groups of at most `size` pairs that fit into one batch; keeps the order in each."""
    alike: dict[tuple[int, int, bool], list[Pair]] = {}
    for pair in pairs:
        guided = pair.visible_guide_uri is not None or pair.infrared_guide_uri is not None
        alike.setdefault((pair.height, pair.width, guided), []).append(pair)
    return [
        group[start : start + size]
        for group in alike.values()
        for start in range(0, len(group), size)
    ]
