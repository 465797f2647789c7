"""Cleans a pair before it is fused: noise, stripes and weather, which bands cannot leave out.

Metrics of the fused picture hardly tell how: they are flat where noise is strong. What tells it is
the distance to the clean pair, `dtpf.core.losses.restoration_loss`.
Legend: B = batch, H, W = height and width, C = channels; planes = images (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.blocks import convolutions
from dtpf.core.models.layers import Conv, Downsample, Upsample, pointwise

_CELL = 2  # pixels a side that become channels: a quarter of the work, and noise is seen as well
_LEVELS = 3
_BLOCKS = 2  # of each level, in the encoder and in the decoder
_IMAGES = 4  # planes: red, green, blue, infrared
_LONG = 63  # pixels over which stripes are averaged


class Restorer(nn.Module):
    """U-net over both images, which adds to each and scales each, pixel by pixel.

    The other image helps to tell edges from noise. It also sees means along the columns and the
    rows of the infrared, in which stripes stand out and scenes blur. At first it changes nothing.
    Source of the shape: Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28; of pixels as
    channels: Zhang et al. 2018, FFDNet, doi 10.1109/TIP.2018.2839891.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS)]
        cell = _CELL**2
        self.embed = Conv(cell * (_IMAGES + 2), width)
        self.encoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths)
        self.down = nn.ModuleList(Downsample(channels) for channels in widths[:-1])
        self.up = nn.ModuleList(Upsample(channels) for channels in widths[1:])
        self.join = nn.ModuleList(pointwise(2 * channels, channels) for channels in widths[:-1])
        self.decoder = nn.ModuleList(convolutions(_BLOCKS, channels) for channels in widths[:-1])
        self.out = Conv(width, cell * 2 * _IMAGES, bias=True)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images (B, 3, H, W) and (B, 1, H, W) as they would be clean, not clamped.

        Args:
            visible_B3HW: RGB in [0, 1]; H and W divide by 8.
            infrared_B1HW: in [0, 1].
        """
        pair = torch.cat((visible_B3HW, infrared_B1HW), dim=1)
        changes = self._changes(torch.cat((pair, *_along(infrared_B1HW)), dim=1))
        gain, offset = changes.chunk(2, dim=1)
        restored = pair * (1 + gain) + offset
        return restored[:, :3], restored[:, 3:]

    def _changes(self, planes: Tensor) -> Tensor:
        """Return gains and offsets of all images, (B, 8, H, W)."""
        x = self.encoder[0](self.embed(_to_cells(planes)))
        features = [x]
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            x = blocks(down(x))
            features.append(x)
        for level in reversed(range(_LEVELS - 1)):
            joined = torch.cat((self.up[level](x), features[level]), dim=-1)
            x = self.decoder[level](self.join[level](joined))
        return _to_pixels(self.out(x))


def _to_cells(planes: Tensor) -> Tensor:
    """Do as `pixel_unshuffle`, in a form that ONNX can say for any size: (B, H/2, W/2, 4C)."""
    batch, channels, height, width = planes.shape
    cells = planes.reshape(batch, channels, height // _CELL, _CELL, width // _CELL, _CELL)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3)


def _to_pixels(cells_BHWC: Tensor) -> Tensor:
    """Invert `_to_cells`: (B, C/4, 2H, 2W)."""
    pixels = cells_BHWC.unflatten(3, (-1, _CELL, _CELL)).permute(0, 3, 1, 4, 2, 5)
    return pixels.flatten(4).flatten(2, 3)


def _along(image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Return means along columns and along rows, over `_LONG` pixels or what the image has."""
    half = _LONG // 2
    columns = F.avg_pool2d(image_B1HW, (_LONG, 1), 1, (half, 0), count_include_pad=False)
    rows = F.avg_pool2d(image_B1HW, (1, _LONG), 1, (0, half), count_include_pad=False)
    return columns, rows
