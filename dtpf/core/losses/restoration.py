"""How far restored images are from the clean ones.

Legend: B = batch, C = channels, H, W = height and width.
"""

import torch
from torch import Tensor

from dtpf.core.ops.shapes import check_same_shape
from dtpf.core.ops.sobel import sobel

_SLOPES = 0.1  # weight of squared Sobel slopes beside squared pixels: edges are what is fused

Images = tuple[Tensor, Tensor]


def restoration_loss(restored: Images, given: Images, clean: Images, tolerance: float) -> Tensor:
    """Return the share (B,) of the degradations that is left, mean of both images.

    Shares of root mean squares, so that weak noise and deep fog weigh alike, and without the kink
    of L1, whose derivative on clean images does not fade as they are approached.

    Args:
        restored: visible (B, 3, H, W) and infrared (B, 1, H, W), about [0, 1].
        given: what they were restored from.
        clean: what they should be; may be the same as `given`.
        tolerance: mean squared distance, of [0, 1], below which images count as much the same. The
            smaller it is, the more a clean image is kept as it is.

    Raises:
        ValueError: the shapes differ.
    """
    shares = [
        ((_squared(own, goal) + tolerance) / (_squared(start, goal) + tolerance)).sqrt()
        for own, start, goal in zip(restored, given, clean, strict=True)
    ]
    return torch.stack(shares).mean(dim=0)


def _squared(one_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    """Return the mean squared distance of pixels and, weighed, of slopes (B,)."""
    check_same_shape(one_BCHW, other_BCHW)
    change = one_BCHW - other_BCHW
    slopes = sum(slope.square() for slope in sobel(change, "reflect"))
    return (change.square() + _SLOPES * slopes).mean(dim=(1, 2, 3))
