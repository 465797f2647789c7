"""Large pairs in overlapping tiles, blended: memory is that of one tile, not of the image.

Tiles begin at multiples of 64 pixels, so that windows and padding fall as in one call, and overlap
by 64, or as far as a network says that it looks. They share
the channel statistics of the whole image (`dtpf.core.models.moments`), so that they agree in tone:
the network first sees the image shrunk to one tile, which gives an estimate, then all of it piece
by piece. That takes about the time of a second fusion. Where tiles overlap, their weights rise and
fall linearly.
Legend: H, W = height and width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dtpf.core.ops.pixels import FloatImage

MIN_TILE_PIXELS = 128**2
OVERLAP = 64  # pixels, for networks that do not say how far they look

_GRID = 64  # the largest stride of a network times its window
_MIN_SIDE = 16
_BLIND = 1 / 8  # of the overlap: the edge of a tile, which lacks the most of its surroundings
_ENOUGH = 16  # pieces that the statistics come from, where there are more

Place = tuple[slice, slice]


class Fusing(Protocol):
    """What fuses pairs; `dtpf.core.fusion.Fuser` is one."""

    @property
    def info(self) -> dict[str, Any]:
        """Version, parameters, provenance and metrics as plain JSON types."""

    def fuse_batch(
        self, visible: Sequence[FloatImage], infrared: Sequence[FloatImage]
    ) -> list[FloatImage]:
        """Fuse pairs (H, W, 3) and (H, W) of one size, in [0, 1], to (H, W, 3) in [0, 1]."""


@runtime_checkable
class WeighsWholeImages(Protocol):
    """A network whose result at a pixel may depend on statistics of the whole image."""

    def passes(self) -> tuple[Fusing, Fusing, Fusing] | None:
        """Return what estimates one image's statistics, collects them, and fuses by them.

        None where there are no such statistics.
        """


@runtime_checkable
class PreparesWholeImages(Protocol):
    """A network that undoes what runs through a whole image, as a sensor's lines do, before all."""

    def prepared(self, infrared: FloatImage) -> FloatImage:
        """Return the image (H, W) in [0, 1] without it; in one call, a network does it itself."""


@runtime_checkable
class LooksFar(Protocol):
    """A network whose result at a pixel depends on what lies far from it."""

    @property
    def reach(self) -> int:
        """By how many pixels its tiles are to overlap, where they are large enough."""


Call = Callable[[Fusing, FloatImage, FloatImage], FloatImage]


def fuse_once(network: Fusing, visible: FloatImage, infrared: FloatImage) -> FloatImage:
    """Fuse one pair in one call."""
    return network.fuse_batch([visible], [infrared])[0]


def fuse_tiled(
    network: Fusing,
    visible: FloatImage,
    infrared: FloatImage,
    max_pixels: int,
    call: Call = fuse_once,
) -> FloatImage:
    """Fuse a pair in calls of at most `max_pixels` (at least 128 * 128) pixels each.

    Args:
        network: what fuses a tile.
        visible: (H, W, 3) in [0, 1].
        infrared: (H, W) in [0, 1].
        max_pixels: pixels of one call.
        call: how `network` is asked to fuse one tile.

    Returns:
        (H, W, 3) in [0, 1].
    """
    height, width = infrared.shape
    if height * width <= max_pixels:
        return call(network, visible, infrared)
    rows, columns = _tile_size(height, width, max_pixels)
    wanted = network.reach if isinstance(network, LooksFar) else OVERLAP
    down, across = (_Tiles.along(*side, wanted) for side in ((height, rows), (width, columns)))
    if isinstance(network, PreparesWholeImages):
        infrared = network.prepared(infrared)
    if isinstance(network, WeighsWholeImages) and (passes := network.passes()):
        pieces = list(product(_pieces(height, rows), _pieces(width, columns)))
        network = _informed(passes, visible, infrared, pieces, call)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for place in product(down.spans, across.spans):
        tile = call(network, visible[place], infrared[place])
        weight = np.multiply.outer(down.weights(place[0]), across.weights(place[1]))
        total[place] += tile * weight[..., None]
    total /= down.covered()[:, None, None]
    total /= across.covered()[:, None]
    return total


def _informed(
    passes: tuple[Fusing, Fusing, Fusing],
    visible: FloatImage,
    infrared: FloatImage,
    pieces: list[Place],
    call: Call,
) -> Fusing:
    """Show the image to a network, shrunk and in pieces; return it with what it saw."""
    estimating, collecting, fusing = passes
    largest = max(infrared[piece].size for piece in pieces)
    call(estimating, _shrunk(visible, largest), _shrunk(infrared, largest))
    chosen = np.linspace(0, len(pieces) - 1, min(_ENOUGH, len(pieces))).round().astype(int)
    for number in chosen:
        call(collecting, visible[pieces[number]], infrared[pieces[number]])
    return fusing


def _shrunk(image: FloatImage, pixels: int) -> FloatImage:
    """Return (H, W) or (H, W, 3) as means over blocks, of about `pixels` pixels at most.

    Views and one small result: an 8K image is not copied for it.
    """
    height, width = image.shape[:2]
    ratio = height * width / pixels
    short = max(1, min(math.ceil(math.sqrt(ratio)), min(height, width) // _MIN_SIDE))
    long = max(1, min(math.ceil(ratio / short), max(height, width) // _MIN_SIDE))
    down, across = (short, long) if height < width else (long, short)
    rows, columns = height // down, width // across
    blocks = image[: rows * down, : columns * across]
    blocks = blocks.reshape(rows, down, columns, across, *image.shape[2:])
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _tile_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    side = max(2 * _GRID, math.isqrt(max_pixels) // _GRID * _GRID)
    rows = min(height, side)
    # A narrow image has longer tiles.
    columns = min(width, max(side, max_pixels // rows // _GRID * _GRID))
    return min(height, max(rows, max_pixels // columns // _GRID * _GRID)), columns


def _pieces(length: int, tile: int) -> list[slice]:
    """Cut one side into parts of much the same length, so that each pixel counts once."""
    count = math.ceil(length / tile)
    cuts = [round(number * length / count / _GRID) * _GRID for number in range(count)] + [length]
    return [slice(start, stop) for start, stop in pairwise(cuts)]


@dataclass(frozen=True)
class _Tiles:
    """Tiles along one side of an image; the last may be shorter by less than the grid."""

    length: int
    spans: list[slice]
    overlap: int

    @classmethod
    def along(cls, length: int, tile: int, overlap: int) -> "_Tiles":
        """Lay tiles of that size; two overlap as wanted, or by all of them but the grid."""
        if tile >= length:
            return cls(length, [slice(0, length)], overlap)
        overlap = min(overlap, tile - _GRID)
        last = math.ceil((length - tile) / _GRID) * _GRID
        starts = [*range(0, last, tile - overlap), last]
        return cls(length, [slice(start, min(start + tile, length)) for start in starts], overlap)

    def weights(self, span: slice) -> FloatImage:
        """Return 1, falling towards the ends of the tile that other tiles cover too."""
        inside = np.arange(span.start, span.stop) + 0.5
        from_start = inside - span.start if span.start else np.inf
        to_stop = span.stop - inside if span.stop < self.length else np.inf
        nearest = np.minimum(np.minimum(from_start, to_stop), self.overlap) * np.ones_like(inside)
        share = (nearest / self.overlap - _BLIND) / (1 - 2 * _BLIND)
        return np.clip(share, 1e-3, 1.0).astype(np.float32)

    def covered(self) -> FloatImage:
        """Return the sum of the weights of all tiles."""
        total = np.zeros(self.length, dtype=np.float32)
        for span in self.spans:
            total[span] += self.weights(span)
        return total
