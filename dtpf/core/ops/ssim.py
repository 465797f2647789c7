"""Structural similarity, Wang et al. 2004 (IEEE TIP, doi 10.1109/TIP.2003.819861).

Legend: B = batch, C = channels, H, W = height and width, K = window size.
"""

import torch
from torch import Tensor

from dtpf.core.ops.filters import filter_windows
from dtpf.core.ops.shapes import check_same_shape

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def gaussian_window(
    size: int = WINDOW_SIZE,
    sigma: float = WINDOW_SIGMA,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Return a sampled Gaussian (K,) that sums to one.

    Raises:
        ValueError: an even or non-positive size, or a sigma that is not positive.
    """
    if size < 1 or size % 2 == 0 or sigma <= 0:
        raise ValueError(f"need an odd size and a positive sigma, got {size} and {sigma}")
    offset = torch.arange(size, dtype=torch.float64, device=device) - size // 2
    weights = torch.exp(-0.5 * (offset / sigma) ** 2)
    return (weights / weights.sum()).to(dtype)


def gaussian_filter(image_BCHW: Tensor, window_K: Tensor) -> Tensor:
    """Filter rows and columns with `window_K` where it fits: (B, C, H - K + 1, W - K + 1)."""
    return filter_windows(image_BCHW.flatten(0, 1), window_K).unflatten(0, image_BCHW.shape[:2])


def ssim_map(first_BCHW: Tensor, second_BCHW: Tensor, data_range: float = 1.0) -> Tensor:
    """Return the SSIM index of every window that lies inside the image.

    Args:
        first_BCHW: images whose values span `data_range`.
        second_BCHW: images of the same shape.
        data_range: 1.0 for images in [0, 1], 255.0 for 8-bit values.

    Returns:
        (B, C, H - 10, W - 10), each value in [-1, 1]; its mean is the usual SSIM.

    Raises:
        ValueError: shapes differ, or a side is shorter than the 11-pixel window.
    """
    check_same_shape(first_BCHW, second_BCHW)
    if min(first_BCHW.shape[-2:]) < WINDOW_SIZE:
        raise ValueError(f"SSIM needs {WINDOW_SIZE} pixels a side, got {tuple(first_BCHW.shape)}")
    window = gaussian_window(dtype=first_BCHW.dtype, device=first_BCHW.device)
    moments = torch.cat(
        (
            first_BCHW,
            second_BCHW,
            first_BCHW.square(),
            second_BCHW.square(),
            first_BCHW * second_BCHW,
        )
    )
    mean_a, mean_b, square_a, square_b, product = gaussian_filter(moments, window).chunk(5)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    variance_a, variance_b = square_a - mean_a.square(), square_b - mean_b.square()
    covariance = product - mean_a * mean_b
    luminance = (2.0 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2.0 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance * structure
