"""Windows over gray images: means, variances and covariances.

Legend: B = batch, H, W = height and width, K = window size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dtpf.core.ops.filters import filter_windows

_FLAT = 1e-10  # less variance than this is rounding


class Moments(NamedTuple):
    """An image with the mean and variance of each of its complete windows."""

    image: Tensor
    mean: Tensor
    variance: Tensor


def moments(image_BHW: Tensor, window_K: Tensor) -> Moments:
    """Return means and variances (B, H - K + 1, W - K + 1); variances below 1e-10 become 0."""
    mean = filter_windows(image_BHW, window_K)
    variance = filter_windows(image_BHW.square(), window_K) - mean.square()
    return Moments(image_BHW, mean, torch.where(variance >= _FLAT, variance, 0.0))


def covariance(first: Moments, second: Moments, window_K: Tensor) -> Tensor:
    """Return the covariance of both images in each window, (B, H - K + 1, W - K + 1)."""
    product = filter_windows(first.image * second.image, window_K)
    return product - first.mean * second.mean
