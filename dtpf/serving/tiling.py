"""Large pairs in overlapping tiles, blended: memory stays that of one model call.

Legend: H, W = height and width. Tiles all have one size. Where they overlap their weights rise
and fall linearly, so that no seam shows even though a network that weighs whole images (channel
attention) sees each tile for itself; away from such statistics the result is that of one call.
"""

import math
from collections.abc import Callable

import numpy as np

from dtpf.core.ops.pixels import FloatImage

Fuse = Callable[[FloatImage, FloatImage], FloatImage]

_STEP = 64  # sides of tiles are multiples of it: no padding inside the network


def fuse_tiled(
    fuse: Fuse, visible: FloatImage, infrared: FloatImage, max_pixels: int
) -> FloatImage:
    """Fuse a pair in calls of at most `max_pixels` (at least 64 * 64) pixels each.

    Args:
        fuse: fuses one tile.
        visible: (H, W, 3) in [0, 1].
        infrared: (H, W) in [0, 1].
        max_pixels: pixels of one call.

    Returns:
        (H, W, 3) in [0, 1].
    """
    height, width = infrared.shape
    if height * width <= max_pixels:
        return fuse(visible, infrared)
    rows, columns = _tile_size(height, width, max_pixels)
    total = np.zeros((height, width, 3), dtype=np.float32)
    weights = np.zeros((height, width, 1), dtype=np.float32)
    window = (_ramp(rows)[:, None] * _ramp(columns)[None, :])[..., None]
    for top in _starts(height, rows):
        for left in _starts(width, columns):
            place = slice(top, top + rows), slice(left, left + columns)
            total[place] += window * fuse(visible[place], infrared[place])
            weights[place] += window
    return total / weights


def _tile_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    side = max(_STEP, math.isqrt(max_pixels) // _STEP * _STEP)
    rows = min(height, side)
    # A narrow image has longer tiles.
    columns = min(width, max(_STEP, max_pixels // rows // _STEP * _STEP))
    return min(height, max(rows, max_pixels // columns // _STEP * _STEP)), columns


def _overlap(tile: int) -> int:
    return max(1, min(64, tile // 4))


def _starts(length: int, tile: int) -> list[int]:
    count = 1 if length <= tile else math.ceil((length - tile) / (tile - _overlap(tile))) + 1
    return [int(start) for start in np.linspace(0, length - tile, count).round()]


def _ramp(tile: int) -> FloatImage:
    """Weights of a tile along one side: 1 inside, falling towards both ends, never 0."""
    distance = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1))
    return np.minimum(1.0, distance / _overlap(tile)).astype(np.float32)
