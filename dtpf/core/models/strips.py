"""Working through a feature map piece by piece, so that what a layer needs stays in the cache.

Without gradients, a layer's wide intermediate results (three to five times its input) need never
exist for the whole image at once. Pieces are groups of small images, or horizontal strips of one
large image; the result is the same as in one go. It is faster, since memory fresh from the system
costs more than the arithmetic, and peak memory no longer depends on the intermediate results.
Legend: B = batch, H, W = height and width, C = channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Numbers of a layer's input per piece: on a CPU what fits the second-level cache with its
# intermediate results; elsewhere a bound on memory, and on the windows of one attention call, of
# which CUDA kernels take at most 65535.
_CPU_PIECE = 2**17
_PIECE = 2**24


class Strip(NamedTuple):
    """Some images of a batch and some of their rows."""

    images: slice
    start: int
    stop: int

    def of(self, x_BHWC: Tensor) -> Tensor:
        """Return the view of the strip."""
        return x_BHWC[self.images, self.start : self.stop]

    def with_context(self, x_BHWC: Tensor, rows: int) -> tuple[Tensor, int, int]:
        """Return the strip with up to `rows` more on both sides, and how many there are."""
        above = min(rows, self.start)
        below = min(rows, x_BHWC.shape[1] - self.stop)
        return x_BHWC[self.images, self.start - above : self.stop + below], above, below


def fits_at_once(x_BHWC: Tensor) -> bool:
    """Whether a layer should take its input in one piece."""
    if torch.is_grad_enabled() or x_BHWC.is_meta:
        return True
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True  # pieces would be of the size that is seen now
    return x_BHWC.numel() <= _piece_size(x_BHWC)


def strips(x_BHWC: Tensor, multiple: int) -> Iterator[list[Strip]]:
    """Yield the pieces of a batch; each list covers some images completely.

    Args:
        x_BHWC: the input of a layer.
        multiple: what the height of a strip divides by, except perhaps for the last.
    """
    batch, height, width, channels = x_BHWC.shape
    size = _piece_size(x_BHWC)
    together = max(1, size // (height * width * channels))
    rows = height if together > 1 else max(1, size // (width * channels * multiple)) * multiple
    for first in range(0, batch, together):
        images = slice(first, min(first + together, batch))
        yield [Strip(images, y, min(y + rows, height)) for y in range(0, height, rows)]


def _piece_size(x_BHWC: Tensor) -> int:
    return _CPU_PIECE if x_BHWC.device.type == "cpu" else _PIECE
