"""The pixel limit: fused pixels themselves optimised on a mix of metrics.

An upper bound that stands beside the methods: how much room is left, and how a metric can be
gamed (the pictures look broken where a metric is blind). No method reaches it, none should try.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from dtpf.core.metrics import Convention, find_convention, find_metric, score
from dtpf.core.metrics.conventions import MetricFunction
from dtpf.core.ops.color import luminance, recolour
from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.batches import Batch
from dtpf.evaluation.mix import parse_mix

PREFIX = "limit "

_LEARNING_RATE = 0.01  # larger steps leave the narrow optima of Qabf, smaller ones take too many
_CHECKS = 10  # times that the best pixels so far are looked for


@dataclass(frozen=True)
class PixelLimit:
    """Pixels optimised by Adam on a weighted sum of metrics.

    Starts from the trivial baseline that scores highest and never returns less than it.

    Attributes:
        mix: such as `VIF+3*Qabf`; metrics of `mix.DIFFERENTIABLE`.
        steps: of the optimiser.
        reference: the images that scores look at.
        convention: whose variants of the metrics are optimised.
    """

    mix: str
    steps: int = 200
    reference: Literal["guide", "input"] = "guide"
    convention: Convention = field(default_factory=lambda: find_convention("standard"))

    @property
    def name(self) -> str:
        """The mix, marked as a limit."""
        return PREFIX + self.mix

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """Weight by metric."""
        return parse_mix(self.mix)

    @torch.enable_grad()
    def fuse(self, batch: Batch) -> Tensor:
        """Return the best pixels found (B, 3, H, W); colour is that of the visible image."""
        visible, infrared = (image.detach() for image in batch.references(self.reference))
        best, best_score = self._start(batch, visible, infrared)
        gray = tuple((luminance(image) * 255.0)[:, 0].float() for image in (visible, infrared))
        pixels = luminance(best).float().clone().requires_grad_()
        optimiser = torch.optim.Adam([pixels], lr=_LEARNING_RATE, betas=(0.9, 0.99))
        for step in range(1, self.steps + 1):
            for group in optimiser.param_groups:
                group["lr"] = _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            optimiser.zero_grad()
            (-self._value(pixels[:, 0] * 255.0, *gray).sum()).backward()
            optimiser.step()
            with torch.no_grad():
                pixels.clamp_(0.0, 1.0)
            if step % max(1, self.steps // _CHECKS) == 0 or step == self.steps:
                fused = recolour(pixels.detach(), batch.visible)
                best, best_score = _better(
                    (best, best_score), (fused, self._measured(fused, visible, infrared))
                )
        return best

    def _start(self, batch: Batch, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        candidates = [
            baseline(*batch.references(self.reference)) for baseline in BASELINES.values()
        ]
        scored = [(image, self._measured(image, visible, infrared)) for image in candidates]
        best = scored[0]
        for other in scored[1:]:
            best = _better(best, other)
        return best

    def _value(self, fused_BHW: Tensor, *sources_BHW: Tensor) -> Tensor:
        """Return the mix (B,) of gray images in [0, 255] before rounding: differentiable."""
        parts = [
            weight * self._function(name)(fused_BHW, *sources_BHW)
            for name, weight in self.weights.items()
        ]
        return torch.stack(parts).sum(dim=0)

    def _function(self, name: str) -> MetricFunction:
        return self.convention.substitutes.get(name, find_metric(name).function)  # type: ignore[arg-type]

    def _measured(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the mix (B,) as it will be scored, rounding included."""
        with torch.no_grad():
            values = score(fused, visible, infrared, tuple(self.weights), self.convention)
        return torch.stack([weight * values[name] for name, weight in self.weights.items()]).sum(0)


def is_limit(method: str) -> bool:
    """Whether a method of a table is a limit, which no method competes with."""
    return method.startswith(PREFIX)


def _better(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return, pair by pair, the images (B, 3, H, W) and scores (B,) of the higher score."""
    wins = second[1] > first[1]
    return torch.where(wins[:, None, None, None], second[0], first[0]), torch.where(
        wins, second[1], first[1]
    )
