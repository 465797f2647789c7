"""Visual information fidelity of the fused image, in the pixel domain.

Legend: B = batch, H, W = height and width, K = window size. Inputs are gray images (B, H, W) in
[0, 255].
"""

import torch
from torch import Tensor

from dtpf.core.metrics.bands import bands
from dtpf.core.metrics.windows import Moments, covariance, moments
from dtpf.core.ops.filters import filter_windows
from dtpf.core.ops.ssim import gaussian_window

_SCALES = (17, 9, 5, 3)  # Gaussian windows, sigma one fifth of the size
_NOISE = 2.0  # sigma_n^2, variance of the visual noise
_EPSILON = 1e-10  # against division by zero
MINIMUM_SIDE = 41  # below it the coarsest scale has no complete window


def vif(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """VIF, the share of each source's visual information found in the fused image, summed.

    At each of four scales s (Gaussian windows of 17, 9, 5, 3 pixels, halved in between), with
    window variances and covariance: gain g = cov(A, F) / var(A), rest v = var(F) - g cov(A, F),
    VIF(A) = sum log(1 + g^2 var(A) / (v + 2)) / sum log(1 + var(A) / 2), over all windows that
    lie inside the image and all scales. The metric is VIF(A) + VIF(B). Higher is better: 2 where
    both sources equal the fused image, more where contrast is raised. Differentiable.
    Source: Sheikh and Bovik 2006, IEEE TIP 15(2), doi 10.1109/TIP.2005.859378 (pixel-domain
    version of the authors); for fusion as the sum over both sources.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike, at least 41 x 41.
        visible_BHW: source A.
        infrared_BHW: source B.

    Returns:
        (B,), 0 and up; a source without any variance counts as fully kept (1).

    Raises:
        ValueError: a side is shorter than 41 pixels.
    """
    if min(fused_BHW.shape[-2:]) < MINIMUM_SIDE:
        raise ValueError(f"VIF needs {MINIMUM_SIDE} pixels a side, got {tuple(fused_BHW.shape)}")
    # Only variances matter: removing the mean first keeps them exact for flat images.
    images = [
        image - image.mean(dim=(1, 2), keepdim=True)
        for image in (fused_BHW, visible_BHW, infrared_BHW)
    ]
    kept = [images[0].new_zeros(images[0].shape[0]) for _ in range(2)]
    total = [torch.zeros_like(part) for part in kept]
    for level, size in enumerate(_SCALES):
        window = gaussian_window(size, size / 5, dtype=images[0].dtype, device=images[0].device)
        if level:
            images = [filter_windows(image, window, step=2) for image in images]
        for band in bands(tuple(images), size):
            fused = moments(band[0], window)
            for index, source in enumerate(band[1:]):
                kept_here, total_here = _information(fused, moments(source, window), window)
                kept[index], total[index] = kept[index] + kept_here, total[index] + total_here
    return _share(kept[0], total[0]) + _share(kept[1], total[1])


def _information(fused: Moments, source: Moments, window_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return the source's information that was kept and all there was, each (B,), in nats."""
    shared = covariance(fused, source, window_K)
    gain = (shared / (source.variance + _EPSILON)).clamp(min=0.0)
    rest = (fused.variance - gain * shared).clamp(min=0.0)
    kept = torch.log1p(gain.square() * source.variance / (rest + _NOISE))
    return kept.sum(dim=(1, 2)), torch.log1p(source.variance / _NOISE).sum(dim=(1, 2))


def _share(kept_B: Tensor, total_B: Tensor) -> Tensor:
    empty = total_B == 0
    return torch.where(empty, 1.0, kept_B / torch.where(empty, 1.0, total_B))
