"""Structural similarity of the fused image to both sources, on one scale and on five.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.metrics.bands import bands
from dtpf.core.metrics.windows import covariance, moments
from dtpf.core.ops.ssim import gaussian_window

_C1, _C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
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
    window = gaussian_window(dtype=fused_BHW.dtype, device=fused_BHW.device)
    return mean_similarity(fused_BHW, visible_BHW, window) + mean_similarity(
        fused_BHW, infrared_BHW, window
    )


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


def mean_similarity(
    first_BHW: Tensor, second_BHW: Tensor, window_K: Tensor, unbiased: float = 1.0
) -> Tensor:
    """Return the mean SSIM (B,) of two images over all complete windows of weights `window_K`.

    Variances and covariances are multiplied by `unbiased`; 1 takes them as they are.

    Raises:
        ValueError: a side is shorter than the window.
    """
    return _similarity(first_BHW, second_BHW, window_K, unbiased).whole


class _Similarity(NamedTuple):
    """Means over all windows, (B,): the whole index, and its contrast-structure factor alone."""

    whole: Tensor
    structure: Tensor


def _similarity(
    first_BHW: Tensor, second_BHW: Tensor, window_K: Tensor, unbiased: float = 1.0
) -> _Similarity:
    size = window_K.numel()
    if min(first_BHW.shape[-2:]) < size:
        raise ValueError(f"SSIM needs {size} pixels a side, got {tuple(first_BHW.shape)}")
    index, structure = first_BHW.new_zeros(2, first_BHW.shape[0])
    for band in bands((first_BHW, second_BHW), size):
        a, b = (moments(image, window_K) for image in band)
        luminance = (2.0 * a.mean * b.mean + _C1) / (a.mean.square() + b.mean.square() + _C1)
        shared = 2.0 * unbiased * covariance(a, b, window_K) + _C2
        contrast = shared / (unbiased * (a.variance + b.variance) + _C2)
        index = index + (luminance * contrast).sum(dim=(1, 2))
        structure = structure + contrast.sum(dim=(1, 2))
    height, width = first_BHW.shape[-2:]
    windows = (height - size + 1) * (width - size + 1)
    return _Similarity(index / windows, structure / windows)


def _ms_ssim(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    window = gaussian_window(dtype=first_BHW.dtype, device=first_BHW.device)
    result = torch.ones_like(first_BHW[:, 0, 0])
    for weight in _SCALE_WEIGHTS[:-1]:
        structure = _similarity(first_BHW, second_BHW, window).structure
        result = result * structure.clamp(min=0.0) ** weight
        first_BHW, second_BHW = F.avg_pool2d(first_BHW, 2), F.avg_pool2d(second_BHW, 2)
    coarsest = _similarity(first_BHW, second_BHW, window).whole
    return result * coarsest.clamp(min=0.0) ** _SCALE_WEIGHTS[-1]
