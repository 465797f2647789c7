"""Reflection padding of images of any size up to a multiple of the network's stride.

Legend: B = batch, C = channels, H, W = height and width.
"""

import torch.nn.functional as F
from torch import Tensor


def reflect_pad_to_multiple(image_BCHW: Tensor, multiple: int) -> Tensor:
    """Pad at the bottom and at the right until both sides divide by `multiple`.

    The image is mirrored without repeating its border, again and again where the padding is
    longer than the image, so every size from 2 x 2 works. Undo with `[..., :H, :W]`.

    Args:
        image_BCHW: any float image batch.
        multiple: what both sides of the result divide by; positive.

    Raises:
        ValueError: `multiple` is not positive, the input is not four-dimensional, or a side that
            needs padding has a single pixel (nothing to mirror).
    """
    if multiple < 1:
        raise ValueError(f"multiple must be positive, got {multiple}")
    if image_BCHW.ndim != 4:
        raise ValueError(f"expected (B, C, H, W), got shape {tuple(image_BCHW.shape)}")
    height, width = image_BCHW.shape[-2:]
    return _extend(image_BCHW, -height % multiple, -width % multiple)


def reflect_pad_to_size(image_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Pad like `reflect_pad_to_multiple`, until the sides are at least `height` and `width`."""
    rows, columns = image_BCHW.shape[-2:]
    return _extend(image_BCHW, max(height - rows, 0), max(width - columns, 0))


def _extend(image_BCHW: Tensor, bottom: int, right: int) -> Tensor:
    height, width = image_BCHW.shape[-2:]
    if (bottom and height == 1) or (right and width == 1):
        raise ValueError(f"cannot mirror a side of one pixel: {height} x {width}")
    padded = image_BCHW
    while bottom or right:
        # One mirror image is at most as long as what it mirrors, less the border.
        down, aside = min(bottom, padded.shape[-2] - 1), min(right, padded.shape[-1] - 1)
        padded = F.pad(padded, (0, aside, 0, down), mode="reflect")
        bottom, right = bottom - down, right - aside
    return padded
