"""Cleans a pair before it is fused: noise, stripes, weather and light, which bands cannot undo.

Metrics of the fused picture hardly tell how: they are flat where noise is strong. What tells it is
the distance to the clean pair, `dtpf.core.losses.restoration_loss`.
Legend: B = batch, H, W = height and width, C = channels; planes = images (B, C, H, W).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.blocks import convolutions
from dtpf.core.models.exposure import Exposure
from dtpf.core.models.layers import Conv, Downsample, Upsample, pointwise
from dtpf.core.models.tone import Tone
from dtpf.core.ops.filters import box_mean

REACH = 128  # pixels: farther ones hardly count in the means of stripes and of the gate
_CELL = 2  # pixels a side that become channels: a quarter of the work, and noise is seen as well
_LEVELS = 3
_BLOCKS = 2  # of each level, in the encoder and in the decoder
_IMAGES = 4  # planes: red, green, blue, infrared
_NEAR = 11  # pixels a side of the mean that tells fine texture from what lies below it
_LONG = 127  # pixels over which stripes are averaged
_STRONGEST = 0.2  # beyond this, what stands out beside its row is an edge more than a stripe
_LINES = 2  # planes: stripes along columns and along rows
_SEEN = 2 * _IMAGES + _LINES  # planes: fine texture and level of each image, and stripes
_STRIDE = _CELL * 2 ** (_LEVELS - 1)
# Logit by which degraded images are rarer for users than in training, where every second one is:
# what is applied to clean ones takes their finest texture.
_RARER = 2.0
_JUDGED = 17  # deepest features a side that are judged together: 136 pixels, a crop in training


class Cleaned(NamedTuple):
    """What a pair would be if it were clean, and whether it needs to be cleaned.

    Attributes:
        visible: (B, 3, H, W), not clamped.
        infrared: (B, 1, H, W), not clamped.
        degraded: logits (B, 2, H/8, W/8) that the visible and the infrared image are, there.
        lit: (B, 3, H, W), the visible image without haze, of which the rest is restored; clamped in
            `clean` alone.
    """

    visible: Tensor
    infrared: Tensor
    degraded: Tensor
    lit: Tensor


class Restorer(nn.Module):
    """U-net over both images, which adds to each and scales each, pixel by pixel.

    The other image helps to tell edges from noise. Stripes of the infrared are estimated without
    it (`stripes`); it says how much of them is taken away where. Haze is taken away before it, by
    a part of its own (`Tone`): what changes brightness as a whole keeps it from learning texture.
    So is over-exposure, by one that is fitted, not trained, and is left out in training
    (`Exposure`). At first it changes nothing.
    A gate for each image, its probability to be degraded, weighs the changes: without it, what is
    learned of degraded images is held back by what it would do to clean ones.
    Source of the shape: Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28; of pixels as
    channels: Zhang et al. 2018, FFDNet, doi 10.1109/TIP.2018.2839891.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS)]
        cell = _CELL**2
        self.exposure = Exposure()
        self.tone = Tone()
        self.embed = Conv(cell * _SEEN, width)
        self.encoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths)
        self.down = nn.ModuleList(Downsample(channels) for channels in widths[:-1])
        self.up = nn.ModuleList(Upsample(channels) for channels in widths[1:])
        self.join = nn.ModuleList(pointwise(2 * channels, channels) for channels in widths[:-1])
        self.decoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths[:-1])
        self.judge = _Judge(widths[-1], width)
        self.out = Conv(width, cell * (2 * _IMAGES + _LINES), bias=True)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def clean(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images in [0, 1], changed as far as they are judged degraded.

        Args:
            visible_B3HW: RGB in [0, 1]; H and W divide by 8.
            infrared_B1HW: in [0, 1].
        """
        lit = self.tone.right(self.exposure(visible_B3HW), infrared_B1HW)
        seen, heat, degraded, _ = self._restored(lit, infrared_B1HW)
        logits = F.interpolate(degraded - _RARER, scale_factor=_STRIDE, mode="bilinear")
        gates = logits.sigmoid()
        visible = torch.lerp(lit, seen, gates[:, :1])
        infrared = torch.lerp(infrared_B1HW, heat, gates[:, 1:])
        return visible.clamp(0, 1), infrared.clamp(0, 1)

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
        gain, offset, shares = self._decoded(features).split((_IMAGES, _IMAGES, _LINES), dim=1)
        changes = pair * gain + offset
        taken = (lines * shares).sum(dim=1, keepdim=True)
        changes = torch.cat((changes[:, :3], changes[:, 3:] - taken), dim=1)
        restored = pair + changes
        degraded = self.judge(pair, changes, features[-1])
        return Cleaned(restored[:, :3], restored[:, 3:], degraded, lit_B3HW)

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


class _Judge(nn.Module):
    """Tells which of the two images is degraded.

    It sees how strong fine texture and proposed changes are in cells of 8 x 8 pixels, and the
    encoder's features. Means of logarithms over many cells tell noise, which is everywhere, from
    texture, which leaves some cells flat.
    """

    def __init__(self, deepest: int, hidden: int) -> None:
        super().__init__()
        self.features = nn.Linear(deepest, deepest)
        self.hidden = nn.Linear(2 * _IMAGES + deepest, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, pair: Tensor, changes: Tensor, deepest_BHWC: Tensor) -> Tensor:
        """Return logits (B, 2, H/8, W/8) from planes (B, 4, H, W), their changes, and features."""
        fine = pair - box_mean(pair, 3, 3)
        # Detached: what to change is learned from the clean pair alone.
        strengths = F.avg_pool2d(torch.cat((fine, changes.detach()), dim=1).square(), _STRIDE)
        features = F.gelu(self.features(deepest_BHWC)).permute(0, 3, 1, 2)
        logarithms = 0.5 * (strengths + 1e-7).log() + 4  # about -4 to 3: a linear layer's range
        seen = torch.cat((logarithms, features), dim=1)
        around = box_mean(seen, _JUDGED, _JUDGED)
        hidden = F.gelu(self.hidden(around.permute(0, 2, 3, 1)))
        return self.out(hidden).permute(0, 3, 1, 2)


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
