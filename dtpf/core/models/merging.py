"""How the two encoder streams become one: the paper's modules and those of its Table IV.

Every module takes two feature maps (B, H, W, C) of one level and returns one (B, H, W, C).
Legend: B = batch, H, W = height and width, C = channels, M = mixed kernels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.blocks import blocks, channel_block, spatial_block
from dtpf.core.models.config import LEVELS, ModelConfig
from dtpf.core.models.layers import DepthwiseConv, pointwise


class CrossFusion(nn.Module):
    """Spatial-channel cross fusion (SCFM) of the lowest level, equations (6) to (8).

    Each stream takes the spatial attention of itself and the channel attention of the other.
    """

    def __init__(self, channels: int, level: int, config: ModelConfig) -> None:
        super().__init__()
        self.visible_spatial = spatial_block(channels, level, config)
        self.visible_channel = channel_block(channels, level, config)
        self.infrared_spatial = spatial_block(channels, level, config)
        self.infrared_channel = channel_block(channels, level, config)
        self.visible_out = pointwise(2 * channels, channels)
        self.infrared_out = pointwise(2 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        own, other = self.visible_spatial(visible), self.infrared_channel(infrared)
        new_visible = self.visible_out(torch.cat((own, other), dim=-1))
        own, other = self.infrared_spatial(infrared), self.visible_channel(visible)
        return new_visible + self.infrared_out(torch.cat((own, other), dim=-1))


class JointFusion(nn.Module):
    """Fusion of the upper levels: one block over both streams' channels, then a 1x1 convolution."""

    def __init__(self, channels: int, level: int, config: ModelConfig) -> None:
        super().__init__()
        self.block = blocks(1, 2 * channels, level, config)
        self.out = pointwise(2 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        return self.out(self.block(torch.cat((visible, infrared), dim=-1)))


class ConcatFusion(nn.Module):
    """Concatenation and a 1x1 convolution (ablation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = pointwise(2 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        return self.out(torch.cat((visible, infrared), dim=-1))


class UnlearnedFusion(nn.Module):
    """Average weighted by activity, without parameters (ablation).

    Each pixel's weights are the softmax, over the two streams, of the mean absolute feature.
    """

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        activity = visible.abs().mean(-1, keepdim=True) - infrared.abs().mean(-1, keepdim=True)
        return torch.lerp(infrared, visible, torch.sigmoid(activity))


class DynamicFusion(nn.Module):
    """1x1 convolution whose kernel is mixed for each image from four (ablation).

    The mixture is the softmax of a linear map of the image's mean features, as in dynamic
    convolution (Chen et al., CVPR 2020).
    """

    def __init__(self, channels: int, kernels: int = 4) -> None:
        super().__init__()
        self.mixture = nn.Linear(2 * channels, kernels)
        self.kernels = nn.Parameter(torch.empty(kernels, 2 * channels, channels))
        bound = (2 * channels) ** -0.5
        nn.init.uniform_(self.kernels, -bound, bound)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        both_BHWC = torch.cat((visible, infrared), dim=-1)
        weight_BM = torch.softmax(self.mixture(both_BHWC.mean(dim=(1, 2))), dim=-1)
        kernel_BCC = torch.einsum("bm,mio->bio", weight_BM, self.kernels)
        return torch.bmm(both_BHWC.flatten(1, 2), kernel_BCC).view(visible.shape)


class MultiscaleFusion(nn.Module):
    """Depth-wise 3x3, 5x5 and 7x7 convolutions side by side, then a 1x1 convolution (ablation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(DepthwiseConv(2 * channels, kernel) for kernel in (3, 5, 7))
        self.out = pointwise(6 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the fused features."""
        both = torch.cat((visible, infrared), dim=-1)
        return self.out(F.gelu(torch.cat([scale(both) for scale in self.scales], dim=-1)))


def merging(level: int, config: ModelConfig) -> nn.Module:
    """Return the fusion module of `level` (0 to 3) that `config.fusion` names."""
    channels = config.widths[level]
    match config.fusion:
        case "scfm":
            kind = CrossFusion if level == LEVELS - 1 else JointFusion
            return kind(channels, level, config)
        case "concat":
            return ConcatFusion(channels)
        case "unlearned":
            return UnlearnedFusion()
        case "dynamic":
            return DynamicFusion(channels)
        case "multiscale":
            return MultiscaleFusion(channels)
