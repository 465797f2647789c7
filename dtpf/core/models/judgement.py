"""Which image of a pair is degraded, and which one is to be trusted for edges.

Legend: B = batch, H, W = height and width, C = channels; planes = images (B, C, H, W), cells =
squares of 8 x 8 pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtpf.core.ops.filters import box_mean

IMAGES = 4  # planes: red, green, blue, infrared
CELL = 8  # pixels a side that are judged as one
_AROUND = 17  # cells a side that are judged together: 136 pixels, a crop in training
_FARTHEST = 4.0  # powers of e by which one image's edges may count for more


class Judge(nn.Module):
    """Tells which of the two images is degraded.

    It sees how strong fine texture and proposed changes are in cells of 8 x 8 pixels, and the
    encoder's features. Means of logarithms over many cells tell noise, which is everywhere, from
    texture, which leaves some cells flat.
    """

    def __init__(self, deepest: int, hidden: int) -> None:
        super().__init__()
        self.width = 2 * IMAGES + deepest  # what is seen of each cell
        self.features = nn.Linear(deepest, deepest)
        self.hidden = nn.Linear(self.width, hidden)
        self.out = nn.Linear(hidden, 2)

    def look(self, pair: Tensor, changes: Tensor, deepest_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is seen of cells, and its means around them, (B, H/8, W/8, C) each.

        From planes (B, 4, H, W), their changes, and features.
        """
        fine = pair - box_mean(pair, 3, 3)
        # Detached: what to change is learned from the clean pair alone.
        strengths = F.avg_pool2d(torch.cat((fine, changes.detach()), dim=1).square(), CELL)
        features = F.gelu(self.features(deepest_BHWC)).permute(0, 3, 1, 2)
        logarithms = 0.5 * (strengths + 1e-7).log() + 4  # about -4 to 3: a linear layer's range
        seen = torch.cat((logarithms, features), dim=1)
        around = box_mean(seen, _AROUND, _AROUND)
        return seen.permute(0, 2, 3, 1), around.permute(0, 2, 3, 1)

    def forward(self, around_BHWC: Tensor) -> Tensor:
        """Return logits (B, 2, H/8, W/8) from the means around cells."""
        return self.out(F.gelu(self.hidden(around_BHWC))).permute(0, 3, 1, 2)


class Trust(nn.Module):
    """Says which image's edges are to count for more, from what the judge sees; at first, neither.

    Detached: it learns from the fused picture, which is not to teach what is degraded.
    """

    def __init__(self, seen: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * seen + 2, hidden)
        self.out = nn.Linear(hidden, 1)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, cells_BHWC: Tensor, around_BHWC: Tensor, degraded: Tensor) -> Tensor:
        """Return (B, 1, H/8, W/8), within four powers of e, from what is seen and the logits."""
        judged = degraded.permute(0, 2, 3, 1).sigmoid()
        seen = torch.cat((cells_BHWC, around_BHWC, judged), dim=3).detach()
        shift = _FARTHEST * self.out(F.gelu(self.hidden(seen))).tanh()
        return shift.permute(0, 3, 1, 2)
