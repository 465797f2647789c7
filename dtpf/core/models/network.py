"""The fusion network of Zhang et al., TCSVT 2025 (doi 10.1109/TCSVT.2025.3626414).

Teacher and student are the same network; the student is narrower and has no text modulation.
Legend: B = batch, H, W = height and width, C = channels; lists run from level 1 to level 4.
"""

from typing import Literal, overload

import torch
from torch import Tensor, nn

from dtpf.core.models.bands import BandMixer, edge_advantage
from dtpf.core.models.blocks import blocks
from dtpf.core.models.checks import check_inputs
from dtpf.core.models.config import LEVELS, ModelConfig, preset
from dtpf.core.models.layers import Conv, Downsample, Upsample, pointwise
from dtpf.core.models.merging import merging
from dtpf.core.models.modulation import TextModulation
from dtpf.core.models.restoration import Restorer
from dtpf.core.ops.color import luminance, raise_luminance, recolour
from dtpf.core.ops.padding import reflect_pad_to_multiple
from dtpf.core.ops.pyramid import laplacian_pyramid

Features = tuple[Tensor, ...]

# Share of the usual initial weights of the output convolution. At full size the untrained network
# adds noise as strong as the image; short trainings never unlearn it, least of all at the borders.
_FIRST_RESIDUAL = 0.25


class Encoder(nn.Module):
    """One stream, equation (3): patch embedding, then blocks at four levels."""

    def __init__(self, inputs: int, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths
        self.embed = Conv(inputs, widths[0])
        self.levels = nn.ModuleList(
            blocks(config.blocks[level], widths[level], level, config) for level in range(LEVELS)
        )
        self.down = nn.ModuleList(Downsample(width) for width in widths[:-1])

    def forward(self, image_BHWC: Tensor) -> list[Tensor]:
        """Return the features of each level, (B, H / 2^l, W / 2^l, C * 2^l) for l = 0 to 3."""
        x = self.levels[0](self.embed(image_BHWC))
        features = [x]
        for down, level in zip(self.down, self.levels[1:], strict=True):
            x = level(down(x))
            features.append(x)
        return features


class Decoder(nn.Module):
    """Equation (10): from level 4 up, each level joined by the fused features of its own.

    A 1x1 convolution halves the joined channels, except at level 1, which keeps them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.feature_widths
        self.levels = nn.ModuleList(
            blocks(config.blocks[level], widths[level], level, config) for level in range(LEVELS)
        )
        self.up = nn.ModuleList(Upsample(width) for width in config.widths[1:])
        self.reduce = nn.ModuleList(pointwise(2 * width, width) for width in config.widths[1:-1])

    def forward(self, fused: list[Tensor]) -> list[Tensor]:
        """Return the decoder features of each level, channels `config.feature_widths`."""
        x = self.levels[-1](fused[-1])
        features = [x]
        for level in reversed(range(LEVELS - 1)):
            x = torch.cat((self.up[level](x), fused[level]), dim=-1)
            if level > 0:
                x = self.reduce[level - 1](x)
            x = self.levels[level](x)
            features.insert(0, x)
        return features


class FusionNet(nn.Module):
    """Fuses a visible and an infrared image; parameters only, no state between calls."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visible = Encoder(config.inputs[0], config)
        self.infrared = Encoder(config.inputs[1], config)
        self.merging = nn.ModuleList(merging(level, config) for level in range(LEVELS))
        self.modulation = nn.ModuleList(
            TextModulation(width, config.text_dim) for width in config.widths if config.text
        )
        self.decoder = Decoder(config)
        self.refinement = blocks(config.refinement, 2 * config.width, 0, config)
        self.restorer = Restorer(config.restoration) if config.restoration else None
        self.out: Conv | BandMixer
        if config.start == "bands":
            self.out = BandMixer(config.feature_widths, config.fine)
        else:
            self.out = Conv(2 * config.width, 3)
            with torch.no_grad():
                self.out.weight.mul_(_FIRST_RESIDUAL)

    @overload
    def forward(
        self,
        visible: Tensor,
        infrared: Tensor,
        text: Tensor | None = None,
        return_features: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self, visible: Tensor, infrared: Tensor, text: Tensor | None, return_features: Literal[True]
    ) -> tuple[Tensor, Features]: ...

    def forward(
        self,
        visible: Tensor,
        infrared: Tensor,
        text: Tensor | None = None,
        return_features: bool = False,
    ) -> Tensor | tuple[Tensor, Features]:
        """Fuse a batch of registered pairs.

        Any size from 16 x 16 works: both images are padded by reflection to `config.stride`, and
        the result is cropped.

        Args:
            visible: (B, 3, H, W), RGB in [0, 1].
            infrared: (B, 1, H, W) in [0, 1].
            text: (B, text_dim) embeddings for a network with text modulation, else None.
            return_features: also return the decoder's features, for distillation.

        Returns:
            The fused image (B, 3, H, W), not clamped; or that and the features of levels 1 to 4,
            (B, feature_widths[l], H' / 2^l, W' / 2^l) with H', W' the padded size.

        Raises:
            ValueError: wrong channels, sizes, dtypes, or text that is missing or not wanted.
        """
        check_inputs(self.config, self.visible.embed.weight.dtype, visible, infrared, text)
        height, width = visible.shape[-2:]
        visible = reflect_pad_to_multiple(visible, self.config.stride)
        infrared = reflect_pad_to_multiple(infrared, self.config.stride)
        trust: Tensor | None = None
        if self.restorer is not None:
            visible, infrared, trust = self.restorer.clean(visible, infrared)
        fused, features = self.fuse_clean(visible, infrared, text, trust)
        fused = fused[..., :height, :width]
        if not return_features:
            return fused
        return fused, tuple(feature.permute(0, 3, 1, 2) for feature in features)

    def fuse_clean(
        self,
        visible: Tensor,
        infrared: Tensor,
        text: Tensor | None = None,
        trust: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse a pair that needs no restoration, of sizes that divide by the stride; see `forward`.

        Args:
            visible: (B, 3, H, W).
            infrared: (B, 1, H, W).
            text: see `forward`.
            trust: (B, 1, H, W), what restoration says of both (`restoration.Pair`); networks that
                mix bands heed it.

        Returns:
            The fused image (B, 3, H, W), not clamped, and the decoder's features, channels last.
        """
        if isinstance(self.out, BandMixer):
            gray = luminance(visible)
            advantage = edge_advantage(gray, infrared)
            advantage = advantage if trust is None else advantage + trust
            seen, heat = (torch.cat((image, advantage), dim=1) for image in (visible, infrared))
            refined, *features = self._features(seen, heat, text)
            luma = self.out([refined, *features[1:]], gray, infrared, advantage)
            fused = recolour(luma, visible)
        else:
            refined, *features = self._features(visible, infrared, text)
            fused = self._start(visible, infrared) + self.out(refined).permute(0, 3, 1, 2)
        return fused, features

    def _start(self, visible: Tensor, infrared: Tensor) -> Tensor:
        match self.config.start:
            case "brighter":
                return raise_luminance(visible, infrared)
            case "pyramid":
                return laplacian_pyramid(visible, infrared)
        return visible

    def _features(self, visible: Tensor, infrared: Tensor, text: Tensor | None) -> list[Tensor]:
        """Return the refined features, and the decoder's of levels 1 to 4."""
        features = self.decoder(self._fuse(visible, infrared, text))
        return [self.refinement(features[0]), *features]

    def _fuse(self, visible: Tensor, infrared: Tensor, text: Tensor | None) -> list[Tensor]:
        streams = zip(
            self.visible(visible.permute(0, 2, 3, 1)),
            self.infrared(infrared.permute(0, 2, 3, 1)),
            strict=True,
        )
        fused = [merge(*pair) for merge, pair in zip(self.merging, streams, strict=True)]
        if text is None:
            return fused
        return [modulate(x, text) for modulate, x in zip(self.modulation, fused, strict=True)]


def build(model: str | ModelConfig) -> FusionNet:
    """Return an untrained network for a config or a preset's name.

    Raises:
        UserError: no preset has that name.
    """
    return FusionNet(model if isinstance(model, ModelConfig) else preset(model))
