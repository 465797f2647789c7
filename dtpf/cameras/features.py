"""What a scene looks like in both spectra: edges by direction, whatever their sign and strength.

Heat and light agree on where edges lie and how they run, seldom on their sign or height. So each
pixel is described by the shares of its gradient along three directions, smoothed and normalised
(after channel features of oriented gradients, Ye et al., IEEE TGRS 2019, doi
10.1109/TGRS.2019.2924684). Legend: H, W = height and width.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 3  # what OpenCV's ECC takes as channels; more gained nothing
_SMOOTHING = 1.0
_POOLING = 1.5

Float = NDArray[np.float32]


def oriented_gradients(image: Float, smoothing: float = _SMOOTHING) -> Float:
    """Return (H, W, 3): absolute gradients along 0, 60 and 120 degrees, of unit length or less.

    Args:
        image: gray (H, W); its scale does not matter.
        smoothing: sigma in pixels of the blur before the gradient.
    """
    blurred = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), smoothing)
    gx = cv2.Sobel(blurred, cv2.CV_32F, 1, 0)
    gy = cv2.Sobel(blurred, cv2.CV_32F, 0, 1)
    angles = np.arange(DIRECTIONS) * (np.pi / DIRECTIONS)
    along = np.abs(np.cos(angles) * gx[..., None] + np.sin(angles) * gy[..., None])
    pooled = cv2.GaussianBlur(along.astype(np.float32), (0, 0), _POOLING)
    length = np.sqrt((pooled**2).sum(axis=2, keepdims=True))
    # The floor keeps the noise of flat places from looking like edges.
    floor = float(np.mean(length)) + 1e-12
    return np.asarray(pooled / (length + floor), np.float32)
