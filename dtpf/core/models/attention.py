"""The two attentions of the network: over channels, and over pixels in overlapping windows.

Legend: B = batch, H, W = height and width, N = H * W, C = channels, h = heads, D = channels of one
head, Q = queries and K = keys of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core import kernels
from dtpf.core.kernels import Affine
from dtpf.core.models.biased_attention import biased_attention
from dtpf.core.models.layers import DepthwiseConv, pointwise
from dtpf.core.models.moments import ChannelMoments, as_seen
from dtpf.core.models.windows import from_squares, to_overlapping, to_squares


class ChannelAttention(nn.Module):
    """Transposed attention (TSAB, equation 5): channels attend to channels over the whole image.

    As in Restormer (Zamir et al., CVPR 2022, equation 1): queries, keys and values pass a 3x3
    depth-wise convolution; queries and keys have unit length over the image; each head has its own
    temperature. Cost grows linearly with the number of pixels.
    """

    context = 1  # rows beyond a strip that its result depends on
    multiple = 1  # what the height of a strip divides by
    has_kernel = True

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, channels // heads
        self.temperature = nn.Parameter(torch.ones(heads))
        self.qkv = pointwise(channels, 3 * channels)
        self.mix = DepthwiseConv(3 * channels)
        self.out = pointwise(channels, channels)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        moments, value_BHWC = self.look(x_BHWC)
        return mix_channels(value_BHWC, self.weight(as_seen(self, moments)))

    def look(self, x_BHWC: Tensor, above: int = 0, below: int = 0) -> tuple[ChannelMoments, Tensor]:
        """Return the sums over all rows but those that are only context, and their values."""
        mixed_BHWC = self.mix(self.qkv(x_BHWC))[:, above : x_BHWC.shape[1] - below]
        query_BHWC, key_BHWC, value_BHWC = mixed_BHWC.chunk(3, dim=-1)
        query_BNC, key_BNC = query_BHWC.flatten(1, 2), key_BHWC.flatten(1, 2)
        moments = ChannelMoments(
            torch.bmm(query_BNC.transpose(1, 2), key_BNC),
            query_BNC.square().sum(dim=1),
            key_BNC.square().sum(dim=1),
        )
        return moments, value_BHWC

    def weight(self, moments: ChannelMoments) -> Tensor:
        """Return attention and output projection as one matrix (B, C in, C out) per image.

        Both are linear in the values, so their product, a few thousand numbers, replaces a
        pass over all pixels.
        """
        heads, size = self.heads, self.size
        blocks_BhDD = _heads(moments.product_BCC.view(-1, heads, size, heads, size))
        query_BhD1 = _length(moments.query_BC).view(-1, heads, size, 1)
        key_Bh1D = _length(moments.key_BC).view(-1, heads, 1, size)
        cosine_BhDD = blocks_BhDD / (query_BhD1 * key_Bh1D)
        attention_BhDD = torch.softmax(cosine_BhDD * self.temperature.view(-1, 1, 1), dim=-1)
        out_hDC = self.out.weight.view(-1, heads, size).permute(1, 2, 0)
        return (attention_BhDD.transpose(-1, -2) @ out_hDC).flatten(1, 2)


def _heads(blocks_BhDhD: Tensor) -> Tensor:
    """Return each head's products with itself (B, h, D, D)."""
    if not torch.jit.is_tracing():
        return blocks_BhDhD.diagonal(0, 1, 3).permute(0, 3, 1, 2)
    # In an ONNX graph the diagonal of two axes becomes a branch that cannot be quantised.
    return torch.stack([blocks_BhDhD[:, n, :, n] for n in range(blocks_BhDhD.shape[1])], dim=1)


def mix_channels(value_BHWC: Tensor, weight_BCC: Tensor) -> Tensor:
    """Multiply every pixel of an image by that image's matrix; returns (B, H, W, C out)."""
    return torch.bmm(value_BHWC.flatten(1, 2), weight_BCC).view(*value_BHWC.shape[:3], -1)


def _length(squares: Tensor) -> Tensor:
    return squares.clamp_min(1e-24).sqrt()


class WindowAttention(nn.Module):
    """Spatial attention in overlapping windows (SSAB, equation 4).

    As in X-Restormer (Chen et al., ECCV 2024): queries of a `window` x `window` square attend to
    the keys of the larger square around it, `margin` pixels further on each side. Outside the
    image, keys and values are zero. Each head adds a learned bias per offset of key to query.
    """

    offset: Tensor

    def __init__(self, channels: int, heads: int, head_dim: int, window: int, margin: int) -> None:
        super().__init__()
        self.heads, self.inner = heads, heads * head_dim
        self.window = self.multiple = window
        self.context = margin
        self.qkv = pointwise(channels, 3 * self.inner)
        self.out = pointwise(self.inner, channels)
        self.bias = nn.Parameter(torch.empty(heads, (2 * (window + margin) - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("offset", _offsets(window, margin), persistent=False)
        self.has_kernel = (window, margin, head_dim) == kernels.WINDOW_SIZES

    def forward(self, x_BHWC: Tensor, above: int = 0, below: int = 0) -> Tensor:
        """Return (B, H - above - below, W, C): all rows but those that are only context.

        The rows of the result and W must divide by the window.
        """
        stop = x_BHWC.shape[1] - below
        weight_q, weight_kv = self.qkv.weight.split((self.inner, 2 * self.inner))
        query_BHWI = F.linear(x_BHWC[:, above:stop], weight_q)
        pair_BHWI = F.linear(x_BHWC, weight_kv)
        margin = self.context
        pair_BHWI = F.pad(pair_BHWI, (0, 0, margin, margin, margin - above, margin - below))
        key, value = to_overlapping(pair_BHWI, self.window, margin, 2 * self.heads).chunk(2, dim=1)
        query = to_squares(query_BHWI, self.window, self.heads)
        mixed = biased_attention(query, key, value, self.bias[:, self.offset])
        return self.out(from_squares(mixed, query_BHWI.shape, self.window))

    def call_kernel(self, x_BHWC: Tensor, norm: Affine, result: Tensor) -> None:
        """Write x + self(norm(x)) to `result` by compiled code; all contiguous."""
        kernels.window_attention(x_BHWC, norm, *self._weights(), result)

    def record_kernel(self, x_BHWC: Tensor, norm: Affine) -> Tensor:
        """Return x + self(norm(x)), with gradients, by compiled code."""
        result: Tensor = kernels.WindowsFunction.apply(x_BHWC, *norm, *self._weights())
        return result

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.qkv.weight, self.out.weight, self.bias


def _offsets(window: int, margin: int) -> Tensor:
    """Return (Q, K): which entry of the bias table belongs to each query and key."""
    query = torch.arange(window)
    key = torch.arange(-margin, window + margin)
    span = 2 * (window + margin) - 1
    step = key[None, :] - query[:, None] + window + margin - 1
    index = step[:, None, :, None] * span + step[None, :, None, :]
    return index.reshape(window**2, (window + 2 * margin) ** 2)
