"""Colour of the visible image under a fused luminance, without fringes."""

import numpy as np

from dtpf.core.ops.pixels import FloatImage, luma


def recolor(picture: FloatImage, visible: FloatImage) -> FloatImage:
    """Return the luminance of a picture (H, W, 3 or H, W) with Cb and Cr of the visible one.

    Adding one value to all channels changes Y alone, so no conversion and no rounding is needed.
    Where the new luminance leaves no room for the colour (at hot edges), it fades towards gray
    instead of being cut off channel by channel, which would turn its hue.
    """
    shown = luma(picture) if picture.ndim == 3 else picture
    level = np.clip(shown, 0.0, 1.0)[..., None]
    color = visible - luma(visible)[..., None]
    above = np.where(color > 0, (1.0 - level) / np.maximum(color, 1e-6), 1.0)
    below = np.where(color < 0, level / np.maximum(-color, 1e-6), 1.0)
    room = np.minimum(above, below).min(axis=2, keepdims=True)
    return np.asarray(level + np.clip(room, 0.0, 1.0) * color, np.float32)
