"""The network once more, plain and slow: from the equations, by loops over windows and heads.

It shares no code with `dtpf.core.models`; it only reads that network's weights by name, so a test
can hold one against the other. Images are (B, C, H, W) and stay so; sizes must divide by 64.
"""

import math

import numpy as np
import torch
from torch import Tensor

from tests.core.oracle_bands import coloured, edge_energy, mixture

Weights = dict[str, Tensor]

BLOCK_PARTS = ("channel", "feed_forward", "spatial", "feed_forward")


class OracleNetwork:
    """Holds weights and the few numbers of a config that shapes do not tell."""

    def __init__(self, weights: Weights, config) -> None:
        self.weights = weights
        self.config = config

    def __call__(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None):
        """Return the fused image and the decoder features of levels 1 to 4."""
        height, width = visible.shape[-2:]
        visible, infrared = mirror_to(visible, 64), mirror_to(infrared, 64)
        hint = self.hint(visible, infrared) if self.config.start == "bands" else visible[:, :0]
        streams = tuple(
            self.encode(name, torch.cat([image, hint], dim=1))
            for name, image in (("visible", visible), ("infrared", infrared))
        )
        fused = [self.merge(level, streams[0][level], streams[1][level]) for level in range(4)]
        if text is not None:
            fused = [self.modulate(f"modulation.{n}", x, text) for n, x in enumerate(fused)]
        x = self.blocks("decoder.levels.3", fused[3], 3)
        features = [x]
        for level in (2, 1, 0):
            x = torch.cat([self.up(f"decoder.up.{level}", x), fused[level]], dim=1)
            if level:
                x = self.one_by_one(f"decoder.reduce.{level - 1}.weight", x)
            x = self.blocks(f"decoder.levels.{level}", x, level)
            features = [x, *features]
        refined = self.blocks("refinement", x, 0)
        if self.config.start == "bands":
            return self.mix([refined, *features[1:]], visible, infrared)[
                ..., :height, :width
            ], features
        residual = self.three_by_three("out.weight", refined)
        if self.config.start == "brighter":
            lift = infrared - gray(visible)
            visible = visible + torch.where(lift > 0, lift, 0.0)
        return (visible + residual)[..., :height, :width], features

    def hint(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return by how much the visible image's edges are stronger, (B, 1, H, W)."""
        planes = [
            np.log(edge_energy(gray(seen[None])[0, 0].numpy()) / edge_energy(heat[0].numpy())) / 2
            for seen, heat in zip(
                visible.detach().double(), infrared.detach().double(), strict=True
            )
        ]
        return torch.from_numpy(np.stack(planes))[:, None].to(visible.dtype)

    def mix(self, features: list[Tensor], visible: Tensor, infrared: Tensor) -> Tensor:
        def head(name: str, x: Tensor) -> Tensor:
            bias = self.weights[f"out.{name}.bias"]
            return self.three_by_three(f"out.{name}.weight", x) + bias[:, None, None]

        choice, base = head("choice", features[0]), head("base", features[3])
        gains = [head(f"details.{level}", x) for level, x in enumerate(features)]
        images = []
        planes = (gray(visible), infrared, choice, *gains, base)
        for sample in range(len(visible)):
            numbers = [x[sample].double().numpy() for x in planes]
            luma = mixture(numbers[0][0], numbers[1][0], numbers[2][0], numbers[3:7], numbers[7])
            images.append(torch.from_numpy(coloured(luma, visible[sample].double().numpy())))
        return torch.stack(images).to(visible.dtype)

    def encode(self, stream: str, image: Tensor) -> list[Tensor]:
        x = self.three_by_three(f"{stream}.embed.weight", image)
        features = []
        for level in range(4):
            x = self.blocks(f"{stream}.levels.{level}", x, level)
            features.append(x)
            if level < 3:
                x = self.down(f"{stream}.down.{level}", x)
        return features

    def blocks(self, name: str, x: Tensor, level: int) -> Tensor:
        number = 0
        while f"{name}.{number}.norm.weight" in self.weights:
            x = self.residual(f"{name}.{number}", BLOCK_PARTS[number % 4], x, level)
            number += 1
        return x

    def residual(self, name: str, part: str, x: Tensor, level: int) -> Tensor:
        normal = self.layer_norm(f"{name}.norm", x)
        if self.config.block == "convolution":
            return x + self.two_convolutions(f"{name}.layer", normal)
        if part == "channel":
            heads = self.config.channel_heads[level]
            return x + self.channel_attention(f"{name}.layer", normal, heads)
        if part == "spatial":
            heads = self.config.spatial_heads[level]
            return x + self.spatial_attention(f"{name}.layer", normal, heads)
        return x + self.feed_forward(f"{name}.layer", normal)

    def merge(self, level: int, visible: Tensor, infrared: Tensor) -> Tensor:
        name = f"merging.{level}"
        if self.config.fusion == "concat":
            return self.one_by_one(f"{name}.out.weight", torch.cat([visible, infrared], dim=1))
        if level < 3:
            x = torch.cat([visible, infrared], dim=1)
            x = self.blocks(f"{name}.block", x, level)
            return self.one_by_one(f"{name}.out.weight", x)
        total = torch.zeros_like(visible)
        for own, other, own_name, other_name in (
            (visible, infrared, "visible", "infrared"),
            (infrared, visible, "infrared", "visible"),
        ):
            for place, part in enumerate(("spatial", "feed_forward")):
                own = self.residual(f"{name}.{own_name}_spatial.{place}", part, own, 3)
            for place, part in enumerate(("channel", "feed_forward")):
                other = self.residual(f"{name}.{other_name}_channel.{place}", part, other, 3)
            both = torch.cat([own, other], dim=1)
            total = total + self.one_by_one(f"{name}.{own_name}_out.weight", both)
        return total

    def modulate(self, name: str, x: Tensor, text: Tensor) -> Tensor:
        weights = self.weights
        rows = []
        for image, words in zip(x, text, strict=True):
            hidden = weights[f"{name}.hidden.weight"] @ (len(words) ** 0.5 * words)
            hidden = hidden + weights[f"{name}.hidden.bias"]
            numbers = weights[f"{name}.out.weight"] @ gelu(hidden) + weights[f"{name}.out.bias"]
            gamma, beta = numbers[: len(image)], numbers[len(image) :]
            rows.append((1 + gamma[:, None, None]) * image + beta[:, None, None])
        return torch.stack(rows)

    def channel_attention(self, name: str, x: Tensor, heads: int) -> Tensor:
        qkv = self.depthwise(f"{name}.mix.weight", self.one_by_one(f"{name}.qkv.weight", x))
        batch, channels, height, width = x.shape
        size = channels // heads
        images = []
        for sample in range(batch):
            parts = []
            for head in range(heads):
                query, key, value = (
                    qkv[sample, start + head * size : start + (head + 1) * size].flatten(1)
                    for start in (0, channels, 2 * channels)
                )
                query = query / query.pow(2).sum(1, keepdim=True).sqrt()
                key = key / key.pow(2).sum(1, keepdim=True).sqrt()
                scores = query @ key.T * self.weights[f"{name}.temperature"][head]
                parts.append(softmax(scores) @ value)
            images.append(torch.cat(parts).view(channels, height, width))
        return self.one_by_one(f"{name}.out.weight", torch.stack(images))

    def spatial_attention(self, name: str, x: Tensor, heads: int) -> Tensor:
        window, margin = self.config.window, int(self.config.window * self.config.overlap) // 2
        qkv = self.one_by_one(f"{name}.qkv.weight", x)
        inner = qkv.shape[1] // 3
        size = inner // heads
        query, rest = qkv[:, :inner], qkv[:, inner:]
        batch, _, height, width = rest.shape
        framed = rest.new_zeros(batch, 2 * inner, height + 2 * margin, width + 2 * margin)
        framed[:, :, margin : margin + height, margin : margin + width] = rest
        bias = self.relative_bias(name, window, margin)
        result = torch.zeros_like(query)
        long = window + 2 * margin
        for top in range(0, height, window):
            for left in range(0, width, window):
                for head in range(heads):
                    own = slice(head * size, (head + 1) * size)
                    values = slice(inner + head * size, inner + (head + 1) * size)
                    q = query[:, own, top : top + window, left : left + window].flatten(2)
                    k = framed[:, own, top : top + long, left : left + long].flatten(2)
                    v = framed[:, values, top : top + long, left : left + long].flatten(2)
                    scores = q.transpose(1, 2) @ k / math.sqrt(size) + bias[head]
                    mixed = (softmax(scores) @ v.transpose(1, 2)).transpose(1, 2)
                    result[:, own, top : top + window, left : left + window] = mixed.reshape(
                        batch, size, window, window
                    )
        return self.one_by_one(f"{name}.out.weight", result)

    def relative_bias(self, name: str, window: int, margin: int) -> Tensor:
        """Return (heads, queries, keys) from a table over offsets of key to query."""
        reach = window + margin - 1
        span = 2 * reach + 1
        table = self.weights[f"{name}.bias"].view(-1, span, span)
        rows = []
        for query in range(window**2):
            for key in range((window + 2 * margin) ** 2):
                qy, qx = divmod(query, window)
                ky, kx = divmod(key, window + 2 * margin)
                rows.append(table[:, ky - margin - qy + reach, kx - margin - qx + reach])
        return torch.stack(rows, dim=1).view(table.shape[0], window**2, -1)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        x = self.depthwise(f"{name}.mix.weight", self.one_by_one(f"{name}.expand.weight", x))
        half = x.shape[1] // 2
        return self.one_by_one(f"{name}.reduce.weight", gelu(x[:, :half]) * x[:, half:])

    def two_convolutions(self, name: str, x: Tensor) -> Tensor:
        for place in ("first", "second"):
            x = self.three_by_three(f"{name}.{place}.weight", x)
            x = x + self.weights[f"{name}.{place}.bias"][:, None, None]
            if place == "first":
                x = gelu(x)
        return x

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        unit = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return unit * scale[:, None, None] + shift[:, None, None]

    def one_by_one(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("oi,bihw->bohw", self.weights[name], x)

    def three_by_three(self, name: str, x: Tensor) -> Tensor:
        kernel = self.weights[name]
        return sum(
            torch.einsum("oi,bihw->bohw", kernel[:, :, dy, dx], shifted)
            for dy, dx, shifted in neighbours(x)
        )

    def depthwise(self, name: str, x: Tensor) -> Tensor:
        kernel = self.weights[name]
        return sum(
            kernel[:, 0, dy, dx][:, None, None] * shifted for dy, dx, shifted in neighbours(x)
        )

    def down(self, name: str, x: Tensor) -> Tensor:
        x = self.three_by_three(f"{name}.conv.weight", x)
        corners = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
        return torch.cat(corners, dim=1)

    def up(self, name: str, x: Tensor) -> Tensor:
        x = self.three_by_three(f"{name}.conv.weight", x)
        corners = x.chunk(4, dim=1)
        batch, channels, height, width = corners[0].shape
        result = x.new_zeros(batch, channels, 2 * height, 2 * width)
        for place, corner in enumerate(corners):
            result[:, :, place // 2 :: 2, place % 2 :: 2] = corner
        return result


def neighbours(x: Tensor):
    """Yield the nine shifted copies of an image framed by zeros."""
    height, width = x.shape[-2:]
    framed = x.new_zeros(*x.shape[:2], height + 2, width + 2)
    framed[:, :, 1:-1, 1:-1] = x
    for dy in range(3):
        for dx in range(3):
            yield dy, dx, framed[:, :, dy : dy + height, dx : dx + width]


def mirror_to(x: Tensor, multiple: int) -> Tensor:
    """Extend the image below and to the right by mirroring, row by row."""
    for axis in (2, 3):
        size = x.shape[axis]
        period = 2 * (size - 1)
        steps = range(math.ceil(size / multiple) * multiple)
        source = [min(n % period, period - n % period) for n in steps]
        x = x.index_select(axis, torch.tensor(source))
    return x


def gray(x: Tensor) -> Tensor:
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def softmax(scores: Tensor) -> Tensor:
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)
