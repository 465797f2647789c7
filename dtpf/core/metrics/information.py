"""Information metrics: entropy of the fused image and mutual information with its sources.

Legend: B = batch, H, W = height and width. Inputs are gray images (B, H, W) in [0, 255]; values
are counted in 256 bins, one for each 8-bit level (values between two levels go to the nearer).
Neither metric has a derivative: both count.
"""

import math

import torch
from torch import Tensor

from dtpf.core.metrics.bands import bands

_LEVELS = 256


def entropy(image_BHW: Tensor) -> Tensor:
    """EN, Shannon entropy of the 256-bin histogram: -sum p log2 p.

    Higher is better. Measures how evenly gray levels are used; noise raises it too.
    Source: Roberts et al. 2008, J. Appl. Remote Sensing 2(1), doi 10.1117/1.2945910.

    Args:
        image_BHW: gray images in [0, 255].

    Returns:
        (B,) in bits, 0 (constant) to 8 (all levels equally often).
    """
    return _entropy_of_counts(_count(_levels(image_BHW), _LEVELS))


def mutual_information(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """MI, what the fused image tells about its sources: I(A; F) + I(B; F).

    I(A; F) = H(A) + H(F) - H(A, F) from the 256 x 256 joint histogram. Higher is better, but
    copying one source scores highest of all.
    Source: Qu, Zhang and Yan 2002, Electronics Letters 38(7), doi 10.1049/el:20020212.

    Args:
        fused_BHW: gray images in [0, 255]; the sources alike.
        visible_BHW: first source.
        infrared_BHW: second source.

    Returns:
        (B,) in bits, 0 to 16.
    """
    return _shared_bits(visible_BHW, fused_BHW) + _shared_bits(infrared_BHW, fused_BHW)


def _shared_bits(source_BHW: Tensor, fused_BHW: Tensor) -> Tensor:
    joint = torch.zeros(
        source_BHW.shape[0], _LEVELS**2, dtype=torch.int64, device=source_BHW.device
    )
    for source, fused in bands((source_BHW, fused_BHW), 1):
        joint = joint + _count(_levels(source) * _LEVELS + _levels(fused), _LEVELS**2)
    grid = joint.view(-1, _LEVELS, _LEVELS)
    alone = _entropy_of_counts(grid.sum(2)) + _entropy_of_counts(grid.sum(1))
    return alone - _entropy_of_counts(joint)


def _levels(image_BHW: Tensor) -> Tensor:
    """Return the 8-bit level of every pixel, (B, H * W) of int64."""
    return image_BHW.detach().round().clamp(0, _LEVELS - 1).long().flatten(1)


def _count(codes_BN: Tensor, kinds: int) -> Tensor:
    """Return how often each code 0..kinds - 1 occurs in each row, (B, kinds) of int64."""
    batch = codes_BN.shape[0]
    if batch == 1:
        return torch.bincount(codes_BN[0], minlength=kinds)[None]
    offset = torch.arange(batch, device=codes_BN.device)[:, None] * kinds
    return torch.bincount((codes_BN + offset).flatten(), minlength=batch * kinds).view(batch, kinds)


def _entropy_of_counts(counts_BK: Tensor) -> Tensor:
    share = counts_BK.double() / counts_BK.sum(dim=1, keepdim=True)
    return torch.special.entr(share).sum(dim=1) / math.log(2.0)
