"""Rain, haze and snow in a visible image; what they do to the infrared is in `degrade.py`.

Images are float arrays (H, W, 3) in [0, 1]; severity in (0, 1]; `width` is that of the whole image,
in pixels, where this one was cut out of one.
"""

import numpy as np
import torch
from kornia.filters import gaussian_blur2d, guided_blur, motion_blur
from torch import Tensor

from dtpf.core.ops.pixels import FloatImage, luma

_AIRLIGHT = 0.85  # of haze and of drops: about the sky's
_THICKEST = 2.2  # optical depth of the farthest point at severity 1
_NEAREST = 0.25  # depth of the bottom of the image; the farthest has 1
_HORIZON = 0.35  # where depth begins to fall, as a share of the height
_EDGES = 1e-3  # variance from which on an edge of the image is one of the depth


def haze(image: FloatImage, severity: float, rng: np.random.Generator, width: int) -> FloatImage:
    """Light scattered on its way: I t + A (1 - t) with t = exp(-beta depth).

    Source: Koschmieder's law, as in Narasimhan and Nayar 2002, IJCV 48(3).
    """
    thickness = _THICKEST * severity * rng.uniform(0.85, 1.0)
    through = np.exp(-thickness * depth_guess(image))[..., None]
    return np.asarray(image * through + _AIRLIGHT * (1.0 - through), np.float32)


def depth_guess(image: FloatImage) -> FloatImage:
    """Return the depth (H, W) in [0.25, 1] that a street scene has most likely, without a model.

    Far down to the horizon, then nearer with each row; smoothed along the edges of the image (He
    et al. 2010, guided filter), so that objects have one depth.
    """
    height, width = image.shape[:2]
    rows = np.linspace(0.0, 1.0, height, dtype=np.float32)
    plane = 1.0 - (1.0 - _NEAREST) * np.clip((rows - _HORIZON) / (1.0 - _HORIZON), 0.0, 1.0)
    window = 2 * max(1, min(height, width) // 16) + 1
    guide = torch.from_numpy(np.ascontiguousarray(luma(image)))[None, None]
    depth = torch.from_numpy(np.repeat(plane[:, None], width, axis=1))[None, None]
    if min(height, width) > window // 2:  # what the filter's padding asks for
        depth = guided_blur(guide, depth, window, _EDGES)
    return np.asarray(depth[0, 0].clamp(_NEAREST, 1.0).numpy(), np.float32)


def rain(image: FloatImage, severity: float, rng: np.random.Generator, width: int) -> FloatImage:
    """Streaks of drops, all in about one direction, in front of a scene that they veil a little."""
    shape = (image.shape[0], image.shape[1])
    length = 1 + 2 * max(1, round(0.02 * width))
    drops = _specks(rng, shape, 0.012 * severity)
    angle = rng.uniform(70.0, 110.0)
    streaks = motion_blur(drops, length, angle, 0.0, border_type="replicate")
    return _in_front(image, streaks * 0.35 * length, 0.12 * severity, severity)


def snow(image: FloatImage, severity: float, rng: np.random.Generator, width: int) -> FloatImage:
    """Flakes of three sizes, near ones large and soft, in front of a scene that they veil."""
    shape = (image.shape[0], image.shape[1])
    veil = torch.zeros(1, 1, *shape)
    for size, share in ((0.6, 0.02), (1.2, 0.006), (2.4, 0.0015)):
        flakes = _specks(rng, shape, share * severity)
        kernel = 2 * min(round(3 * size), min(shape) - 1) + 1
        soft = gaussian_blur2d(flakes, (kernel, kernel), (size, size), border_type="replicate")
        veil = torch.maximum(veil, soft * (4.0 * size**2))
    return _in_front(image, veil, 0.2 * severity, 1.0)


def _specks(rng: np.random.Generator, shape: tuple[int, int], share: float) -> Tensor:
    """Return single pixels (1, 1, H, W) of random strength in [0.5, 1], 0 elsewhere."""
    field = rng.random(shape, np.float32)
    strength = 0.5 + 0.5 * rng.random(shape, np.float32)
    return torch.from_numpy(np.where(field < share, strength, 0.0).astype(np.float32))[None, None]


def _in_front(image: FloatImage, opacity_11HW: Tensor, veil: float, densest: float) -> FloatImage:
    """Return the image behind something of the sky's colour."""
    share = np.clip(opacity_11HW[0, 0].numpy() * densest, 0.0, 0.8)[..., None]
    behind = image * (1.0 - veil) + _AIRLIGHT * veil
    return np.asarray(behind * (1.0 - share) + 0.95 * share, np.float32)
