"""The network's residuals as calls of the compiled kernels.

Legend: B = batch, H, W = height and width, C = channels, I = channels of all heads together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from dtpf.core.kernels.library import Affine, Tiles, call, library, size

WINDOW_SIZES = 8, 2, 16  # window, margin, channels of a head: the only ones with a kernel
_LANES = 16  # numbers in a vector
_COLUMNS = 64  # of a tile: what it holds of a layer fits the second-level cache
_MOST_ROWS, _FEWEST_ROWS = 32, 4  # of a tile; one more on each side is computed twice


def take(x: Tensor) -> bool:
    """Whether the kernels take this input: float32 on a CPU, nothing traced, compiled or mapped."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or type(x) not in (Tensor, Parameter):
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _transformed():
        return False
    return not torch.is_autocast_enabled("cpu") and library() is not None


def _transformed() -> bool:
    """Whether something wants to see PyTorch's operations: torch.func, modes, forward AD."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def padded(channels: int) -> int:
    """Return how many numbers the kernels keep for so many channels."""
    return -(-channels // _LANES) * _LANES


def _tiles(x_BHWC: Tensor, multiple: int = 1) -> Tiles:
    """Cut images so that all threads have work; no result depends on how."""
    batch, height, width, _ = x_BHWC.shape
    columns = min(width, _COLUMNS)
    across = max(1, batch * -(-width // columns))
    pieces_down = -(-2 * torch.get_num_threads() // across)
    rows = min(max(-(-height // pieces_down), _FEWEST_ROWS), _MOST_ROWS)
    return Tiles(batch, height, width, -(-rows // multiple) * multiple, columns)


def sum_tiles(x_BHWC: Tensor) -> Tiles:
    """Cut images by their size alone: sums of floats depend on how they are cut."""
    batch, height, width, _ = x_BHWC.shape
    rows = min(max(height // 4, _FEWEST_ROWS), _MOST_ROWS)
    return Tiles(batch, height, width, rows, min(width, _COLUMNS))


def widened(qkv: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights of queries, keys and values with zeros up to the kernels' width."""
    more = size("dtpf_look_width", qkv.shape[1]) - len(qkv)
    if more:
        qkv, mix = F.pad(qkv, (0, 0, 0, more)), F.pad(mix, (0, 0, 0, 0, 0, 0, 0, more))
    return qkv.contiguous(), mix.contiguous()


def _check(x_BHWC: Tensor, channels: int, multiple: int = 1) -> None:
    height, width, given = x_BHWC.shape[1:]
    if given != channels:
        raise ValueError(f"features have {given} channels, the layer takes {channels}")
    if height % multiple or width % multiple:
        raise ValueError(f"features are {height} x {width}; both must divide by {multiple}")


def row_tiles(x_BHWC: Tensor) -> Tiles:
    """Cut images like `sum_tiles`, but into whole rows of windows."""
    tiles, window = sum_tiles(x_BHWC), WINDOW_SIZES[0]
    tiles.rows = -(-tiles.rows // window) * window
    tiles.columns = tiles.width
    return tiles


def feed_forward(
    x_BHWC: Tensor,
    norm: Affine,
    expand: Tensor,
    mix: Tensor,
    reduce: Tensor,
    result_BHWC: Tensor,
) -> None:
    """Write x + reduce(gelu(gate) * value), gate and value being halves of mix(expand(norm(x))).

    Args:
        x_BHWC: contiguous features.
        norm: layer norm over the channels.
        expand: (2 hidden, C) weights; hidden divides by 16.
        mix: (2 hidden, 1, 3, 3) kernels, zeros outside the image.
        reduce: (C, hidden) weights.
        result_BHWC: contiguous, not x.
    """
    channels, hidden = reduce.shape
    _check(x_BHWC, channels)
    tiles = _tiles(x_BHWC)
    sizes = channels, hidden
    scratch = size("dtpf_feed_forward_scratch", tiles.columns, *sizes)
    packed = size("dtpf_feed_forward_packed", *sizes)
    weights = [weight.contiguous() for weight in (expand, mix, reduce)]
    call("dtpf_feed_forward", tiles, scratch, packed, [x_BHWC, result_BHWC, *sizes, norm, *weights])


def window_attention(
    x_BHWC: Tensor,
    norm: Affine,
    qkv: Tensor,
    out: Tensor,
    bias: Tensor,
    result_BHWC: Tensor,
) -> None:
    """Write x + out(attention(norm(x))) in windows of 8 x 8 queries and 12 x 12 keys.

    Args:
        x_BHWC: contiguous features; H and W divide by 8.
        norm: layer norm over the channels.
        qkv: (3 I, C) weights of queries, keys and values; heads have 16 channels each.
        out: (C, I) weights.
        bias: (heads, 19 * 19) by offset of key to query.
        result_BHWC: contiguous, not x.
    """
    sizes = out.shape[0], len(bias)
    _check(x_BHWC, sizes[0], WINDOW_SIZES[0])
    tiles = _tiles(x_BHWC, WINDOW_SIZES[0])
    scratch = size("dtpf_windows_scratch", tiles.columns, *sizes)
    packed = size("dtpf_windows_packed", *sizes)
    weights = [weight.contiguous() for weight in (qkv, out, bias)]
    call("dtpf_windows", tiles, scratch, packed, [x_BHWC, result_BHWC, *sizes, norm, *weights])


def look(
    x_BHWC: Tensor, norm: Affine, qkv: Tensor, mix: Tensor, heads: int, value_BHWC: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the values of channel attention; return the sums that its weights follow from.

    Args:
        x_BHWC: contiguous features.
        norm: layer norm over the channels.
        qkv: (3 C, C) weights.
        mix: (3 C, 1, 3, 3) kernels, zeros outside the image.
        heads: C divides by them.
        value_BHWC: contiguous, not x.

    Returns:
        Products of queries and keys (B, C, C), of which only pairs of one head mean something;
        squares of queries and of keys (B, C).
    """
    batch, channels = len(x_BHWC), qkv.shape[1]
    _check(x_BHWC, channels)
    tiles = sum_tiles(x_BHWC)
    sums = x_BHWC.new_empty(batch, tiles.per_image, size("dtpf_look_sums", channels))
    scratch = size("dtpf_look_scratch", tiles.columns, channels)
    packed = size("dtpf_look_packed", channels)
    weights = widened(qkv, mix)
    arguments = [x_BHWC, value_BHWC, sums, channels, heads, norm, *weights]
    call("dtpf_look", tiles, scratch, packed, arguments)
    wide = channels + _LANES
    product, query, key = sums.sum(dim=1).split([channels * wide, channels, channels], dim=1)
    return product.view(batch, channels, wide)[..., :channels].contiguous(), query, key


def mix_channels(
    x_BHWC: Tensor, value_BHWC: Tensor, weight_BCC: Tensor, result_BHWC: Tensor
) -> None:
    """Write x + values times each image's matrix (C in, C out); all contiguous.

    The result may be written over the values.
    """
    channels = x_BHWC.shape[-1]
    tiles = _tiles(x_BHWC)
    packed = len(x_BHWC) * channels * padded(channels)
    arguments = [x_BHWC, value_BHWC, result_BHWC, channels, weight_BCC.contiguous()]
    call("dtpf_mix_channels", tiles, tiles.columns * padded(channels), packed, arguments)
