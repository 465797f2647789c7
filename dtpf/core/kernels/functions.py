"""The compiled residuals for training: forward as without gradients, backward compiled too.

Only inputs and weights are kept; backward computes each tile's intermediate results again.
Gradients of weights are summed tile by tile in one order, whatever the number of threads.
Legend: B = batch, H, W = height and width, C = channels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dtpf.core.kernels import residuals
from dtpf.core.kernels.library import Affine, Tiles, call, size


def _sums(x: Tensor, tiles: Tiles, name: str, *sizes: int) -> Tensor:
    """Return room for what each tile adds to the gradients of the weights."""
    return x.new_empty(tiles.batch * tiles.per_image, size(f"dtpf_{name}_gradient_sums", *sizes))


def _residual(ctx: Any, write: Callable[..., None], x: Tensor, given: tuple[Any, ...]) -> Tensor:
    """Return the residual that `write` computes; keep what its gradients need."""
    weight, bias, ctx.epsilon, *weights = given
    weights = [one.contiguous() for one in weights]
    ctx.save_for_backward(x, weight, bias, *weights)
    result = torch.empty_like(x)
    write(x, Affine(weight, bias, ctx.epsilon), *weights, result)
    return result


def _norm_gradients(sums: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    weight, bias = sums.view(2, -1)[:, :channels]
    return weight, bias


def _projection_gradients(
    sums: Tensor, wide: int, channels: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return the gradients of the 1x1 weights (wide, C), the kernels, the norm's weight and bias.

    `sums` begins with them, as `ProjectionGradient::sums` of projection_gradient.h lays them out.
    """
    width = residuals.padded(channels)
    expand, kernels, norm = sums.split([wide * width, 9 * wide, 2 * width])
    kernel_grads = kernels.view(9, wide).t().reshape(wide, 1, 3, 3)
    return expand.view(wide, width)[:, :channels], kernel_grads, _norm_gradients(norm, channels)


class FeedForwardFunction(torch.autograd.Function):
    """x, norm (weight, bias, epsilon), expand, mix, reduce -> the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        """Return the residual (B, H, W, C)."""
        return _residual(ctx, residuals.feed_forward, x, given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all inputs of `forward`, given that of its result."""
        x, weight, bias, *weights = ctx.saved_tensors
        channels, hidden = weights[-1].shape
        sizes = channels, hidden
        tiles = residuals.sum_tiles(x)
        sums = _sums(x, tiles, "feed_forward", *sizes)
        scratch = size("dtpf_feed_forward_gradient_scratch", tiles.columns, *sizes)
        packed = size("dtpf_feed_forward_gradient_packed", *sizes)
        result = torch.empty_like(x)
        norm = Affine(weight, bias, ctx.epsilon)
        arguments = [x, change.contiguous(), result, sums, *sizes, norm, *weights]
        call("dtpf_feed_forward_gradient", tiles, scratch, packed, arguments)
        projection, reduce = sums.sum(dim=0).tensor_split([sums.shape[1] - channels * hidden])
        expand, mix, (norm_weight, norm_bias) = _projection_gradients(
            projection, 2 * hidden, channels
        )
        return result, norm_weight, norm_bias, None, expand, mix, reduce.view(sizes)


class LookFunction(torch.autograd.Function):
    """x, norm (weight, bias, epsilon), qkv, mix, heads -> values and the sums of `look`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> tuple[Tensor, ...]:
        """Return values (B, H, W, C), products (B, C, C), squares of queries and keys (B, C)."""
        weight, bias, ctx.epsilon, qkv, mix, heads = given
        ctx.save_for_backward(x, weight, bias, qkv, mix.contiguous())
        value = torch.empty_like(x)
        sums = residuals.look(x, Affine(weight, bias, ctx.epsilon), qkv, mix, heads, value)
        return value, *sums

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, change: Tensor, product: Tensor, query: Tensor, key: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of all inputs of `forward`, given those of its results."""
        x, weight, bias, qkv, mix = ctx.saved_tensors
        channels = x.shape[-1]
        whole = residuals.widened(qkv, mix)
        wide = len(whole[0])
        tiles = residuals.sum_tiles(x)
        sums = _sums(x, tiles, "look", channels)
        scratch = size("dtpf_look_gradient_scratch", tiles.columns, channels)
        packed = size("dtpf_look_gradient_packed", channels, len(x))
        result = torch.empty_like(x)
        given = change.contiguous(), product.contiguous(), torch.stack((query, key), dim=1)
        norm = Affine(weight, bias, ctx.epsilon)
        arguments = [x, *given, result, sums, channels, norm, *whole]
        call("dtpf_look_gradient", tiles, scratch, packed, arguments)
        expand, kernels, (norm_weight, norm_bias) = _projection_gradients(
            sums.sum(dim=0), wide, channels
        )
        used = slice(3 * channels)
        return result, norm_weight, norm_bias, None, expand[used], kernels[used], None


class WindowsFunction(torch.autograd.Function):
    """x, norm (weight, bias, epsilon), qkv, out, bias table -> the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        """Return the residual (B, H, W, C)."""
        return _residual(ctx, residuals.window_attention, x, given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all inputs of `forward`, given that of its result."""
        x, weight, bias, qkv, out, table = ctx.saved_tensors
        channels, heads = x.shape[-1], len(table)
        tiles = residuals.row_tiles(x)
        sums = _sums(x, tiles, "windows", channels, heads)
        left = x.new_empty(
            len(sums), size("dtpf_windows_gradient_left", tiles.rows, tiles.width, heads)
        )
        scratch = size("dtpf_windows_gradient_scratch", tiles.width, channels, heads)
        packed = size("dtpf_windows_gradient_packed", channels, heads)
        result = torch.empty_like(x)
        norm = Affine(weight, bias, ctx.epsilon)
        arguments = [
            x,
            change.contiguous(),
            left,
            result,
            sums,
            channels,
            heads,
            norm,
            qkv,
            out,
            table,
        ]
        call("dtpf_windows_gradient", tiles, scratch, packed, arguments)
        return result, *_window_gradients(sums.sum(dim=0), qkv, out, table)


def _window_gradients(
    sums: Tensor, qkv: Tensor, out: Tensor, table: Tensor
) -> tuple[Tensor | None, ...]:
    """Cut up what `WindowsGradient::sums` of window_attention_gradient.cpp lays out."""
    channels = out.shape[0]
    width = residuals.padded(channels)
    sizes = [len(qkv) * width, out.numel(), residuals.padded(table.numel()), 2 * width]
    qkv_sums, out_sums, biases, norm = sums.split(sizes)
    norm_weight, norm_bias = _norm_gradients(norm, channels)
    return (
        norm_weight,
        norm_bias,
        None,
        qkv_sums.view(len(qkv), width)[:, :channels],
        out_sums.view_as(out),
        biases[: table.numel()].view_as(table),
    )
