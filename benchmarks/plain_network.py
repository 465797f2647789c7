"""The network as these layers are usually written: the reference for speed.

Channels-first maps, a hand-written layer norm that moves channels back and forth, windows through
`unfold`, explicit softmax, and full frames in tiles of 128 at a stride of 64 pixels. It computes
the same function as `dtpf.core.models.FusionNet` from that network's weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.models import FusionNet, ModelConfig

TILE, STEP = 128, 64


class PlainNetwork:
    """Same function and parameters as a text-free `FusionNet`."""

    def __init__(self, network: FusionNet) -> None:
        self.config: ModelConfig = network.config
        self.weights = {
            name: weight.detach().clone().requires_grad_()
            for name, weight in network.named_parameters()
        }

    def tiled(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Fuse a frame tile by tile and average where tiles overlap; sides divide by STEP."""
        total, count = torch.zeros_like(visible), torch.zeros_like(visible)
        for top in range(0, visible.shape[2] - TILE + 1, STEP):
            for left in range(0, visible.shape[3] - TILE + 1, STEP):
                at = (..., slice(top, top + TILE), slice(left, left + TILE))
                total[at] += self(visible[at], infrared[at])
                count[at] += 1
        return total / count

    def __call__(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Fuse images whose sides divide by 64."""
        streams = (self._encode("visible", visible), self._encode("infrared", infrared))
        fused = [self._merge(level, *(stream[level] for stream in streams)) for level in range(4)]
        x = self._blocks("decoder.levels.3", fused[3], 3)
        for level in (2, 1, 0):
            x = torch.cat([self._up(f"decoder.up.{level}", x), fused[level]], 1)
            if level:
                x = self._conv(f"decoder.reduce.{level - 1}", x)
            x = self._blocks(f"decoder.levels.{level}", x, level)
        return self._conv("out", self._blocks("refinement", x, 0)) + visible

    def _encode(self, stream, x):
        x = self._conv(f"{stream}.embed", x)
        features = []
        for level in range(4):
            x = self._blocks(f"{stream}.levels.{level}", x, level)
            features.append(x)
            if level < 3:
                x = self._down(f"{stream}.down.{level}", x)
        return features

    def _blocks(self, name, x, level):
        first = 0
        while f"{name}.{first}.norm.weight" in self.weights:
            x = self._channel_part(name, x, level, first)
            x = self._spatial_part(name, x, level, first + 2)
            first += 4
        return x

    def _channel_part(self, name, x, level, first=0):
        heads = self.config.channel_heads[level]
        normal = self._norm(f"{name}.{first}", x)
        x = x + self._channel_attention(f"{name}.{first}.layer", normal, heads)
        return x + self._feed_forward(
            f"{name}.{first + 1}.layer", self._norm(f"{name}.{first + 1}", x)
        )

    def _spatial_part(self, name, x, level, first=0):
        heads = self.config.spatial_heads[level]
        normal = self._norm(f"{name}.{first}", x)
        x = x + self._spatial_attention(f"{name}.{first}.layer", normal, heads)
        return x + self._feed_forward(
            f"{name}.{first + 1}.layer", self._norm(f"{name}.{first + 1}", x)
        )

    def _merge(self, level, visible, infrared):
        name = f"merging.{level}"
        if level < 3:
            x = self._blocks(f"{name}.block", torch.cat([visible, infrared], 1), level)
            return self._conv(f"{name}.out", x)
        total = 0
        for own, other, here, there in (
            (visible, infrared, "visible", "infrared"),
            (infrared, visible, "infrared", "visible"),
        ):
            both = [
                self._spatial_part(f"{name}.{here}_spatial", own, 3),
                self._channel_part(f"{name}.{there}_channel", other, 3),
            ]
            total = total + self._conv(f"{name}.{here}_out", torch.cat(both, 1))
        return total

    def _conv(self, name, x, groups=1):
        weight = self.weights[f"{name}.weight"]
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

    def _norm(self, name, x):
        batch, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(variance + 1e-5)
        x = x * self.weights[f"{name}.norm.weight"] + self.weights[f"{name}.norm.bias"]
        return x.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _feed_forward(self, name, x):
        x = self._conv(f"{name}.expand", x)
        gate, value = self._conv(f"{name}.mix", x, groups=x.shape[1]).chunk(2, 1)
        return self._conv(f"{name}.reduce", F.gelu(gate) * value)

    def _channel_attention(self, name, x, heads):
        batch, channels, height, width = x.shape
        qkv = self._conv(f"{name}.qkv", x)
        qkv = self._conv(f"{name}.mix", qkv, groups=qkv.shape[1])
        query, key, value = (
            part.reshape(batch, heads, channels // heads, height * width)
            for part in qkv.chunk(3, 1)
        )
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        scores = query @ key.transpose(-2, -1) * self.weights[f"{name}.temperature"][:, None, None]
        mixed = (scores.softmax(-1) @ value).reshape(batch, channels, height, width)
        return self._conv(f"{name}.out", mixed)

    def _spatial_attention(self, name, x, heads):
        window, margin, size = self.config.window, self.config.margin, self.config.head_dim
        batch, _, height, width = x.shape
        rows, columns, long = height // window, width // window, window + 2 * margin
        query, key, value = self._conv(f"{name}.qkv", x).chunk(3, 1)
        query = query.reshape(batch, heads, size, rows, window, columns, window)
        query = query.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, window**2, size)
        key, value = (
            F.unfold(part, long, stride=window, padding=margin)
            .reshape(batch, heads, size, long**2, rows * columns)
            .permute(0, 4, 1, 3, 2)
            .reshape(-1, heads, long**2, size)
            for part in (key, value)
        )
        scores = (query * size**-0.5) @ key.transpose(-2, -1)
        bias = self.weights[f"{name}.bias"][:, self._offsets(window, margin)]
        mixed = (scores + bias).softmax(-1) @ value
        mixed = mixed.reshape(batch, rows, columns, heads, window, window, size)
        mixed = mixed.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, heads * size, height, width)
        return self._conv(f"{name}.out", mixed)

    def _offsets(self, window, margin):
        query, key = torch.arange(window), torch.arange(-margin, window + margin)
        step = key[None, :] - query[:, None] + window + margin - 1
        span = 2 * (window + margin) - 1
        index = step[:, None, :, None] * span + step[None, :, None, :]
        return index.reshape(window**2, -1)

    def _down(self, name, x):
        x = self._conv(f"{name}.conv", x)
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(batch, 4 * channels, height // 2, width // 2)

    def _up(self, name, x):
        x = self._conv(f"{name}.conv", x)
        batch, channels, height, width = x.shape
        x = x.reshape(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width)
