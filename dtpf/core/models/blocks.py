"""Residual blocks: an attention or a feed-forward layer on normalised features, added to its input.

The paper writes the norm behind the attention, F + LN(MHA(F)) (equations 4 and 5), and names
Restormer and X-Restormer as its construction; both normalise before, F + MHA(LN(F)), and so do we:
the sum of residuals then stays unscaled from the first layer to the last, which is what lets these
networks train without warm-up, and the parameters are the same.
Legend: B = batch, H, W = height and width, C = channels.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dtpf.core import kernels
from dtpf.core.models.attention import (
    ChannelAttention,
    WindowAttention,
    mix_channels,
)
from dtpf.core.models.config import ModelConfig
from dtpf.core.models.layers import FeedForward, TwoConvs
from dtpf.core.models.moments import ChannelMoments, as_seen, total
from dtpf.core.models.strips import Strip, fits_at_once, strips


class Residual(nn.Module, ABC):
    """x + layer(LayerNorm(x)) over the channels of (B, H, W, C)."""

    def __init__(
        self, channels: int, layer: FeedForward | TwoConvs | WindowAttention | ChannelAttention
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.layer = layer

    def forward(self, x_BHWC: Tensor, spare: Tensor | None = None) -> Tensor:
        """Return (B, H, W, C).

        Args:
            x_BHWC: the features.
            spare: a tensor of the same shape that nobody needs any more; may become the result.
        """
        if self.layer.has_kernel and kernels.take(x_BHWC):
            return self._by_kernel(x_BHWC.contiguous(), spare)
        if fits_at_once(x_BHWC):
            return x_BHWC + self.layer(self.norm(x_BHWC))
        result = torch.empty_like(x_BHWC) if spare is None else spare
        for images in strips(x_BHWC, self.layer.multiple):
            self._write(x_BHWC, images, result)
        return result

    @abstractmethod
    def _write(self, x_BHWC: Tensor, images: list[Strip], result: Tensor) -> None:
        """Compute some images strip by strip."""

    def _by_kernel(self, x_BHWC: Tensor, spare: Tensor | None) -> Tensor:
        norm = kernels.Affine(self.norm.weight, self.norm.bias, self.norm.eps)
        if torch.is_grad_enabled():
            return self._record_kernel(x_BHWC, norm)
        result = torch.empty_like(x_BHWC) if spare is None else spare.contiguous()
        self._call_kernel(x_BHWC, norm, result)
        return result

    @abstractmethod
    def _call_kernel(self, x_BHWC: Tensor, norm: kernels.Affine, result: Tensor) -> None:
        """Compute all images in compiled code; both tensors are contiguous."""

    @abstractmethod
    def _record_kernel(self, x_BHWC: Tensor, norm: kernels.Affine) -> Tensor:
        """Compute all images in compiled code, for gradients."""


class LocalResidual(Residual):
    """Residual of a layer that looks `layer.context` rows around, and no further."""

    layer: FeedForward | TwoConvs | WindowAttention

    def _write(self, x_BHWC: Tensor, images: list[Strip], result: Tensor) -> None:
        for strip in images:
            around, above, below = strip.with_context(x_BHWC, self.layer.context)
            change = self.layer(self.norm(around), above, below)
            torch.add(strip.of(x_BHWC), change, out=strip.of(result))

    def _call_kernel(self, x_BHWC: Tensor, norm: kernels.Affine, result: Tensor) -> None:
        assert isinstance(self.layer, FeedForward | WindowAttention)
        self.layer.call_kernel(x_BHWC, norm, result)

    def _record_kernel(self, x_BHWC: Tensor, norm: kernels.Affine) -> Tensor:
        assert isinstance(self.layer, FeedForward | WindowAttention)
        return self.layer.record_kernel(x_BHWC, norm)


class ChannelResidual(Residual):
    """Residual of channel attention, which looks at whole images before it changes them."""

    layer: ChannelAttention

    def _write(self, x_BHWC: Tensor, images: list[Strip], result: Tensor) -> None:
        moments = []
        for strip in images:
            around, above, below = strip.with_context(x_BHWC, self.layer.context)
            found, value = self.layer.look(self.norm(around), above, below)
            moments.append(found)
            strip.of(result).copy_(value)  # until their weights are known
        weight = self.layer.weight(as_seen(self.layer, total(moments)))
        for strip in images:
            part = strip.of(result)
            torch.add(strip.of(x_BHWC), mix_channels(part, weight), out=part)

    def _call_kernel(self, x_BHWC: Tensor, norm: kernels.Affine, result: Tensor) -> None:
        layer = self.layer
        sums = kernels.look(x_BHWC, norm, layer.qkv.weight, layer.mix.weight, layer.heads, result)
        weight = layer.weight(as_seen(layer, ChannelMoments(*sums)))
        kernels.mix_channels(x_BHWC, result, weight, result)

    def _record_kernel(self, x_BHWC: Tensor, norm: kernels.Affine) -> Tensor:
        layer = self.layer
        value_BHWC, *sums = kernels.LookFunction.apply(
            x_BHWC, *norm, layer.qkv.weight, layer.mix.weight, layer.heads
        )
        weight = layer.weight(as_seen(layer, ChannelMoments(*sums)))
        return x_BHWC + mix_channels(value_BHWC, weight)


class Chain(nn.Sequential):
    """Residuals one after the other; without gradients, two tensors take turns as their results.

    Fresh memory costs as much time as the arithmetic of a layer.
    """

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C); the input stays as it is."""
        given, spare = x_BHWC, None
        for residual in self:
            result = residual(x_BHWC, spare)
            spare = None if x_BHWC is given else x_BHWC
            x_BHWC = result
        return x_BHWC


def channel_block(channels: int, level: int, config: ModelConfig) -> Chain:
    """Return channel attention (TSAB) and a feed-forward layer; `level` 0 to 3 sets the heads."""
    if config.block == "convolution":
        return convolutions(1, channels)
    attention = ChannelAttention(channels, config.channel_heads[level])
    return Chain(ChannelResidual(channels, attention), _feed_forward(channels, config))


def spatial_block(channels: int, level: int, config: ModelConfig) -> Chain:
    """Return spatial attention (SSAB) and a feed-forward layer; `level` 0 to 3 sets the heads."""
    if config.block == "convolution":
        return convolutions(1, channels)
    heads = config.spatial_heads[level]
    attention = WindowAttention(channels, heads, config.head_dim, config.window, config.margin)
    return Chain(LocalResidual(channels, attention), _feed_forward(channels, config))


def blocks(count: int, channels: int, level: int, config: ModelConfig) -> Chain:
    """Return `count` spatial-channel blocks of equation (3), each TSAB, FFN, SSAB, FFN.

    With `config.block` of `convolution`, each is two convolutions, and so are those above.
    """
    if config.block == "convolution":
        return convolutions(count, channels)
    parts: list[nn.Module] = []
    for _ in range(count):
        parts.extend(channel_block(channels, level, config))
        parts.extend(spatial_block(channels, level, config))
    return Chain(*parts)


def convolutions(count: int, channels: int) -> Chain:
    """Return `count` residuals of two 3x3 convolutions each."""
    return Chain(*(LocalResidual(channels, TwoConvs(channels)) for _ in range(count)))


def _feed_forward(channels: int, config: ModelConfig) -> LocalResidual:
    return LocalResidual(channels, FeedForward(channels, config.ffn_expansion))
