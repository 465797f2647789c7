"""A network's result as a mixture of its sources' Laplacian bands.

The paper adds the output convolution's pixels to the visible image. To learn where an edge is to
be taken from, and how strong, is much easier than to learn the edge itself.
Legend: B = batch, H, W = height and width, C = channels; lists run from level 1 to level 4.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.layers import Conv
from dtpf.core.ops.filters import smoothed
from dtpf.core.ops.pyramid import Bands, coarser, collapse, laplacian_bands
from dtpf.core.ops.sobel import sobel
from dtpf.core.ops.ssim import gaussian_window

_SIGMA = 5.0  # of the window in which the sources' edges are compared, pixels
_RADIUS = 15
_SHARPNESS = 8.0  # of the choice between the sources: at 1.3 times the edges it is 9 to 1
_NO_EDGE = 1e-7
_SMOOTH = (0.25, 0.5, 0.25)
_MIDDLE = 0.5  # the base is weighed about middle gray
_BRIGHTER, _LIFT, _DARKER = 1.25, 0.02, 0.75  # how far it may leave the range of both sources


class BandMixer(nn.Module):
    """Mixes luminance and infrared, level by level, as the decoder's features say.

    Where the visible image has the stronger edges within a Gaussian window, its details are taken,
    at all levels alike (elsewhere an edge would lose its shape), else the infrared's; the base is
    the brighter one. From that the features depart: by a shift of the choice, by gains of each
    level's details, and by gains and an offset of the base, which stays near the range of the
    sources'. With `fine`, the finest half of level 1 has gains of its own too: what is sharpened
    there adds to no edge that is wider than a pixel. All are zero at first.
    Source of the mixing: Burt and Adelson 1983, ACM Trans. Graphics 2(4), doi 10.1145/245.247.
    """

    def __init__(self, widths: Sequence[int], fine: bool = False) -> None:
        super().__init__()
        self.choice = Conv(widths[0], 1, bias=True)
        self.fine = Conv(widths[0], 2, bias=True) if fine else None
        self.details = nn.ModuleList(Conv(width, 2, bias=True) for width in widths)
        self.base = Conv(widths[-1], 3, bias=True)
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(
        self,
        features: Sequence[Tensor],
        visible_B1HW: Tensor,
        infrared_B1HW: Tensor,
        advantage_B1HW: Tensor,
    ) -> Tensor:
        """Return the mixture (B, 1, H, W), not clamped.

        Args:
            features: (B, H / 2^l, W / 2^l, C) for l = 0 to 3; H and W divide by 64.
            visible_B1HW: luminance in [0, 1].
            infrared_B1HW: in [0, 1].
            advantage_B1HW: what `edge_advantage` returned for them.
        """
        seen, heat = laplacian_bands(visible_B1HW), laplacian_bands(infrared_B1HW)
        shift = _planes(self.choice, features[0])
        share = torch.sigmoid(_SHARPNESS * (advantage_B1HW + shift))
        details = []
        for head, feature, first, second in zip(
            self.details, features, seen.details, heat.details, strict=True
        ):
            gains = _planes(head, feature)
            details.append((share + gains[:, :1]) * first + (1 - share + gains[:, 1:]) * second)
            share = coarser(share)
        if self.fine is not None:
            gains = _planes(self.fine, features[0])
            finest = _finest_half(seen.details[0]), _finest_half(heat.details[0])
            details[0] = details[0] + gains[:, :1] * finest[0] + gains[:, 1:] * finest[1]
        gains = F.avg_pool2d(_planes(self.base, features[-1]), 2)
        offset = gains[:, :1] * (seen.base - _MIDDLE) + gains[:, 1:2] * (heat.base - _MIDDLE)
        brightest = torch.maximum(seen.base, heat.base)
        base = brightest + offset + gains[:, 2:]
        # Where both sources are flat and dark, a network guesses: no blob may come of it.
        base = torch.minimum(base, _BRIGHTER * brightest + _LIFT)
        base = torch.maximum(base, _DARKER * torch.minimum(seen.base, heat.base))
        return collapse(Bands(tuple(details), base))


def edge_advantage(visible_B1HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Return the logarithm of the ratio of both sources' edge strengths, (B, 1, H, W).

    Strength is the root of the mean squared Sobel slope in a Gaussian window; above zero the
    visible image has the stronger edges.
    """
    return 0.5 * (_energy(visible_B1HW).log() - _energy(infrared_B1HW).log())


def _finest_half(detail_B1HW: Tensor) -> Tensor:
    """Return what (1, 2, 1) / 4 along rows and columns smooths away, (B, 1, H, W)."""
    return detail_B1HW - smoothed(detail_B1HW, detail_B1HW.new_tensor(_SMOOTH), "replicate")


def _energy(image_B1HW: Tensor) -> Tensor:
    across, down = sobel(image_B1HW, "reflect")
    window = gaussian_window(
        2 * _RADIUS + 1, _SIGMA, dtype=image_B1HW.dtype, device=image_B1HW.device
    )
    return smoothed(across.square() + down.square(), window) + _NO_EDGE


def _planes(head: nn.Module, feature_BHWC: Tensor) -> Tensor:
    planes: Tensor = head(feature_BHWC)
    return planes.permute(0, 3, 1, 2)
