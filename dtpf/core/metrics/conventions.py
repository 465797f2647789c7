"""Named conventions: how images become gray 8-bit values, and which variants are counted.

Published tables differ in both, so every score names its convention.

Legend: B = batch, H, W = height and width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from dtpf.core.metrics.edges import qabf
from dtpf.core.metrics.gradient import average_gradient_central
from dtpf.core.ops.color import luminance

Rounding = Literal["nearest", "floor", "none"]
MetricFunction = Callable[[Tensor, Tensor, Tensor], Tensor]  # fused, visible, infrared (B, H, W)


@dataclass(frozen=True)
class Convention:
    """One way to score: rounding to 8 bit before gray conversion, and substituted metrics.

    Attributes:
        name: how configs and reports call it.
        summary: one sentence for readers of a table.
        rounding: how fused values become 8-bit ones; sources are 8-bit data and go to the nearest.
        substitutes: metric name to the function that this convention uses instead.
    """

    name: str
    summary: str
    rounding: Rounding = "nearest"
    substitutes: Mapping[str, MetricFunction] = field(default_factory=dict)


def _compat_average_gradient(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    return average_gradient_central(fused)


STANDARD = Convention(
    "standard",
    "BT.601 gray; all images rounded to 8 bit; metrics as defined; Qabf with a zero frame.",
)
COMPAT = Convention(
    "compat",
    "As standard, with the quirks of the scripts in common use: Qabf counts equal edge strengths "
    "literally, AG uses central differences.",
    substitutes={"Qabf": partial(qabf, literal_ties=True), "AG": _compat_average_gradient},
)
TRUNCATED = Convention(
    "truncated",
    "As compat, with fused values cut to 8 bit instead of rounded (scripts that cast to uint8).",
    rounding="floor",
    substitutes=COMPAT.substitutes,
)
INTERIOR = Convention(
    "interior",
    "As standard, with Qabf over interior pixels only: no credit for the frame of the image.",
    substitutes={"Qabf": partial(qabf, frame="interior")},
)
UNROUNDED = Convention(
    "unrounded",
    "As standard, without rounding to 8 bit (EN and MI still count 256 levels).",
    rounding="none",
)

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention for convention in (STANDARD, COMPAT, TRUNCATED, INTERIOR, UNROUNDED)
}


def to_gray_255(image: Tensor, rounding: Rounding = "nearest") -> Tensor:
    """Return gray values (B, H, W) of float64 in [0, 255], whole numbers unless `none`.

    With rounding, channels become 8-bit first and their BT.601 luminance is rounded again: an
    image scores exactly what its saved PNG scores.

    Args:
        image: float (B, 3, H, W) or (B, 1, H, W); values outside [0, 1] are clamped.
        rounding: `nearest` (half to even), `floor`, or `none` (differentiable).

    Raises:
        ValueError: another number of channels, or values that are not finite.
    """
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError(f"expected (B, 3, H, W) or (B, 1, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds NaN or infinite values")
    if rounding == "none":
        return luminance(image.double().clamp(0.0, 1.0) * 255.0)[:, 0]
    # In float32, as images are kept: the same pixel rounds the same way whatever dtype is given.
    scaled = image.float().clamp(0.0, 1.0) * 255.0
    eight_bit = scaled.round() if rounding == "nearest" else scaled.floor()
    return luminance(eight_bit.double())[:, 0].round()
