"""`score`: the one way to compute metrics of images.

Legend: B = batch, H, W = height and width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dtpf.core.metrics.conventions import (
    STANDARD,
    Convention,
    MetricFunction,
    Rounding,
    find_convention,
    to_gray_255,
    to_levels,
)
from dtpf.core.metrics.registry import MAIN_METRICS, QualityMetric, find_metric


def score(
    fused: Tensor,
    visible: Tensor,
    infrared: Tensor,
    names: Sequence[str] = MAIN_METRICS,
    convention: Convention | str = STANDARD,
) -> dict[str, Tensor]:
    """Return each named metric's value (B,) of float64 for a batch of fused pairs.

    Args:
        fused: float (B, 3 or 1, H, W) in [0, 1]; values outside are clamped.
        visible: float (B, 3 or 1, H, W) in [0, 1].
        infrared: float (B, 1 or 3, H, W) in [0, 1].
        names: keys of METRICS or QUALITY_METRICS.
        convention: a Convention or its name; says how values are rounded and what is substituted.

    Raises:
        ValueError: an unknown name, shapes that do not match, or an image too small for a metric.
        UserError: a metric of QUALITY_METRICS whose library or weights are missing.
    """
    rules = find_convention(convention)
    wanted = [find_metric(name) for name in names]
    frames = {(image.shape[0], *image.shape[2:]) for image in (fused, visible, infrared)}
    if len(frames) != 1:
        shapes = ", ".join(str(tuple(image.shape)) for image in (fused, visible, infrared))
        raise ValueError(f"fused, visible and infrared must match in batch and size, got {shapes}")
    planes = _planes(fused, visible, infrared, rules)
    values: dict[str, Tensor] = {}
    for metric in wanted:
        if isinstance(metric, QualityMetric):
            colour = to_levels(fused, rules.rounding).expand(-1, 3, -1, -1) / 255.0
            values[metric.name] = metric.function(colour)
        else:
            function = rules.substitutes.get(metric.name, metric.function)
            values[metric.name] = _mean_over_planes(function, planes)
    return values


def _planes(
    fused: Tensor, visible: Tensor, infrared: Tensor, rules: Convention
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return fused, visible, infrared (B, H, W) once, or once for each channel that is scored."""
    sources: Rounding = "none" if rules.rounding == "none" else "nearest"
    heat = to_gray_255(infrared, sources, rules.gray).to(rules.dtype)
    if rules.colour == "channels":
        fused_rgb, visible_rgb = (
            to_levels(image, rounding).expand(-1, 3, -1, -1).to(rules.dtype)
            for image, rounding in ((fused, rules.rounding), (visible, sources))
        )
        return [(fused_rgb[:, c], visible_rgb[:, c], heat) for c in range(3)]
    seen = to_gray_255(visible, sources, rules.gray).to(rules.dtype)
    return [(to_gray_255(fused, rules.rounding, rules.gray).to(rules.dtype), seen, heat)]


def _mean_over_planes(
    function: MetricFunction, planes: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> Tensor:
    values = [function(*plane) for plane in planes]
    return torch.stack(values).mean(dim=0).double()
