"""Edge transfer from the sources to the fused image: Qabf and Nabf.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255];
A and B name the sources (visible, infrared), F the fused image; g is the Sobel strength of an
edge, alpha its orientation.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.metrics.bands import bands
from dtpf.core.ops.sobel import sobel

Frame = Literal["zero", "interior", "mirror"]

_WEAK = 0.5  # gray levels: where sources are flat, a ramp is as wide as beside such an edge


class _Edges(NamedTuple):
    """Strength (B, H, W) in gray levels, orientation (B, H, W) in radians, (-pi/2, pi/2]."""

    strength: Tensor
    angle: Tensor


def qabf(
    fused_BHW: Tensor,
    visible_BHW: Tensor,
    infrared_BHW: Tensor,
    *,
    frame: Frame = "zero",
    literal_ties: bool = False,
) -> Tensor:
    """Qabf, the share of the sources' edges that the fused image keeps.

    G = min(gA, gF) / max(gA, gF) and A = 1 - |alphaA - alphaF| / (pi / 2) pass through sigmoids,
    QAF = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8))), and
    Qabf = sum(QAF gA + QBF gB) / sum(gA + gB). Higher is better. Differentiable.
    Source: Xydeas and Petrovic 2000, Electronics Letters 36(4), doi 10.1049/el:20000267.

    The paper does not say how the Sobel operator meets the frame of the image. Published tables
    fill with zeros, which makes an edge of the frame itself and adds about 0.05; `interior`
    leaves the outermost pixels out.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike, at least 3 x 3.
        visible_BHW: source A.
        infrared_BHW: source B.
        frame: `zero` fills around the image, `mirror` reflects it, `interior` leaves one pixel out.
        literal_ties: where gA equals gF take G = gF instead of 1, as the field's scripts do.

    Returns:
        (B,), 0 to 0.975, which is also the value where no image has an edge.
    """
    framed = tuple(_framed(image, frame) for image in (fused_BHW, visible_BHW, infrared_BHW))
    kept, total = fused_BHW.new_zeros(2, fused_BHW.shape[0])
    for band in bands(framed, 3):
        fused = _edges(band[0])
        for source in (_edges(band[1]), _edges(band[2])):
            share = _kept(source, fused, literal_ties)
            kept = kept + (share * source.strength).sum(dim=(1, 2))
            total = total + source.strength.sum(dim=(1, 2))
    return kept / total


def nabf(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor, ramp: float = 0.0) -> Tensor:
    """Nabf, edges of the fused image that neither source has: artefacts.

    Over the pixels where gF exceeds both gA and gB:
    Nabf = sum((1 - QAF) wA + (1 - QBF) wB) / sum over all pixels of (wA + wB), with weights
    w = g^1.5 (0.001 where g < 2), G as in Qabf (0 where an edge is missing),
    A = ||alphaA - alphaF| - pi/2| / (pi/2) and
    QAF^2 = 0.9999 / (1 + exp(-19 (G - 0.5))) * 0.9995 / (1 + exp(-22 (A - 0.5))).
    The Sobel kernels are divided by 8; the image is mirrored at its frame. Lower is better.
    Source: Petrovic and Xydeas 2005, ICCV, doi 10.1109/ICCV.2005.222, as modified by Shreyamsha
    Kumar 2013, Signal, Image and Video Processing 7, doi 10.1007/s11760-012-0361-x.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike, at least 3 x 3.
        visible_BHW: source A.
        infrared_BHW: source B.
        ramp: not of the metric, for a loss: a pixel counts in full only where gF exceeds the
            stronger edge by this share of it, and below in proportion. The metric itself jumps
            where gF passes gA and gB, so that its derivative does not say how to stay below.

    Returns:
        (B,), 0 to 1.
    """
    images = (fused_BHW, visible_BHW, infrared_BHW)
    framed = tuple(_framed(image / 8.0, "mirror") for image in images)
    added, total = fused_BHW.new_zeros(2, fused_BHW.shape[0])
    for band in bands(framed, 3):
        fused, first, second = (_edges(image) for image in band)
        weight_a, weight_b = _artefact_weight(first), _artefact_weight(second)
        lost_a = (1.0 - _kept_for_artefacts(first, fused)) * weight_a
        lost_b = (1.0 - _kept_for_artefacts(second, fused)) * weight_b
        strongest = torch.maximum(first.strength, second.strength)
        counted = _excess(fused.strength, strongest, ramp)
        added = added + (counted * (lost_a + lost_b)).sum(dim=(1, 2))
        total = total + (weight_a + weight_b).sum(dim=(1, 2))
    return added / total


def _framed(image_BHW: Tensor, frame: Frame) -> Tensor:
    """Return the image with what surrounds it, one pixel wide (nothing for `interior`)."""
    if min(image_BHW.shape[-2:]) < 3:
        raise ValueError(f"edges need 3 pixels a side, got {tuple(image_BHW.shape)}")
    if frame == "interior":
        return image_BHW
    return F.pad(image_BHW, (1, 1, 1, 1), mode="reflect" if frame == "mirror" else "constant")


def _edges(framed_BHW: Tensor) -> _Edges:
    """Return the edges of all pixels but the outermost."""
    across, down = (slope[:, 0, 1:-1, 1:-1] for slope in sobel(framed_BHW[:, None]))
    # Kept off zero: there the root has no derivative, and a ratio no value.
    strength = (across.square() + down.square()).clamp(min=_none(framed_BHW) ** 2).sqrt()
    # Directions folded to the right half plane, upright ones to the top: (-pi/2, pi/2]. The sign
    # of the slope only matters against upright edges; this is that of a true convolution.
    rise = torch.where(across == 0, 1.0, -down * across.sign())
    return _Edges(strength, torch.atan2(rise, across.abs()))


def _kept(source: _Edges, fused: _Edges, literal_ties: bool) -> Tensor:
    """Return QAF (B, H, W) of Xydeas and Petrovic 2000."""
    strength = _ratio(source.strength, fused.strength)
    if literal_ties:
        strength = torch.where(source.strength == fused.strength, fused.strength, strength)
    angle = 1.0 - (source.angle - fused.angle).abs() / (math.pi / 2)
    kept_strength = 0.9994 * torch.sigmoid(15.0 * (strength - 0.5))
    return kept_strength * 0.9879 * torch.sigmoid(22.0 * (angle - 0.8))


def _kept_for_artefacts(source: _Edges, fused: _Edges) -> Tensor:
    """Return QAF (B, H, W) of Petrovic and Xydeas 2005."""
    strength = _ratio(source.strength, fused.strength)
    # Where there is no edge its direction counts as 0; the fused image has one wherever it matters.
    angle_of_source = torch.where(source.strength <= _none(source.strength), 0.0, source.angle)
    angle = ((angle_of_source - fused.angle).abs() - math.pi / 2).abs() / (math.pi / 2)
    kept_strength = 0.9999 * torch.sigmoid(19.0 * (strength - 0.5))
    return (kept_strength * 0.9995 * torch.sigmoid(22.0 * (angle - 0.5))).sqrt()


def _excess(strength: Tensor, strongest: Tensor, ramp: float) -> Tensor:
    """Return 1 where `strength` is the larger one, else 0; on a ramp as in `nabf`."""
    if not ramp:
        return (strength > strongest).to(strength.dtype)
    return ((strength - strongest) / (ramp * (strongest + _WEAK))).clamp(0.0, 1.0)


def _none(image: Tensor) -> float:
    """Return the strength that stands for no edge; its square is a normal number of the type."""
    return math.sqrt(torch.finfo(image.dtype).tiny) * 2.0


def _artefact_weight(edges: _Edges) -> Tensor:
    return torch.where(edges.strength >= 2.0, edges.strength**1.5, 0.001)


def _ratio(first: Tensor, second: Tensor) -> Tensor:
    """Return the smaller over the larger strength."""
    return torch.minimum(first, second) / torch.maximum(first, second)
