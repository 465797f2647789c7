"""Residuals of attention networks as C++ for CPUs, compiled on the machine that runs them.

PyTorch computes operation by operation, each over all pixels; between them lie three to nine times
the layer's features, in and out of the cache. Here a tile of the image passes through a whole
residual, norm to sum, within the cache: a third to half of the time, the same numbers to rounding.
Backward computes a tile's intermediate results again. Hooks of layers within a residual do not see
such calls.
The sources stand beside this file. The first process that needs them compiles them with a compiler
that it finds, in seconds, and keeps the library in the user's cache; without a compiler PyTorch's
operations are used. For float32 on CPUs, with and without gradients.
"""

from dtpf.core.kernels.functions import FeedForwardFunction, LookFunction, WindowsFunction
from dtpf.core.kernels.library import Affine
from dtpf.core.kernels.residuals import (
    WINDOW_SIZES,
    feed_forward,
    look,
    mix_channels,
    take,
    window_attention,
)

__all__ = [
    "WINDOW_SIZES",
    "Affine",
    "FeedForwardFunction",
    "LookFunction",
    "WindowsFunction",
    "feed_forward",
    "look",
    "mix_channels",
    "take",
    "window_attention",
]
