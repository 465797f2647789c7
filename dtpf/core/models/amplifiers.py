"""Undoes what the amplifiers of a microbolometer add: a gain and an offset for each column or row.

They are the same from end to end of a column, so all of it tells them, where a network sees parts.
Legend: B = batch, H, W = height and width; planes are (B, 1, H, W), lines (B, 1, 1, W).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dtpf.core.models.moments import LineShares, as_seen
from dtpf.core.ops.filters import box_mean

_NEAR = (11, 21)  # pixels a side of the level that lines stand out from, first and second time
_TYPICAL = 0.05  # of [0, 1]: what stands out by more is an edge more than a line
_FLAT = 5.0  # pixels without a line that every line is taken to have: a few pixels tell little
_ROUNDS = 3  # of fitting, each with less weight on what stood out of the one before
_CLIPPED = 1 / 255  # pixels so near to an end of the range tell no gain and no offset
_LEAST = 1e-8
_OF_LOGARITHMS = 3.56  # a normal variable's variance over exp(mean of its squares' logarithms)
_SURE = 4.0  # squared: standard errors that do not count, of offsets found where there are none
# Deviation of the offsets from which on they are taken away, and from which on in full. In training
# images it is 0.010 at most; stripes of severity 0.1 are left, those of 0.2 are taken away.
_DOUBT, _CERTAIN = 0.012, 0.018


class Lines(NamedTuple):
    """What was fitted to each column of an image.

    Attributes:
        taken: (B, 1, H, W), what the gains and offsets have added.
        offset: lines, at the mean level of each column.
        error: lines, squared standard errors of the offsets.
    """

    taken: Tensor
    offset: Tensor
    error: Tensor


class Amplifiers(nn.Module):
    """Takes lines out of an infrared image, where it has such; nothing of it is learned.

    A column's deviation from the level around it is fitted by an offset and a gain over its whole
    length, edges weighing little; a row's likewise. Scenes have edges along some columns, a drifted
    sensor has a line at each: the typical offset, which a few strong ones do not raise, tells them
    apart. A large image passes before it is cut into tiles, which are left as they are then
    (`dtpf.core.tiling`, `dtpf.core.models.moments`).
    """

    def forward(self, infrared_B1HW: Tensor) -> Tensor:
        """Return the image in [0, 1] without its lines; bit by bit the same where it has none.

        Args:
            infrared_B1HW: in [0, 1].
        """
        fits = _both_ways(infrared_B1HW, _NEAR[0])
        own = LineShares(torch.stack([share_of(lines) for lines in fits], dim=1))
        (shares,) = as_seen(self, own)
        image = _without(infrared_B1HW, fits, shares)
        return _without(image, _both_ways(image, _NEAR[1]), shares).clamp(0, 1)


def fit_columns(image_B1HW: Tensor, near: int) -> Lines:
    """Fit an offset and a gain to each column, by least squares that are weighed anew each round.

    Offsets of an image have the mean 0: what all its columns have in common is no line.

    Args:
        image_B1HW: in [0, 1].
        near: columns, odd, over whose mean's mean the level runs that deviations are taken from.
    """
    level = box_mean(box_mean(image_B1HW, 1, near), 1, near)
    deviation, about = image_B1HW - level, level - _mean(level, 2)
    usable = ((image_B1HW > _CLIPPED) & (image_B1HW < 1 - _CLIPPED)).to(image_B1HW.dtype)
    rest = deviation
    for _ in range(_ROUNDS):
        weight = usable / (1 + (rest / _TYPICAL).square())
        seen, sought = weight * about, weight * deviation
        count, slopes = _sum(weight) + _FLAT, _sum(seen * about) + _FLAT
        crossed, offsets, tilts = _sum(seen), _sum(sought), _sum(seen * deviation)
        determinant = count * slopes - crossed.square()
        offset = (slopes * offsets - crossed * tilts) / determinant
        gain = (count * tilts - crossed * offsets) / determinant
        rest = deviation - offset - gain * about
    error = _sum((weight * rest).square()) / count.square()
    offset = offset - _mean(offset, 3)
    return Lines(offset + gain * about, offset, error)


def share_of(lines: Lines) -> Tensor:
    """Return how far the lines of an image are taken for those of a sensor, (B,) in [0, 1]."""
    logarithms = (lines.offset.square() + _LEAST).log().mean(dim=(1, 2, 3))
    by_chance = _SURE * lines.error.mean(dim=(1, 2, 3))
    deviation = (_OF_LOGARITHMS * logarithms.exp() - by_chance).clamp(min=_LEAST).sqrt()
    return ((deviation - _DOUBT) / (_CERTAIN - _DOUBT)).clamp(0, 1)


def _both_ways(image_B1HW: Tensor, near: int) -> tuple[Lines, Lines]:
    """Return what was fitted to the columns, and to the rows, turned."""
    return fit_columns(image_B1HW, near), fit_columns(image_B1HW.transpose(2, 3), near)


def _without(image_B1HW: Tensor, fits: tuple[Lines, Lines], shares_B2: Tensor) -> Tensor:
    columns, rows = shares_B2[:, :, None, None, None].unbind(dim=1)
    return image_B1HW - columns * fits[0].taken - rows * fits[1].taken.transpose(2, 3)


def _sum(planes: Tensor) -> Tensor:
    return planes.sum(dim=2, keepdim=True)


def _mean(planes: Tensor, dim: int) -> Tensor:
    return planes.mean(dim=dim, keepdim=True)
