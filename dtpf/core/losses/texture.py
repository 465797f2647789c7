"""Terms about pixels beside each other: as sharp as it may be, and no sharper than that.

Of spatial frequency alone a network gets more by pixels that alternate, and by grain in plain
skies, than by edges. So what is sharper is bounded by what is natural: by second differences,
which are largest where pixels alternate, and by the grain of flat regions.
Legend: B = batch, H, W = height and width; images are luminances in [0, 255].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.metrics.gradient import spatial_frequency_squared

_FLAT = 0.01  # squared SF, gray levels, that counts as none: there a logarithm has no value
_CRISPEST = 1.35  # times the sharper source: no reward beyond
_ALTERNATING = 1.3  # times the source with larger second differences: no punishment below
_UNSEEN = 1.0  # gray levels of second differences that nobody sees
_SMOOTH = 4.0  # gray levels of second differences beside which a ratio says something
_PATCH = 5  # pixels a side in which they are measured
_WINDOW = 7  # pixels a side in which grain is measured
_FLAT_SHARE = 0.3  # of an image's windows count as flat
_STILL = 1.0  # gray levels of grain beside which a ratio says something


def sharpness_loss(
    fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor, dull_B: Tensor
) -> Tensor:
    """Log of the sharper source's SF over the result's, at least -log(1.35); returns (B,).

    Where the sources are dull, (B,) bool, at least 0: the finest detail of soft and dim images is
    grain as much as edges, and a network that has seen none of them sharpens it all.
    The frame of two pixels does not count: edges there count for nothing, so that a network would
    draw a line of black and white pixels around the picture.
    """
    images = (image[:, 2:-2, 2:-2] for image in (fused_BHW, visible_BHW, infrared_BHW))
    most = fused_BHW.new_tensor([_CRISPEST, 1.0])[dull_B.long()]
    return lost_frequency(*images, most=most)


def lost_frequency(fused: Tensor, visible: Tensor, infrared: Tensor, *, most: Tensor) -> Tensor:
    """Return the log of the sharper source's SF over the result's, (B,), at least -log(most)."""
    squared = [spatial_frequency_squared(image) + _FLAT for image in (fused, visible, infrared)]
    lost = 0.5 * (torch.maximum(squared[1], squared[2]) / squared[0]).log()
    return torch.maximum(lost, -most.log())


def alternation_loss(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """How far second differences exceed 1.3 times those of the source that has larger ones there.

    Root mean squares in windows of 5 x 5, beside the source's. Those along rows, along columns and
    across both count one by one: a pattern of single rows is as bad as a checkerboard; and windows
    count one by one: dots in a bright spot are not paid for by trees that got smoother. Returns
    (B,), 0 for what looks like its sources.
    """
    largest = torch.maximum(_second_differences(visible_BHW), _second_differences(infrared_BHW))
    excess = _second_differences(fused_BHW) - _ALTERNATING * largest - _UNSEEN
    return (excess.clamp(min=0.0) / (largest + _SMOOTH)).mean(dim=(2, 3)).sum(dim=1)


def grain_loss(fused_BHW: Tensor, visible_BHW: Tensor, infrared_BHW: Tensor) -> Tensor:
    """How much rougher than the rougher source the result is, where both are flattest.

    Standard deviations in windows of 7 x 7; the flattest 30% of the windows count. Returns (B,).
    """
    roughest = torch.maximum(_grain(visible_BHW), _grain(infrared_BHW))
    limit = torch.quantile(roughest, _FLAT_SHARE, dim=1, keepdim=True)
    excess = (_grain(fused_BHW) - roughest).clamp(min=0.0) / (roughest + _STILL)
    return (excess * (roughest <= limit)).mean(dim=1)


def _second_differences(image: Tensor) -> Tensor:
    inner = image[:, 1:-1, 1:-1]
    across = image[:, 1:-1, 2:] - 2 * inner + image[:, 1:-1, :-2]
    down = image[:, 2:, 1:-1] - 2 * inner + image[:, :-2, 1:-1]
    both = image.diff(dim=1).diff(dim=2)[:, 1:, 1:]
    squared = torch.stack((across, down, both), dim=1).square()
    # At zero a root has no derivative.
    return (F.avg_pool2d(squared, _PATCH, 1) + 1e-3).sqrt()


def _grain(image: Tensor) -> Tensor:
    # About the image's own mean: squares of gray levels of 255 leave float32 few digits.
    centred = image[:, None] - image.mean(dim=(1, 2))[:, None, None, None]
    mean = F.avg_pool2d(centred, _WINDOW, 1)
    square = F.avg_pool2d(centred.square(), _WINDOW, 1)
    return (square - mean.square()).clamp(min=1e-3).sqrt().flatten(start_dim=1)
