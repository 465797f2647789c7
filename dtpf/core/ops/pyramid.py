"""Fusion by Laplacian pyramids.

Legend: B = batch, H, W = height and width; images are floats in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.ops.color import luminance, recolour

_LEVELS = 4
_DETAIL_WINDOW = 3
_BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)


def laplacian_pyramid(visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Laplacian pyramids of both, merged level by level: (B, 3, H, W) in [0, 1].

    Four levels (fewer where a side would fall below 4 pixels); the detail with the larger mean
    absolute value in its 3 x 3 window wins, the base is the maximum of both.
    Source: Burt and Adelson 1983, IEEE Trans. Communications 31(4),
    doi 10.1109/TCOM.1983.1095851.
    """
    visible, infrared = luminance(visible_B3HW), infrared_B1HW
    merged: list[Tensor] = []
    while len(merged) < _LEVELS and min(visible.shape[-2:]) >= 8:
        (visible, detail_v), (infrared, detail_i) = _split(visible), _split(infrared)
        merged.append(torch.where(_activity(detail_v) >= _activity(detail_i), detail_v, detail_i))
    fused = torch.maximum(visible, infrared)
    for detail in reversed(merged):
        fused = _enlarge(fused, detail) + detail
    return recolour(fused, visible_B3HW)


def _split(image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next coarser image and the detail that it lacks."""
    column = image_B1HW.new_tensor(_BINOMIAL).view(1, 1, 5, 1)
    padded = F.pad(image_B1HW, (2, 2, 2, 2), mode="reflect")
    coarse = F.conv2d(F.conv2d(padded, column), column.mT)[..., ::2, ::2]
    return coarse, image_B1HW - _enlarge(coarse, image_B1HW)


def _enlarge(image_B1HW: Tensor, like_B1HW: Tensor) -> Tensor:
    return F.interpolate(image_B1HW, like_B1HW.shape[-2:], mode="bilinear", align_corners=False)


def _activity(detail_B1HW: Tensor) -> Tensor:
    padded = F.pad(detail_B1HW.abs(), (1, 1, 1, 1), mode="reflect")
    return F.avg_pool2d(padded, _DETAIL_WINDOW, stride=1)
