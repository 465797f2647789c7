"""Structural similarity of the fused image to both sources, on one scale and on five.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.ops.ssim import gaussian_filter, gaussian_window, ssim_map

_RANGE = 255.0
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MINIMUM_SIDE = 11 * 2 ** (len(_SCALE_WEIGHTS) - 1)


def ssim_sum(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """SSIM, structural similarity of F to A plus of F to B.

    Mean over all complete windows (Gaussian, 11 x 11, sigma 1.5) of
    (2 muA muF + C1)(2 cov + C2) / ((muA^2 + muF^2 + C1)(varA + varF + C2)), C1 = (0.01 * 255)^2,
    C2 = (0.03 * 255)^2. Some papers print half of it, the mean over both. Higher is better.
    Differentiable.
    Source: Wang et al. 2004, IEEE TIP 13(4), doi 10.1109/TIP.2003.819861.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike, at least 11 x 11.
        visible_BHW: source A.
        infrared_BHW: source B.

    Returns:
        (B,), -2 to 2.

    Raises:
        ValueError: a side is shorter than 11 pixels.
    """
    return _ssim(fused_BHW, visible_BHW) + _ssim(fused_BHW, infrared_BHW)


def ms_ssim_sum(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """MS-SSIM, multi-scale structural similarity of F to A plus of F to B.

    Product over five scales (2 x 2 means in between) of the mean contrast-structure term, and at
    the coarsest the mean SSIM, raised to 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; negative means
    count as 0. Higher is better.
    Source: Wang, Simoncelli and Bovik 2003, Asilomar, doi 10.1109/ACSSC.2003.1292216.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike, at least 176 x 176.
        visible_BHW: source A.
        infrared_BHW: source B.

    Returns:
        (B,), 0 to 2.

    Raises:
        ValueError: a side is shorter than 176 pixels.
    """
    if min(fused_BHW.shape[-2:]) < MS_SSIM_MINIMUM_SIDE:
        raise ValueError(
            f"MS-SSIM needs {MS_SSIM_MINIMUM_SIDE} pixels a side, got {tuple(fused_BHW.shape)}"
        )
    return _ms_ssim(fused_BHW, visible_BHW) + _ms_ssim(fused_BHW, infrared_BHW)


def _ssim(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    return ssim_map(first_BHW[:, None], second_BHW[:, None], _RANGE).mean(dim=(1, 2, 3))


def _ms_ssim(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    first, second = first_BHW[:, None], second_BHW[:, None]
    result = torch.ones(first.shape[0], dtype=first.dtype, device=first.device)
    for weight in _SCALE_WEIGHTS[:-1]:
        structure = ssim_map(first, second, _RANGE) / _luminance_map(first, second)
        result = result * structure.mean(dim=(1, 2, 3)).clamp(min=0.0) ** weight
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    coarsest = ssim_map(first, second, _RANGE).mean(dim=(1, 2, 3))
    return result * coarsest.clamp(min=0.0) ** _SCALE_WEIGHTS[-1]


def _luminance_map(first_B1HW: Tensor, second_B1HW: Tensor) -> Tensor:
    """Return the luminance factor of every window's SSIM; positive for images in [0, 255]."""
    window = gaussian_window(dtype=first_B1HW.dtype, device=first_B1HW.device)
    mean_a, mean_b = (gaussian_filter(image, window) for image in (first_B1HW, second_B1HW))
    c1 = (0.01 * _RANGE) ** 2
    return (2.0 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
