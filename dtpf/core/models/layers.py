"""Convolutions and resampling on channels-last feature maps, and the gated feed-forward layer.

Features are (B, H, W, C) in memory from end to end: a 1x1 convolution is then one matrix product,
a layer norm reads consecutive numbers, and 3x3 convolutions see PyTorch's `channels_last` layout
through a permuted view. Nothing is copied between them.
Legend: B = batch, H, W = height and width, C = channels.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core import kernels
from dtpf.core.kernels import Affine

_VECTOR = 16  # numbers in a vector register: other hidden sizes run up to ten times slower


def pointwise(inputs: int, outputs: int) -> nn.Linear:
    """Return a 1x1 convolution without bias for (B, H, W, C)."""
    return nn.Linear(inputs, outputs, bias=False)


class Conv(nn.Conv2d):
    """Square convolution on (B, H, W, C), without bias unless asked; zeros outside the image."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, groups: int = 1, bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, outputs)."""
        return super().forward(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DepthwiseConv(Conv):
    """Convolution of every channel with its own kernel."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__(channels, channels, kernel, groups=channels)


class Downsample(nn.Module):
    """3x3 convolution to half the channels, then 2x2 pixels to channels (pixel unshuffle).

    The four pixels of a cell follow each other row by row, each with all its channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels, channels // 2)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H/2, W/2, 2C)."""
        batch, height, width, _ = x_BHWC.shape
        cells = self.conv(x_BHWC).reshape(batch, height // 2, 2, width // 2, 2, -1)
        return cells.transpose(2, 3).flatten(3)


class Upsample(nn.Module):
    """3x3 convolution to twice the channels, then channels to 2x2 pixels; inverts `Downsample`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels, 2 * channels)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, 2H, 2W, C/2)."""
        batch, height, width, _ = x_BHWC.shape
        cells = self.conv(x_BHWC).unflatten(3, (2, 2, -1))
        return cells.transpose(2, 3).reshape(batch, 2 * height, 2 * width, -1)


class FeedForward(nn.Module):
    """Gated depth-wise feed-forward layer of Restormer (Zamir et al., CVPR 2022, equation 3).

    Half of the hidden channels, through GELU, weigh the other half. Their number is the expansion
    times the channels, rounded up to a multiple of 16.
    """

    context = 1  # rows beyond a strip that its result depends on
    multiple = 1  # what the height of a strip divides by
    has_kernel = True

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = math.ceil(channels * expansion / _VECTOR) * _VECTOR
        self.expand = pointwise(channels, 2 * hidden)
        self.mix = DepthwiseConv(2 * hidden)
        self.reduce = pointwise(hidden, channels)

    def forward(self, x_BHWC: Tensor, above: int = 0, below: int = 0) -> Tensor:
        """Return (B, H - above - below, W, C): all rows but those that are only context."""
        mixed = self.mix(self.expand(x_BHWC))[:, above : x_BHWC.shape[1] - below]
        gate, value = mixed.chunk(2, dim=-1)
        return self.reduce(F.gelu(gate) * value)

    def call_kernel(self, x_BHWC: Tensor, norm: Affine, result: Tensor) -> None:
        """Write x + self(norm(x)) to `result` by compiled code; all contiguous."""
        kernels.feed_forward(x_BHWC, norm, *self._weights(), result)

    def record_kernel(self, x_BHWC: Tensor, norm: Affine) -> Tensor:
        """Return x + self(norm(x)), with gradients, by compiled code."""
        result: Tensor = kernels.FeedForwardFunction.apply(x_BHWC, *norm, *self._weights())
        return result

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.expand.weight, self.mix.weight, self.reduce.weight


class TwoConvs(nn.Module):
    """Two 3x3 convolutions with GELU between them: what a network without attention is made of."""

    context = 2  # rows beyond a strip that its result depends on
    multiple = 1  # what the height of a strip divides by
    has_kernel = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels, bias=True)
        self.second = Conv(channels, channels, bias=True)

    def forward(self, x_BHWC: Tensor, above: int = 0, below: int = 0) -> Tensor:
        """Return (B, H - above - below, W, C): all rows but those that are only context."""
        result = self.second(F.gelu(self.first(x_BHWC)))
        return result[:, above : x_BHWC.shape[1] - below]
