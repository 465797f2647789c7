"""Linear correlation between the fused image and its sources.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

import torch
from torch import Tensor


def correlation_coefficient(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """CC = (r(A, F) + r(B, F)) / 2, the mean Pearson correlation with both sources.

    Higher is better; the plain average of the sources does well. Differentiable.
    Source: Deshmukh and Bhosale 2010, Int. J. Image Processing 4(2).

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike.
        visible_BHW: source A.
        infrared_BHW: source B.

    Returns:
        (B,), -1 to 1; a constant image correlates with nothing (0).
    """
    return (_pearson(fused_BHW, visible_BHW) + _pearson(fused_BHW, infrared_BHW)) / 2


def sum_of_correlations_of_differences(
    fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor
) -> Tensor:
    """SCD = r(F - B, A) + r(F - A, B): what fusion adds to one source is the other one.

    Higher is better. Differentiable.
    Source: Aslantas and Bendes 2015, AEU 69(12), doi 10.1016/j.aeue.2015.09.004.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike.
        visible_BHW: source A.
        infrared_BHW: source B.

    Returns:
        (B,), -2 to 2; a constant difference correlates with nothing (0).
    """
    from_visible = _pearson(fused_BHW - infrared_BHW, visible_BHW)
    return from_visible + _pearson(fused_BHW - visible_BHW, infrared_BHW)


def _pearson(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    first = first_BHW - first_BHW.mean(dim=(1, 2), keepdim=True)
    second = second_BHW - second_BHW.mean(dim=(1, 2), keepdim=True)
    energy = first.square().sum(dim=(1, 2)) * second.square().sum(dim=(1, 2))
    constant = energy <= 0
    safe = torch.where(constant, 1.0, energy)
    return torch.where(constant, 0.0, (first * second).sum(dim=(1, 2)) / safe.sqrt())
