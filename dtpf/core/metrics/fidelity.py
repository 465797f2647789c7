"""Visual information fidelity of the fused image, in the pixel domain.

Legend: B = batch, H, W = height and width, K = window size. Inputs are gray images (B, H, W) in
[0, 255].
"""

import torch
from torch import Tensor

from dtpf.core.ops.ssim import gaussian_window

_SCALES = (17, 9, 5, 3)  # Gaussian windows, sigma one fifth of the size
_NOISE = 2.0  # sigma_n^2, variance of the visual noise
_FLAT = 1e-10  # a window with less variance counts as flat
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
    images = torch.stack((fused_BHW, visible_BHW, infrared_BHW))
    images = images - images.mean(dim=(2, 3), keepdim=True)
    kept = torch.zeros(2, fused_BHW.shape[0], dtype=images.dtype, device=images.device)
    total = torch.zeros_like(kept)
    for level, size in enumerate(_SCALES):
        window = gaussian_window(size, size / 5, dtype=images.dtype, device=images.device)
        if level:
            images = _filter(images, window, step=2)
        kept_here, total_here = _information(images, window)
        kept, total = kept + kept_here, total + total_here
    return torch.where(total == 0, 1.0, kept / torch.where(total == 0, 1.0, total)).sum(dim=0)


def _information(images_3BHW: Tensor, window_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return the information kept of both sources and all there was, each (2, B), in nats."""
    fused, sources = images_3BHW[:1], images_3BHW[1:]
    moments = torch.cat((images_3BHW, images_3BHW.square(), fused * sources))
    means, squares, products = _filter(moments, window_K).split((3, 3, 2))
    variances = (squares - means.square()).clamp(min=0.0)
    covariance = products - means[:1] * means[1:]
    rest_all, source = variances[:1].expand_as(covariance), variances[1:]
    gain = covariance / (source + _FLAT)
    usable = (source >= _FLAT) & (rest_all >= _FLAT) & (gain >= 0)
    gain = torch.where(usable, gain, 0.0)
    rest = torch.where(usable, rest_all - gain * covariance, rest_all).clamp(min=_FLAT)
    source = torch.where(source >= _FLAT, source, 0.0)
    kept = torch.log1p(gain.square() * source / (rest + _NOISE))
    return kept.sum(dim=(2, 3)), torch.log1p(source / _NOISE).sum(dim=(2, 3))


def _filter(stack_NBHW: Tensor, window_K: Tensor, step: int = 1) -> Tensor:
    """Filter rows and columns where the window fits, keeping every `step`-th result.

    Sums of shifted copies: in float64 on a CPU ten times faster than a convolution.
    """
    return _shifted_sum(_shifted_sum(stack_NBHW, window_K, step, 2), window_K, step, 3)


def _shifted_sum(stack: Tensor, window_K: Tensor, step: int, dim: int) -> Tensor:
    count = stack.shape[dim] - window_K.numel() + 1
    weights = window_K.tolist()
    total = weights[0] * stack.narrow(dim, 0, count)[_every(step, dim)]
    for shift, weight in enumerate(weights[1:], start=1):
        total.add_(stack.narrow(dim, shift, count)[_every(step, dim)], alpha=weight)
    return total


def _every(step: int, dim: int) -> tuple[slice, ...]:
    return (slice(None),) * dim + (slice(None, None, step),)
