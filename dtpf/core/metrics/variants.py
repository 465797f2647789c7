"""Variants of the metrics that scripts in common use compute under the same names.

No metric of ours: they exist so that published tables can be reproduced, by naming a convention
(`conventions.py`). What each differs in stands in its docstring.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

import math

import torch
from torch import Tensor

from dtpf.core.metrics.correlation import correlation_coefficient
from dtpf.core.metrics.information import mutual_information
from dtpf.core.metrics.structure import mean_similarity

_WRAP = 256.0
_UNIFORM_SIDE = 7


def mutual_information_in_nats(
    fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor
) -> Tensor:
    """MI in nats instead of bits (scikit-learn's `mutual_info_score`): smaller by ln 2."""
    return mutual_information(fused_BHW, visible_BHW, infrared_BHW) * math.log(2.0)


def ssim_sum_uniform(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """SSIM with uniform 7 x 7 windows and unbiased variances, summed over both sources.

    scikit-image's `structural_similarity` with a data range of 255 and nothing else said; the
    paper of SSIM has Gaussian 11 x 11 windows.
    """
    window = fused_BHW.new_full((_UNIFORM_SIDE,), 1.0 / _UNIFORM_SIDE)
    count = _UNIFORM_SIDE**2
    unbiased = count / (count - 1)
    return mean_similarity(fused_BHW, visible_BHW, window, unbiased) + mean_similarity(
        fused_BHW, infrared_BHW, window, unbiased
    )


def average_gradient_central(image_BHW: Tensor) -> Tensor:
    """AG with central differences (one-sided at the border), all H * W values in the mean."""
    down, across = torch.gradient(image_BHW, dim=(1, 2))
    return ((across.square() + down.square()) / 2).sqrt().mean(dim=(1, 2))


def average_gradient_overcounted(image_BHW: Tensor) -> Tensor:
    """As `average_gradient_central`, but the sum over H * W is divided by (H - 1)(W - 1)."""
    height, width = image_BHW.shape[1:]
    return average_gradient_central(image_BHW) * (height * width) / ((height - 1) * (width - 1))


def spatial_frequency_wrapped(image_BHW: Tensor) -> Tensor:
    """SF in unsigned 8-bit arithmetic: differences and their squares wrap round at 256."""
    rows = _wrapped(_wrapped(image_BHW.diff(dim=2)).square()).mean(dim=(1, 2))
    columns = _wrapped(_wrapped(image_BHW.diff(dim=1)).square()).mean(dim=(1, 2))
    return (rows + columns).sqrt()


def correlations_of_wrapped_differences(
    fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor
) -> Tensor:
    """SCD in unsigned 8-bit arithmetic: the differences of images wrap round at 256."""
    without_infrared = _wrapped(fused_BHW - infrared_BHW)
    without_visible = _wrapped(fused_BHW - visible_BHW)
    from_visible = correlation_coefficient(without_infrared, visible_BHW, visible_BHW)
    return from_visible + correlation_coefficient(without_visible, infrared_BHW, infrared_BHW)


def _wrapped(values: Tensor) -> Tensor:
    return values.round().remainder(_WRAP)
