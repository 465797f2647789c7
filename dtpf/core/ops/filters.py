"""Separable filtering of images where the window fits.

Legend: B = batch, C = channels, H, W = height and width, K = window size, S = step.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def filter_windows(image_BHW: Tensor, window_K: Tensor, step: int = 1) -> Tensor:
    """Filter rows and columns with `window_K` where it fits, keeping every `step`-th result.

    Differentiable once with respect to the image.

    Args:
        image_BHW: floats, at least K x K.
        window_K: weights of one axis, used for both; an odd number.
        step: distance of the windows that are kept, along both axes.

    Returns:
        (B, (H - K) // S + 1, (W - K) // S + 1).
    """
    if image_BHW.device.type != "cpu":
        return _convolved(image_BHW[:, None], window_K, step)[:, 0]
    filtered: Tensor = _ShiftedSums.apply(image_BHW, window_K, step)
    return filtered


def smoothed(image_B1HW: Tensor, window_K: Tensor, padding: str = "reflect") -> Tensor:
    """Filter rows and columns around each pixel by convolutions, which export and compile.

    Args:
        image_B1HW: floats, at least K // 2 + 1 pixels a side.
        window_K: weights of one axis, used for both; an odd number.
        padding: how the image goes on beyond its edges, as in `torch.nn.functional.pad`.

    Returns:
        (B, 1, H, W).
    """
    padded = F.pad(image_B1HW, (window_K.numel() // 2,) * 4, mode=padding)
    return _convolved(padded, window_K, 1)


def box_mean(planes: Tensor, rows: int, columns: int) -> Tensor:
    """Return means over windows around each pixel, of those pixels that lie in the image.

    Args:
        planes: (B, C, H, W) floats.
        rows: height of the window, odd.
        columns: width of the window, odd.

    Returns:
        (B, C, H, W).
    """
    for dim, size in ((2, rows), (3, columns)):
        if size > 1:
            # How many of a window lie inside differs along `dim` alone.
            line = planes[:1, :1].narrow(5 - dim, 0, 1)
            planes = _sums(planes, size, dim) / _sums(torch.ones_like(line), size, dim)
    return planes


def _sums(planes: Tensor, size: int, dim: int) -> Tensor:
    """Return sums over `size` (odd) pixels around each, zeros outside, of sums over powers of two.

    A window of 127 takes twelve additions a pixel, where pooling takes 127.
    """
    length = planes.shape[dim]
    margin = [0, 0, 0, 0]
    margin[2 * (3 - dim) : 2 * (4 - dim)] = size // 2, size // 2
    summed = F.pad(planes, margin)
    parts, offset, width = [], 0, 1
    while True:
        if size & width:
            parts.append(summed.narrow(dim, offset, length))
            offset += width
        if 2 * width > size:
            break
        span = summed.shape[dim] - width
        summed = summed.narrow(dim, 0, span) + summed.narrow(dim, width, span)
        width *= 2
    return reduce(torch.add, parts)


class _ShiftedSums(torch.autograd.Function):
    """Weighted sums of shifted copies: on a CPU three to ten times faster than a convolution.

    The derivative is the same filter, mirrored, over the gradient spread out to the image: far
    cheaper than the derivatives of single shifts, which autograd would add up one by one.
    """

    @staticmethod
    def forward(ctx: Any, image_BHW: Tensor, window_K: Tensor, step: int) -> Tensor:
        ctx.window, ctx.step, ctx.shape = window_K, step, image_BHW.shape
        return _both_axes(image_BHW, window_K.tolist(), step)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        border, step = ctx.window.numel() - 1, ctx.step
        batch, height, width = ctx.shape
        spread = gradient.new_zeros(batch, height + border, width + border)
        rows, columns = (size * step for size in gradient.shape[1:])
        spread[:, border : border + rows : step, border : border + columns : step] = gradient
        return _both_axes(spread, ctx.window.flip(0).tolist(), 1), None, None


def _both_axes(image_BHW: Tensor, weights: list[float], step: int) -> Tensor:
    return _down(_down(image_BHW, weights, step).mT, weights, step).mT


def _down(image_BHW: Tensor, weights: list[float], step: int) -> Tensor:
    count = image_BHW.shape[1] - len(weights) + 1
    total = weights[0] * image_BHW[:, :count:step]
    for shift, weight in enumerate(weights[1:], start=1):
        total.add_(image_BHW[:, shift : shift + count : step], alpha=weight)
    return total


def _convolved(image_B1HW: Tensor, window_K: Tensor, step: int) -> Tensor:
    planes = F.conv2d(image_B1HW, window_K.view(1, 1, -1, 1), stride=(step, 1))
    return F.conv2d(planes, window_K.view(1, 1, 1, -1), stride=(1, step))
