"""Cleans a pair before it is fused: noise, stripes, weather and light, which bands cannot undo.

Metrics of the fused picture hardly tell how: they are flat where noise is strong. What tells it is
the distance to the clean pair, `dtpf.core.losses.restoration_loss`.
Legend: B = batch, H, W = height and width, C = channels; planes = images (B, C, H, W).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.amplifiers import Amplifiers
from dtpf.core.models.blocks import convolutions
from dtpf.core.models.exposure import Exposure
from dtpf.core.models.judgement import CELL, IMAGES, Judge, Trust
from dtpf.core.models.layers import Conv, Downsample, Upsample, pointwise
from dtpf.core.models.tone import Tone
from dtpf.core.ops.filters import box_mean

REACH = 128  # pixels: farther ones hardly count in the means of stripes and of the gate
_CELL = 2  # pixels a side that become channels: a quarter of the work, and noise is seen as well
_LEVELS = 3  # the deepest has a feature for each of the cells that are judged
_BLOCKS = 2  # of each level, in the encoder and in the decoder
_NEAR = 11  # pixels a side of the mean that tells fine texture from what lies below it
_LONG = 127  # pixels over which stripes are averaged
_STRONGEST = 0.2  # beyond this, what stands out beside its row is an edge more than a stripe
_LINES = 2  # planes: stripes along columns and along rows
_SEEN = 2 * IMAGES + _LINES  # planes: fine texture and level of each image, and stripes
# Logit by which degraded images are rarer for users than in training, where every second one is:
# what is applied to clean ones takes their finest texture.
_RARER = 2.0


class Pair(NamedTuple):
    """What is fused in place of the given pair.

    Attributes:
        visible: (B, 3, H, W) in [0, 1].
        infrared: (B, 1, H, W) in [0, 1].
        trust: (B, 1, H, W), by how much more the visible image's edges are to count, as a logarithm
            of their strength (`dtpf.core.models.bands.edge_advantage`).
    """

    visible: Tensor
    infrared: Tensor
    trust: Tensor


class Cleaned(NamedTuple):
    """What a pair would be if it were clean, and whether it needs to be cleaned.

    Attributes:
        visible: (B, 3, H, W), not clamped.
        infrared: (B, 1, H, W), not clamped.
        degraded: logits (B, 2, H/8, W/8) that the visible and the infrared image are, there.
        trust: (B, 1, H/8, W/8), see `Pair`, if the pair is degraded there.
        lit: (B, 3, H, W), the visible image without haze, of which the rest is restored; clamped in
            `clean` alone.
    """

    visible: Tensor
    infrared: Tensor
    degraded: Tensor
    trust: Tensor
    lit: Tensor


class Restorer(nn.Module):
    """U-net over both images, which adds to each and scales each, pixel by pixel.

    The other image helps to tell edges from noise. Haze is taken away before it, by a part of its
    own (`Tone`): what changes brightness as a whole keeps it from learning texture. So is what
    crops do not tell, by parts that are left out in training: over-exposure by one that is fitted
    (`Exposure`), stripes of the infrared by one that has nothing to learn (`Amplifiers`). Of
    stripes that are left, or do not run from end to end, it sees an estimate (`stripes`), and says
    how much of that is taken away where. At first it changes nothing.
    A gate for each image, its probability to be degraded, weighs the changes: without it, what is
    learned of degraded images is held back by what it would do to clean ones.
    What was lost does not come back: where one image lacks more, the other's edges are to count for
    more, and `trust` says so.
    Source of the shape: Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28; of pixels as
    channels: Zhang et al. 2018, FFDNet, doi 10.1109/TIP.2018.2839891.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS)]
        cell = _CELL**2
        self.amplifiers = Amplifiers()
        self.exposure = Exposure()
        self.tone = Tone()
        self.embed = Conv(cell * _SEEN, width)
        self.encoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths)
        self.down = nn.ModuleList(Downsample(channels) for channels in widths[:-1])
        self.up = nn.ModuleList(Upsample(channels) for channels in widths[1:])
        self.join = nn.ModuleList(pointwise(2 * channels, channels) for channels in widths[:-1])
        self.decoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths[:-1])
        self.judge = Judge(widths[-1], width)
        self.trust = Trust(self.judge.width, width)
        self.out = Conv(width, cell * (2 * IMAGES + _LINES), bias=True)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def clean(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Pair:
        """Return both images, changed as far as they are judged degraded, and their trust.

        Args:
            visible_B3HW: RGB in [0, 1]; H and W divide by 8.
            infrared_B1HW: in [0, 1].
        """
        infrared_B1HW = self.amplifiers(infrared_B1HW)
        lit = self.tone.right(self.exposure(visible_B3HW), infrared_B1HW)
        return applied(self._restored(lit, infrared_B1HW), infrared_B1HW)

    def forward(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Cleaned:
        """Return both images as they would be clean, and whether they are not; see `clean`."""
        lit = self.tone(visible_B3HW, infrared_B1HW)
        # Detached: tone learns from what is left before the rest is restored.
        restored = self._restored(lit.detach(), infrared_B1HW)
        return restored._replace(lit=lit)

    def _restored(self, lit_B3HW: Tensor, infrared_B1HW: Tensor) -> Cleaned:
        pair = torch.cat((lit_B3HW, infrared_B1HW), dim=1)
        turned = infrared_B1HW.transpose(2, 3)
        lines = torch.cat((stripes(infrared_B1HW), stripes(turned).transpose(2, 3)), dim=1)
        level = box_mean(pair, _NEAR, _NEAR)
        # In one range: texture and stripes are small beside the level that they lie on.
        seen = torch.cat((4 * (pair - level), level - 0.5, 8 * lines), dim=1)
        features = self._encoded(_to_cells(seen))
        gain, offset, shares = self._decoded(features).split((IMAGES, IMAGES, _LINES), dim=1)
        changes = pair * gain + offset
        taken = (lines * shares).sum(dim=1, keepdim=True)
        changes = torch.cat((changes[:, :3], changes[:, 3:] - taken), dim=1)
        restored = pair + changes
        cells, around = self.judge.look(pair, changes, features[-1])
        degraded = self.judge(around)
        trust = self.trust(cells, around, degraded)
        return Cleaned(restored[:, :3], restored[:, 3:], degraded, trust, lit_B3HW)

    def _encoded(self, cells_BHWC: Tensor) -> list[Tensor]:
        """Return the features of all levels."""
        features = [self.encoder[0](self.embed(cells_BHWC))]
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            features.append(blocks(down(features[-1])))
        return features

    def _decoded(self, features: list[Tensor]) -> Tensor:
        """Return gains and offsets of all images and shares of both stripes, (B, 10, H, W)."""
        x = features[-1]
        for level in reversed(range(_LEVELS - 1)):
            joined = torch.cat((self.up[level](x), features[level]), dim=-1)
            x = self.decoder[level](self.join[level](joined))
        return _to_pixels(self.out(x))


def applied(cleaned: Cleaned, infrared_B1HW: Tensor) -> Pair:
    """Return both images as far as they are judged degraded, and their trust likewise.

    Args:
        cleaned: what a restorer made of a pair.
        infrared_B1HW: that pair's infrared image.
    """
    logits = _enlarged(cleaned.degraded - _RARER)
    gates = logits.sigmoid()
    visible = torch.lerp(cleaned.lit, cleaned.visible, gates[:, :1])
    infrared = torch.lerp(infrared_B1HW, cleaned.infrared, gates[:, 1:])
    either = 1 - (1 - gates[:, :1]) * (1 - gates[:, 1:])
    return Pair(visible.clamp(0, 1), infrared.clamp(0, 1), either * _enlarged(cleaned.trust))


def _enlarged(cells: Tensor) -> Tensor:
    return F.interpolate(cells, scale_factor=CELL, mode="bilinear")


def _to_cells(planes: Tensor) -> Tensor:
    """Do as `pixel_unshuffle`, in a form that ONNX can say for any size: (B, H/2, W/2, 4C)."""
    batch, channels, height, width = planes.shape
    cells = planes.reshape(batch, channels, height // _CELL, _CELL, width // _CELL, _CELL)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _to_pixels(cells_BHWC: Tensor) -> Tensor:
    """Invert `_to_cells`: (B, C/4, 2H, 2W)."""
    pixels = cells_BHWC.unflatten(3, (-1, _CELL, _CELL)).permute(0, 3, 1, 4, 2, 5)
    return pixels.flatten(4).flatten(2, 3)


def stripes(image_B1HW: Tensor) -> Tensor:
    """Return what stands out along columns of an infrared image, as its amplifiers' offsets do.

    A mean along each column of what lies above its row's surroundings. On validation pairs with
    stripes of severity 0.6 it leaves 32.5 dB of 23.4 if all of it is taken away, which a U-net
    does not find in hours; of clean images it leaves 31 dB: scenes have vertical edges too.
    """
    across = box_mean(box_mean(image_B1HW, 1, _NEAR), 1, _NEAR)
    return box_mean((image_B1HW - across).clamp(-_STRONGEST, _STRONGEST), _LONG, 1)
