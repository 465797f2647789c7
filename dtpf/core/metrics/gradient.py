"""Sharpness of the fused image alone: spatial frequency and average gradient.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255].
"""

from torch import Tensor


def spatial_frequency(image_BHW: Tensor) -> Tensor:
    """SF = sqrt(RF^2 + CF^2), the root mean square of neighbour differences.

    RF^2 is the mean squared difference of neighbours along a row, CF^2 along a column, each over
    the differences that exist. Higher is better (sharper), noise raises it too.
    Source: Eskicioglu and Fisher 1995, IEEE Trans. Communications 43(12), doi 10.1109/26.477498.

    Args:
        image_BHW: gray images in [0, 255], at least 2 x 2.

    Returns:
        (B,) in gray levels, 0 and up.
    """
    return spatial_frequency_squared(image_BHW).sqrt()


def spatial_frequency_squared(image_BHW: Tensor) -> Tensor:
    """SF^2 (B,), which has a derivative for flat images too; see `spatial_frequency`."""
    rows = image_BHW.diff(dim=2).square().mean(dim=(1, 2))
    columns = image_BHW.diff(dim=1).square().mean(dim=(1, 2))
    return rows + columns


def average_gradient(image_BHW: Tensor) -> Tensor:
    """AG, the mean of sqrt((dx^2 + dy^2) / 2) over forward differences dx, dy.

    Higher is better (more detail), noise raises it too.
    Source: Cui et al. 2015, Optics Communications 341, doi 10.1016/j.optcom.2014.12.032.

    Args:
        image_BHW: gray images in [0, 255], at least 2 x 2.

    Returns:
        (B,) in gray levels, 0 and up.
    """
    across = image_BHW.diff(dim=2)[:, :-1]
    down = image_BHW.diff(dim=1)[:, :, :-1]
    return ((across.square() + down.square()) / 2).sqrt().mean(dim=(1, 2))
