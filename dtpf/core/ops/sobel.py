"""Sobel derivatives and their magnitude.

Legend: B = batch, C = channels, H, W = height and width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["replicate", "reflect", "constant"]


def sobel(image_BCHW: Tensor, border: Border = "replicate") -> tuple[Tensor, Tensor]:
    """Return the horizontal and vertical Sobel derivatives, each (B, C, H, W).

    The 3x3 kernels are the unnormalised ones, [1, 2, 1] across [-1, 0, 1]: a step of height one
    gives 4. Positive means brighter to the right, and brighter below.

    Args:
        image_BCHW: float images of any range.
        border: how pixels outside are filled: the nearest one, the mirrored one, or zero.

    Raises:
        ValueError: the input is not four-dimensional.
    """
    if image_BCHW.ndim != 4:
        raise ValueError(f"expected (B, C, H, W), got shape {tuple(image_BCHW.shape)}")
    padded = F.pad(image_BCHW, (1, 1, 1, 1), mode=border)
    rows = padded[..., :-2, :] + 2.0 * padded[..., 1:-1, :] + padded[..., 2:, :]
    columns = padded[..., :-2] + 2.0 * padded[..., 1:-1] + padded[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def gradient_magnitude(image_BCHW: Tensor, border: Border = "replicate") -> Tensor:
    """Return sqrt(gx^2 + gy^2) of the Sobel derivatives (B, C, H, W).

    Exact also where the image is flat: the derivative there is taken as 0, not NaN.
    """
    across, down = sobel(image_BCHW, border)
    squared = across.square() + down.square()
    flat = squared == 0
    # The root of zero has no derivative: flat pixels go round it. (torch's vector_norm knows the
    # case too, but takes ten times as long.)
    return torch.where(flat, 0.0, torch.where(flat, 1.0, squared).sqrt())
