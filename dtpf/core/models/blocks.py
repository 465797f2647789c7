"""Residual blocks: an attention or a feed-forward layer on normalised features, added to its input.

The paper writes the norm behind the attention, F + LN(MHA(F)) (equations 4 and 5), and names
Restormer and X-Restormer as its construction; both normalise before, F + MHA(LN(F)), and so do we:
the sum of residuals then stays unscaled from the first layer to the last, which is what lets these
networks train without warm-up, and the parameters are the same.
Legend: B = batch, H, W = height and width, C = channels.
"""

import torch
from torch import Tensor, nn

from dtpf.core.models.attention import ChannelAttention, WindowAttention, mix_channels
from dtpf.core.models.config import ModelConfig
from dtpf.core.models.layers import FeedForward
from dtpf.core.models.strips import fits_at_once, strips


class LocalResidual(nn.Module):
    """x + layer(LayerNorm(x)) for a layer that looks `layer.context` rows around."""

    def __init__(self, channels: int, layer: FeedForward | WindowAttention, multiple: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.layer = layer
        self.multiple = multiple

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        if fits_at_once(x_BHWC):
            return x_BHWC + self.layer(self.norm(x_BHWC))
        result = torch.empty_like(x_BHWC)
        for images in strips(x_BHWC, self.multiple):
            for strip in images:
                around, above, below = strip.with_context(x_BHWC, self.layer.context)
                change = self.layer(self.norm(around), above, below)
                torch.add(strip.of(x_BHWC), change, out=strip.of(result))
        return result


class ChannelResidual(nn.Module):
    """x + attention(LayerNorm(x)) for channel attention, which first looks at the whole image."""

    def __init__(self, channels: int, layer: ChannelAttention) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.layer = layer

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        if fits_at_once(x_BHWC):
            return x_BHWC + self.layer(self.norm(x_BHWC))
        result = torch.empty_like(x_BHWC)  # holds the values until their weights are known
        for images in strips(x_BHWC, multiple=1):
            moments = None
            for strip in images:
                around, above, below = strip.with_context(x_BHWC, self.layer.context)
                found, value = self.layer.look(self.norm(around), above, below)
                strip.of(result).copy_(value)
                moments = found if moments is None else moments.plus(found)
            assert moments is not None
            weight = self.layer.weight(moments)
            for strip in images:
                part = strip.of(result)
                torch.add(strip.of(x_BHWC), mix_channels(part, weight), out=part)
        return result


def channel_block(channels: int, level: int, config: ModelConfig) -> nn.Sequential:
    """Return channel attention (TSAB) and a feed-forward layer; `level` 0 to 3 sets the heads."""
    attention = ChannelAttention(channels, config.channel_heads[level])
    return nn.Sequential(ChannelResidual(channels, attention), _feed_forward(channels, config))


def spatial_block(channels: int, level: int, config: ModelConfig) -> nn.Sequential:
    """Return spatial attention (SSAB) and a feed-forward layer; `level` 0 to 3 sets the heads."""
    attention = WindowAttention(
        channels, config.spatial_heads[level], config.head_dim, config.window, config.margin
    )
    residual = LocalResidual(channels, attention, config.window)
    return nn.Sequential(residual, _feed_forward(channels, config))


def block(channels: int, level: int, config: ModelConfig) -> nn.Sequential:
    """Return one spatial-channel block of equation (3): TSAB, FFN, SSAB, FFN."""
    return nn.Sequential(
        *channel_block(channels, level, config), *spatial_block(channels, level, config)
    )


def blocks(count: int, channels: int, level: int, config: ModelConfig) -> nn.Sequential:
    """Return `count` blocks one after the other."""
    return nn.Sequential(*(block(channels, level, config) for _ in range(count)))


def _feed_forward(channels: int, config: ModelConfig) -> LocalResidual:
    return LocalResidual(channels, FeedForward(channels, config.ffn_expansion), multiple=1)
