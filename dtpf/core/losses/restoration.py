"""How far restored images are from the clean ones, and whether they were told from them.

Legend: B = batch, C = channels, H, W = height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.ops.shapes import check_same_shape
from dtpf.core.ops.sobel import sobel

_SLOPES = 0.1  # weight of squared Sobel slopes beside squared pixels: edges are what is fused
_CELL = 4  # pixels a side that tone is looked at in: noise, which grows with contrast, averages out

Images = tuple[Tensor, Tensor]


def restoration_loss(restored: Images, given: Images, clean: Images, tolerance: float) -> Tensor:
    """Return the share (B,) of the degradations that is left, mean of both images.

    Shares of root mean squares, so that weak noise and deep fog weigh alike, and without the kink
    of L1, whose derivative does not fade as the clean image is approached. What is made of clean
    images is not looked at; that is for `judgement_loss`.

    Args:
        restored: visible (B, 3, H, W) and infrared (B, 1, H, W), about [0, 1].
        given: what they were restored from.
        clean: what they should be; may be the same as `given`.
        tolerance: mean squared distance, of [0, 1], from which on an image counts as degraded.

    Raises:
        ValueError: the shapes differ.
    """
    gains = []
    for own, start, goal in zip(restored, given, clean, strict=True):
        before = _squared(start, goal)
        left = ((_squared(own, goal) + tolerance) / (before + tolerance)).sqrt()
        gains.append(_degraded(before, tolerance) * (1 - left))
    return 1 - torch.stack(gains).mean(dim=0)


def tone_loss(lit: Tensor, given: Tensor, clean: Tensor, tolerance: float) -> Tensor:
    """Return the share (B,) of the distance to the clean image that is left by a right tone.

    Distances are those of means over 4 x 4 pixels. Above 1 where a clean image was changed.

    Args:
        lit: (B, 3, H, W), about [0, 1]; H and W at least 8.
        given: what it was made of.
        clean: what it should be; may be the same as `given`.
        tolerance: mean squared distance of [0, 1] that costs a clean image a root of two.

    Raises:
        ValueError: the shapes differ.
    """
    for image in (lit, given):  # whole: means over cells leave out what is left over at the edges
        check_same_shape(image, clean)
    own, start, goal = (F.avg_pool2d(image, _CELL) for image in (lit, given, clean))
    before, after = _squared(start, goal), _squared(own, goal)
    return ((after + tolerance) / (before + tolerance)).sqrt()


def judgement_loss(logits: Tensor, given: Images, clean: Images, tolerance: float) -> Tensor:
    """Return the cross entropy (B,) of the estimate which images are degraded.

    Args:
        logits: (B, 2, h, w), of the visible and of the infrared image.
        given: visible (B, 3, H, W) and infrared (B, 1, H, W).
        clean: what they should be.
        tolerance: mean squared distance of [0, 1] at which an image counts as half degraded.

    Raises:
        ValueError: the shapes differ.
    """
    before = torch.stack([_squared(*pair) for pair in zip(given, clean, strict=True)], dim=1)
    wanted = _degraded(before, tolerance)[:, :, None, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return entropy.mean(dim=(1, 2, 3))


def _degraded(squared: Tensor, tolerance: float) -> Tensor:
    """Return how much an image at that distance from the clean one counts as degraded."""
    return squared / (squared + tolerance)


def _squared(one_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    """Return the mean squared distance of pixels and, weighed, of slopes (B,)."""
    check_same_shape(one_BCHW, other_BCHW)
    change = one_BCHW - other_BCHW
    slopes = sum(slope.square() for slope in sobel(change, "reflect"))
    return (change.square() + _SLOPES * slopes).mean(dim=(1, 2, 3))
