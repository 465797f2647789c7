"""Trivial fusion methods that every table carries: mean, per-pixel maximum, Laplacian pyramid.

Each fuses luminance and keeps the colour of the visible image.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dtpf.core.ops.color import luminance, recolour
from dtpf.core.ops.pyramid import laplacian_pyramid

Baseline = Callable[[Tensor, Tensor], Tensor]


def mean(visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Average of visible luminance and infrared: (B, 3, H, W) in [0, 1]."""
    return recolour((luminance(visible_B3HW) + infrared_B1HW) / 2, visible_B3HW)


def maximum(visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Per-pixel maximum of visible luminance and infrared: (B, 3, H, W) in [0, 1]."""
    return recolour(torch.maximum(luminance(visible_B3HW), infrared_B1HW), visible_B3HW)


BASELINES: dict[str, Baseline] = {
    "mean": mean,
    "maximum": maximum,
    "laplacian_pyramid": laplacian_pyramid,
}
ALIASES = {"max": "maximum", "laplacian": "laplacian_pyramid"}
