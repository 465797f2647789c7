"""Fusion by Laplacian pyramids.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.ops.color import luminance, recolour
from dtpf.core.ops.filters import smoothed

_LEVELS = 4

_DETAIL_WINDOW = 3
_BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)


class Bands(NamedTuple):
    """A Laplacian pyramid: details (B, 1, H / 2^l, W / 2^l) from the finest, and what is left."""

    details: tuple[Tensor, ...]
    base: Tensor


def laplacian_pyramid(visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Laplacian pyramids of both, merged level by level: (B, 3, H, W) in [0, 1].

    Four levels (fewer where a side would fall below 4 pixels); the detail with the larger mean
    absolute value in its 3 x 3 window wins, the base is the maximum of both.
    Source: Burt and Adelson 1983, IEEE Trans. Communications 31(4),
    doi 10.1109/TCOM.1983.1095851.
    """
    seen, heat = laplacian_bands(luminance(visible_B3HW)), laplacian_bands(infrared_B1HW)
    details = tuple(
        torch.where(_activity(detail_v) >= _activity(detail_i), detail_v, detail_i)
        for detail_v, detail_i in zip(seen.details, heat.details, strict=True)
    )
    fused = collapse(Bands(details, torch.maximum(seen.base, heat.base)))
    return recolour(fused, visible_B3HW)


def laplacian_bands(image_B1HW: Tensor) -> Bands:
    """Split an image; four levels, fewer where a side would fall below 4 pixels."""
    details: list[Tensor] = []
    while len(details) < _LEVELS and min(image_B1HW.shape[-2:]) >= 8:
        coarse = coarser(image_B1HW)
        details.append(image_B1HW - _enlarge(coarse, image_B1HW))
        image_B1HW = coarse
    return Bands(tuple(details), image_B1HW)


def collapse(bands: Bands) -> Tensor:
    """Return the image (B, 1, H, W) of its bands: the inverse of `laplacian_bands`, linear."""
    image = bands.base
    for detail in reversed(bands.details):
        image = _enlarge(image, detail) + detail
    return image


def coarser(image_B1HW: Tensor) -> Tensor:
    """Return the image smoothed and halved, (B, 1, ceil(H / 2), ceil(W / 2))."""
    return smoothed(image_B1HW, image_B1HW.new_tensor(_BINOMIAL))[..., ::2, ::2]


def _enlarge(image_B1HW: Tensor, like_B1HW: Tensor) -> Tensor:
    return F.interpolate(image_B1HW, like_B1HW.shape[-2:], mode="bilinear", align_corners=False)


def _activity(detail_B1HW: Tensor) -> Tensor:
    padded = F.pad(detail_B1HW.abs(), (1, 1, 1, 1), mode="reflect")
    return F.avg_pool2d(padded, _DETAIL_WINDOW, stride=1)
