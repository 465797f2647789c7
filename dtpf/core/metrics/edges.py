"""Edge transfer from the sources to the fused image: Qabf and Nabf.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255];
A and B name the sources (visible, infrared), F the fused image; g is the Sobel strength of an
edge, alpha its orientation.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dtpf.core.ops.sobel import Border, sobel

Frame = Literal["zero", "interior", "mirror"]


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
        (B,), 0 to 0.987; 1 where neither source has an edge to keep.
    """
    fused = _edges(fused_BHW, frame)
    kept, total = fused_BHW.new_zeros(2, fused_BHW.shape[0])
    for source_BHW in (visible_BHW, infrared_BHW):
        source = _edges(source_BHW, frame)
        share = _kept(source, fused, literal_ties)
        kept = kept + (share * source.strength).sum(dim=(1, 2))
        total = total + source.strength.sum(dim=(1, 2))
    return torch.where(total == 0, 1.0, kept / torch.where(total == 0, 1.0, total))


def nabf(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
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

    Returns:
        (B,), 0 to 1.
    """
    edges_f, edges_a, edges_b = (
        _edges(image / 8.0, "mirror") for image in (fused_BHW, visible_BHW, infrared_BHW)
    )
    weight_a, weight_b = _artefact_weight(edges_a), _artefact_weight(edges_b)
    lost_a = (1.0 - _kept_for_artefacts(edges_a, edges_f)) * weight_a
    lost_b = (1.0 - _kept_for_artefacts(edges_b, edges_f)) * weight_b
    strongest = torch.maximum(edges_a.strength, edges_b.strength)
    added = torch.where(edges_f.strength > strongest, lost_a + lost_b, 0.0)
    return added.sum(dim=(1, 2)) / (weight_a + weight_b).sum(dim=(1, 2))


def _edges(image_BHW: Tensor, frame: Frame) -> _Edges:
    if min(image_BHW.shape[-2:]) < 3:
        raise ValueError(f"edges need 3 pixels a side, got {tuple(image_BHW.shape)}")
    border: Border = "reflect" if frame == "mirror" else "constant"
    across, down = (slope[:, 0] for slope in sobel(image_BHW[:, None], border))
    if frame == "interior":
        across, down = across[..., 1:-1, 1:-1], down[..., 1:-1, 1:-1]
    energy = across.square() + down.square()
    # The root's derivative is infinite where the image is flat; there it shall be 0.
    flat = energy == 0
    strength = torch.where(flat, 0.0, torch.where(flat, 1.0, energy).sqrt())
    upright = across == 0
    # The sign only matters against upright edges; this is that of a true convolution.
    slope = -down / torch.where(upright, 1.0, across)
    return _Edges(strength, torch.where(upright, math.pi / 2, torch.atan(slope)))


def _kept(source: _Edges, fused: _Edges, literal_ties: bool) -> Tensor:
    """Return QAF (B, H, W) of Xydeas and Petrovic 2000."""
    strength = _ratio(source.strength, fused.strength, both_flat=1.0)
    if literal_ties:
        strength = torch.where(source.strength == fused.strength, fused.strength, strength)
    angle = 1.0 - (source.angle - fused.angle).abs() / (math.pi / 2)
    kept_strength = 0.9994 * torch.sigmoid(15.0 * (strength - 0.5))
    return kept_strength * 0.9879 * torch.sigmoid(22.0 * (angle - 0.8))


def _kept_for_artefacts(source: _Edges, fused: _Edges) -> Tensor:
    """Return QAF (B, H, W) of Petrovic and Xydeas 2005."""
    strength = _ratio(source.strength, fused.strength, both_flat=0.0)
    flat_source = torch.where(source.strength == 0, 0.0, source.angle)
    flat_fused = torch.where(fused.strength == 0, 0.0, fused.angle)
    angle = ((flat_source - flat_fused).abs() - math.pi / 2).abs() / (math.pi / 2)
    kept_strength = 0.9999 * torch.sigmoid(19.0 * (strength - 0.5))
    return (kept_strength * 0.9995 * torch.sigmoid(22.0 * (angle - 0.5))).sqrt()


def _artefact_weight(edges: _Edges) -> Tensor:
    return torch.where(edges.strength >= 2.0, edges.strength**1.5, 0.001)


def _ratio(first: Tensor, second: Tensor, both_flat: float) -> Tensor:
    """Return the smaller over the larger strength, `both_flat` where both are zero."""
    larger = torch.maximum(first, second)
    flat = larger == 0
    return torch.where(
        flat, both_flat, torch.minimum(first, second) / torch.where(flat, 1.0, larger)
    )
