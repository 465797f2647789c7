"""Contrast of the fused image alone.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

from torch import Tensor


def standard_deviation(image_BHW: Tensor) -> Tensor:
    """SD, the standard deviation of the gray levels: sqrt(mean((F - mean F)^2)).

    Higher is better (more contrast). Differentiable where it is not zero.
    Source: Rao 1997, Measurement Science and Technology 8(4), doi 10.1088/0957-0233/8/4/002.

    Args:
        image_BHW: gray images in [0, 255].

    Returns:
        (B,) in gray levels, 0 to 127.5.
    """
    return image_BHW.std(dim=(1, 2), correction=0)
