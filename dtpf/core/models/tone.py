"""Undoes what changes the brightness of a visible image as a whole: haze.

Legend: B = batch, H, W = height and width, C = channels; planes = images (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.ops.filters import box_mean

_CELL = 8  # pixels a side that are judged as one

_AIRLIGHT = 0.85  # what an infinitely far point looks like in haze by day
_DARK = 15  # pixels a side in which something is nearly black in one channel
_SMOOTH = 31  # pixels a side over which the veil is averaged, twice
_LEAST = 0.2  # of the light of the scene that is taken to come through: noise grows with 1 / this
_AROUND = 17  # cells a side that are judged together: 136 pixels
# Means and deviations, over degraded crops, of what is seen: standardised, it is learned in a
# quarter of the steps.
_TYPICAL = (
    (0.43, 0.16),  # dark channel
    (0.58, 0.16),  # visible
    (0.07, 0.06),  # brightest less darkest channel
    (0.49, 0.15),  # infrared
    (-0.31, 0.40),  # fine texture of the visible and of the infrared image
    (0.05, 0.55),
    (0.05, 0.31),  # coarser texture of both
    (0.34, 0.26),
    (0.28, 0.16),  # dark channel times visible
    (0.22, 0.14),  # squares of both
    (0.37, 0.18),
)
_HIDDEN = 16
# Learned shares stay low: to take a veil that is not there costs a clean scene more than a hazy one
# gains. Clean scenes have at most 0.07 (validation pairs and MSRS), hazy ones of severity 0.6 from
# 0.35 on (MSRS: 0.22), where 0.8 is best.
_DOUBT, _CERTAIN = 0.15, 0.4
_MOST = 0.8


class Tone(nn.Module):
    """Learns which share of the dark channel is haze.

    That is the darkest value in any channel nearby, near zero in clear daylight. Transmission is
    1 - share * dark / airlight, and the scene follows from Koschmieder's law. At first the share
    is 0.
    Source: He, Sun and Tang 2011, IEEE TPAMI 33(12), equations 9 to 12, where the share is 0.95.
    """

    typical: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("typical", torch.tensor(_TYPICAL), persistent=False)
        self.hidden = nn.Linear(len(_TYPICAL), _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 1)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def right(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
        """Return the visible image in [0, 1] without its haze; doubtful shares are left.

        Args:
            visible_B3HW: RGB in [0, 1]; H and W divide by 8.
            infrared_B1HW: in [0, 1].
        """
        dark = dark_channel(visible_B3HW)
        share = self._share(visible_B3HW, infrared_B1HW, dark)
        certain = ((share - _DOUBT) / (_CERTAIN - _DOUBT)).clamp(0, 1)
        return without_haze(visible_B3HW, dark, _MOST * certain).clamp(0, 1)

    def forward(self, visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
        """Return the visible image without the share taken for haze, not clamped; see `right`."""
        dark = dark_channel(visible_B3HW)
        share = self._share(visible_B3HW, infrared_B1HW, dark)
        return without_haze(visible_B3HW, dark, share)

    def _share(self, visible: Tensor, infrared: Tensor, dark: Tensor) -> Tensor:
        """Return the share (B, 1, H, W), about [0, 1], from means over cells and around them."""
        gray, darkest = visible.mean(dim=1, keepdim=True), visible.amin(dim=1, keepdim=True)
        brightest = visible.amax(dim=1, keepdim=True)
        planes = torch.cat((dark, gray, brightest - darkest, infrared), dim=1)
        bright = torch.cat((gray, infrared), dim=1)
        near = box_mean(bright, 3, 3)
        wide = box_mean(near, _DARK, _DARK)
        strengths = torch.cat((bright - near, near - wide), dim=1).square()
        textures = 0.25 * (F.avg_pool2d(strengths, _CELL) + 1e-6).log() + 2
        seen = torch.cat((F.avg_pool2d(planes, _CELL), textures), dim=1)
        products = seen[:, :1] * seen[:, 1:2], seen[:, :1].square(), seen[:, 1:2].square()
        around = box_mean(torch.cat((seen, *products), dim=1), _AROUND, _AROUND)
        mean, deviation = self.typical.unbind(dim=1)
        hidden = F.gelu(self.hidden((around.permute(0, 2, 3, 1) - mean) / deviation))
        cells = self.out(hidden).permute(0, 3, 1, 2)
        return F.interpolate(cells, scale_factor=_CELL, mode="bilinear")


def dark_channel(visible_B3HW: Tensor) -> Tensor:
    """Return the veil (B, 1, H, W) in [0, 0.85] that would leave nothing but black nearby.

    The darkest value in a square, smoothed, and nowhere above the darkest channel of the pixel
    itself or the airlight.
    """
    darkest = visible_B3HW.amin(dim=1, keepdim=True)
    half = _DARK // 2
    columns = F.max_pool2d(-darkest, (_DARK, 1), stride=1, padding=(half, 0))
    nearby = -F.max_pool2d(columns, (1, _DARK), stride=1, padding=(0, half))
    for _ in range(2):
        nearby = box_mean(nearby, _SMOOTH, _SMOOTH)
    return torch.minimum(nearby, darkest).clamp(max=_AIRLIGHT)


def without_haze(visible_B3HW: Tensor, dark_B1HW: Tensor, share_B1HW: Tensor) -> Tensor:
    """Return the scene behind that share of the dark channel, not clamped."""
    veil = share_B1HW * dark_B1HW
    through = (1 - veil / _AIRLIGHT).clamp(min=_LEAST)
    return (visible_B3HW - _AIRLIGHT * (1 - through)) / through
