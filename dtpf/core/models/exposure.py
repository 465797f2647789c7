"""Undoes over-exposure of a visible image, which only the image as a whole tells.

Parts of any scene are bright; what an over-exposed one lacks is dark parts. So means over the whole
image are looked at, and tiles of one image share them (`dtpf.core.models.moments`).
Legend: B = batch, H, W = height and width, K = means; planes = images (B, C, H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.models.moments import BrightnessMoments, as_seen
from dtpf.core.ops.color import luminance

GAIN, LIFT = 0.9, 0.1  # of an extremely over-exposed image: x * (1 + GAIN) + LIFT
_CELL = 4  # pixels a side that are judged as one, as noise clips some pixels of any bright scene
_LEVELS = tuple(level / 10 for level in range(1, 10))
_BROAD = 0.1  # of [0, 1], over which a level passes from not reached to reached
_NEARLY, _FULL = 0.99, 0.998  # cells whose darkest pixel lies there begin to count as clipped
_LEAST = 1e-5  # share of clipped cells below which none is told from a few
MEANS = 2 * len(_LEVELS) + 3
# Probability from which on a scene is changed, and from which on it is in full: clean and noisy
# validation pairs stay below 0.61, over-exposed ones of severity 0.6 lie above 0.98, but for one.
_DOUBT, _CERTAIN = 0.65, 0.95


class Exposure(nn.Module):
    """Tells from means over an image whether and how severely it is over-exposed.

    Weights are fitted to whole images, not trained on crops (`dtpf.training.exposure`), so they
    are buffers. At first nothing counts as over-exposed.
    """

    weight: Tensor
    bias: Tensor
    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(2, MEANS))
        self.register_buffer("bias", torch.zeros(2))
        self.register_buffer("levels", torch.tensor(_LEVELS)[:, None, None], persistent=False)

    def forward(self, visible_B3HW: Tensor) -> Tensor:
        """Return the image in [0, 1] as it would be with less light; doubtful ones as they are.

        What was clipped stays flat, at the level that full white had in the scene.

        Args:
            visible_B3HW: RGB in [0, 1]; H and W from 4.
        """
        logit, severity = self.judged(self.means(visible_B3HW)).unbind(dim=1)
        certain = ((logit.sigmoid() - _DOUBT) / (_CERTAIN - _DOUBT)).clamp(0, 1)
        severity = (severity.clamp(0, 1) * certain)[:, None, None, None]
        return ((visible_B3HW - LIFT * severity) / (1 + GAIN * severity)).clamp(0, 1)

    def means(self, visible_B3HW: Tensor) -> Tensor:
        """Return means (B, K) over the image, or over that of which it is a tile."""
        seen = F.avg_pool2d(visible_B3HW, _CELL)
        gray, darkest = luminance(seen), seen.amin(dim=1, keepdim=True)
        reached = [((x - self.levels) / _BROAD + 0.5).clamp(0, 1) for x in (gray, darkest)]
        colour = seen.amax(dim=1, keepdim=True) - darkest
        sums = torch.cat((*reached, colour, _clipped(visible_B3HW)), dim=1).sum(dim=(2, 3))
        own = BrightnessMoments(sums, torch.ones_like(gray).sum(dim=(1, 2, 3)))
        sums_BK, cells_B = as_seen(self, own)
        means_BK = sums_BK / cells_B[:, None]
        # A root, since it matters more whether anything is clipped than how much of it.
        return torch.cat((means_BK[:, :-2], (means_BK[:, -2:] + _LEAST).sqrt()), dim=1)

    def judged(self, means_BK: Tensor) -> Tensor:
        """Return (B, 2): the logit that an image is over-exposed, and its severity if it is."""
        # Not a product of matrices: those are rounded to 8 bits in exported networks.
        return (means_BK[:, None] * self.weight).sum(dim=2) + self.bias


def _clipped(visible_B3HW: Tensor) -> Tensor:
    """Return (B, 2, H/4, W/4) how far all pixels of a cell are clipped: a channel of each, all."""
    brightest, darkest = visible_B3HW.amax(dim=1), visible_B3HW.amin(dim=1)
    darkest = -F.max_pool2d(-torch.stack((brightest, darkest), dim=1), _CELL)
    return ((darkest - _NEARLY) / (_FULL - _NEARLY)).clamp(0, 1)
