"""Cutting a feature map into square windows, disjoint or overlapping, and back.

Legend: B = batch, H, W = height and width, I = heads * D, h = heads, D = channels of one head,
n = windows of all images, row by row, Q = window^2, K = (window + 2 margin)^2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def to_squares(x_BHWI: Tensor, window: int, heads: int) -> Tensor:
    """Return disjoint windows (n, h, Q, D); H and W must divide by `window`."""
    batch, height, width, inner = x_BHWI.shape
    cells = x_BHWI.reshape(
        batch, height // window, window, width // window, window, heads, inner // heads
    )
    return cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, heads, window**2, inner // heads)


def from_squares(windows_nhQD: Tensor, shape: torch.Size, window: int) -> Tensor:
    """Inverse of `to_squares`: (B, H, W, I), given that shape."""
    batch, height, width, _ = shape
    _, heads, _, size = windows_nhQD.shape
    cells = windows_nhQD.reshape(
        batch, height // window, width // window, heads, window, window, size
    )
    return cells.permute(0, 1, 4, 2, 5, 3, 6).reshape(shape)


def to_overlapping(padded_BHWI: Tensor, window: int, margin: int, heads: int) -> Tensor:
    """Return the windows (n, h, K, D) that reach `margin` pixels beyond the disjoint ones.

    Args:
        padded_BHWI: the map with `margin` more pixels on each side.
        window: side of the disjoint windows, at least twice the margin.
        margin: see above.
        heads: into how many parts the channels are split.
    """
    if torch.jit.is_tracing():
        return _joined_cells(padded_BHWI, window, margin, heads)
    windows: Tensor = _Overlapping.apply(padded_BHWI, window, margin, heads)
    return windows


def _joined_cells(padded_BHWI: Tensor, window: int, margin: int, heads: int) -> Tensor:
    """Join each disjoint window to the start of the next ones.

    The same as `_Overlapping`, twice copied, of operations that an ONNX graph of any size has.
    """
    rest, inner = 2 * margin, padded_BHWI.shape[-1]
    padded_BHWI = F.pad(padded_BHWI, (0, 0, 0, window - rest, 0, window - rest))
    cells = padded_BHWI.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    cells = torch.cat((cells[:, :-1], cells[:, 1:, :rest]), dim=2)
    cells = torch.cat((cells[:, :, :, :-1], cells[:, :, :, 1:, :rest]), dim=4)
    cells = cells.unflatten(5, (heads, -1)).permute(0, 1, 3, 5, 2, 4, 6)
    return cells.reshape(-1, heads, (window + rest) ** 2, inner // heads)


class _Overlapping(torch.autograd.Function):
    """Overlapping windows; the gradient adds them up block by block instead of one by one."""

    @staticmethod
    def forward(ctx: Any, padded_BHWI: Tensor, window: int, margin: int, heads: int) -> Tensor:
        ctx.shape, ctx.window, ctx.margin = padded_BHWI.shape, window, margin
        side = window + 2 * margin
        cells = padded_BHWI.unflatten(3, (heads, -1)).unfold(1, side, window)
        cells = cells.unfold(2, side, window).permute(0, 1, 2, 3, 5, 6, 4)
        return cells.reshape(-1, heads, side**2, cells.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nhKD: Tensor) -> tuple[Tensor, None, None, None]:
        batch, height, width, inner = ctx.shape
        window, margin, side = ctx.window, ctx.margin, ctx.window + 2 * ctx.margin
        rows, columns = (height - 2 * margin) // window, (width - 2 * margin) // window
        heads = grad_nhKD.shape[1]
        grad = grad_nhKD.view(batch, rows, columns, heads, side, side, -1)
        grad = grad.permute(0, 1, 4, 2, 5, 3, 6)  # batch, row, y, column, x, head, channel
        # Blocks of window x window; a window covers its own and the start of the next ones.
        total = grad.new_zeros(batch, rows + 1, window, columns + 1, window, *grad.shape[5:])
        rest = side - window
        for down, ys in ((0, slice(0, window)), (1, slice(window, side))):
            for aside, xs in ((0, slice(0, window)), (1, slice(window, side))):
                block = total[:, down : down + rows, : (rest if down else window)]
                block = block[:, :, :, aside : aside + columns, : (rest if aside else window)]
                block += grad[:, :, ys, :, xs]
        summed = total.view(batch, (rows + 1) * window, (columns + 1) * window, inner)
        return summed[:, :height, :width], None, None, None
