"""Named conventions: how images become gray 8-bit values, and which variants are counted.

Published tables differ in both, so every score names its convention.

Legend: B = batch, H, W = height and width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from dtpf.core.metrics import variants
from dtpf.core.metrics.edges import qabf
from dtpf.core.ops.color import luminance

Rounding = Literal["nearest", "floor", "none"]
Gray = Literal["bt601", "bt601_limited", "bt709", "mean"]
Colour = Literal["luminance", "channels"]
Precision = Literal["float64", "float32"]
MetricFunction = Callable[[Tensor, Tensor, Tensor], Tensor]  # fused, visible, infrared (B, H, W)

CHOICES = ("gray", "rounding", "colour", "precision")  # what `adjusted` takes


@dataclass(frozen=True)
class Convention:
    """One way to score: from colour images to gray values, and substituted metrics.

    Attributes:
        name: how configs and reports call it.
        summary: one sentence for readers of a table.
        gray: weights of R, G, B: `bt601` 0.299, 0.587, 0.114; `bt601_limited` the same, squeezed
            into 16 to 235 (the Y of studio-range YCbCr); `bt709` 0.2126, 0.7152, 0.0722; `mean`
            a third each. Gray images pass unchanged.
        rounding: how fused values become 8-bit ones; sources are 8-bit data and go to the nearest.
        colour: `luminance` scores the gray images; `channels` scores R, G and B each against the
            visible channel and the whole infrared, and takes the mean of the three.
        precision: of the arithmetic.
        substitutes: metric name to the function that this convention uses instead.
    """

    name: str
    summary: str
    gray: Gray = "bt601"
    rounding: Rounding = "nearest"
    colour: Colour = "luminance"
    precision: Precision = "float64"
    substitutes: Mapping[str, MetricFunction] = field(default_factory=dict)

    @property
    def statement(self) -> str:
        """Everything that a reader must know to compute the same numbers."""
        scored = f"gray {self.gray}" if self.colour == "luminance" else "mean over R, G, B"
        rounding = {"nearest": "rounded to", "floor": "cut to", "none": "not rounded to"}
        changed = ", ".join(self.substitutes)
        return (
            f"{scored}, {rounding[self.rounding]} 8 bit, {self.precision}"
            f"{f'; own variant of {changed}' if changed else ''}"
        )

    @property
    def dtype(self) -> torch.dtype:
        """Torch's type of `precision`."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def adjusted(self, **choices: Any) -> "Convention":
        """Return a copy with fields of CHOICES replaced; its name says which differ."""
        changed = {key: value for key, value in choices.items() if value != getattr(self, key)}
        if not changed:
            return self
        assert set(changed) <= set(CHOICES)
        named = ", ".join(f"{key} {value}" for key, value in changed.items())
        return replace(self, name=f"{self.name} with {named}", **changed)


def of_fused(function: Callable[[Tensor], Tensor]) -> MetricFunction:
    """Return a metric of the fused image alone in the form of all metrics."""
    return lambda fused, visible, infrared: function(fused)


STANDARD = Convention(
    "standard",
    "BT.601 gray; all images rounded to 8 bit; metrics as defined; Qabf with a zero frame.",
)
COMPAT = Convention(
    "compat",
    "As standard, with the quirks of the metric scripts most papers share: Qabf counts equal edge "
    "strengths literally; AG uses central differences and divides by (H-1)(W-1).",
    substitutes={
        "Qabf": partial(qabf, literal_ties=True),
        "AG": of_fused(variants.average_gradient_overcounted),
    },
)
EVALUATOR = Convention(
    "evaluator",
    "As the other family of scripts, an Evaluator class on scikit-image and scikit-learn: MI in "
    "nats; SSIM with uniform 7 x 7 windows; AG with central differences; Qabf with literal ties.",
    substitutes={
        "MI": variants.mutual_information_in_nats,
        "SSIM": variants.ssim_sum_uniform,
        "AG": of_fused(variants.average_gradient_central),
        "Qabf": COMPAT.substitutes["Qabf"],
    },
)
TRUNCATED = Convention(
    "truncated",
    "As compat, with fused values cut to 8 bit instead of rounded (scripts that cast to uint8).",
    rounding="floor",
    substitutes=COMPAT.substitutes,
)
WRAPPED = Convention(
    "wrapped",
    "As compat, in unsigned 8-bit arithmetic (scripts that never convert to float): differences "
    "wrap round at 256 in SF and SCD.",
    substitutes={
        **COMPAT.substitutes,
        "SF": of_fused(variants.spatial_frequency_wrapped),
        "SCD": variants.correlations_of_wrapped_differences,
    },
)
CHANNELS = Convention(
    "channels",
    "As compat, on R, G and B each instead of gray, and their mean (scripts that score colour).",
    colour="channels",
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
    convention.name: convention
    for convention in (
        *(STANDARD, COMPAT, EVALUATOR, TRUNCATED, WRAPPED, CHANNELS, INTERIOR, UNROUNDED),
    )
}


def find_convention(convention: Convention | str) -> Convention:
    """Return the convention of that name; a Convention passes.

    Raises:
        ValueError: no such name; lists those that exist.
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]


def to_gray_255(image: Tensor, rounding: Rounding = "nearest", gray: Gray = "bt601") -> Tensor:
    """Return gray values (B, H, W) of float64 in [0, 255], whole numbers unless `none`.

    With rounding, channels become 8-bit first and their weighted sum is rounded again: an image
    scores exactly what its saved PNG scores.

    Args:
        image: float (B, 3, H, W) or (B, 1, H, W); values outside [0, 1] are clamped.
        rounding: `nearest` (half to even), `floor`, or `none` (differentiable).
        gray: weights of the channels, see Convention.

    Raises:
        ValueError: another number of channels, or values that are not finite.
    """
    levels = to_levels(image, rounding)
    mixed = _GRAY[gray](levels) if levels.shape[1] == 3 else levels
    return mixed[:, 0] if rounding == "none" else mixed[:, 0].round()


def to_levels(image: Tensor, rounding: Rounding = "nearest") -> Tensor:
    """Return the channels (B, C, H, W) as float64 in [0, 255]; see `to_gray_255`."""
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError(f"expected (B, 3, H, W) or (B, 1, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds NaN or infinite values")
    if rounding == "none":
        return image.double().clamp(0.0, 1.0) * 255.0
    # In float32, as images are kept: the same pixel rounds the same way whatever dtype is given.
    scaled = image.float().clamp(0.0, 1.0) * 255.0
    return (scaled.round() if rounding == "nearest" else scaled.floor()).double()


def _bt709(levels_B3HW: Tensor) -> Tensor:
    red, green, blue = levels_B3HW.split(1, dim=1)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


_GRAY: dict[Gray, Callable[[Tensor], Tensor]] = {
    "bt601": luminance,
    "bt601_limited": lambda levels: 16.0 + luminance(levels) * (219.0 / 255.0),
    "bt709": _bt709,
    "mean": lambda levels: levels.mean(dim=1, keepdim=True),
}
