"""Arrays of any usual pixel format to float images in [0, 1] and back.

Legend: H, W = height and width; a visible image ends as (H, W, 3), an infrared one as (H, W).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dtpf.core.errors import UserError

FloatImage = NDArray[np.float32]
Scaling = Literal["full", "percentile"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def visible_to_unit(array: NDArray, source: str = "visible") -> FloatImage:
    """Return a visible image as float32 (H, W, 3) in [0, 1].

    Takes gray, RGB or RGBA (alpha is dropped) as uint8, uint16 or float in [0, 1].
    """
    image = _unit(_checked(array, source), source, "full")
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(
        image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)
    )


def infrared_to_unit(
    array: NDArray, source: str = "infrared", scaling: Scaling = "percentile"
) -> FloatImage:
    """Return an infrared image as float32 (H, W) in [0, 1].

    Takes gray, gray stored as RGB, or RGBA as uint8, uint16 or float in [0, 1].
    `scaling` is for uint16 alone: `percentile` stretches the 0.5th to 99.5th percentile to [0, 1]
    (thermal cameras use 10 to 14 of the 16 bits), `full` divides by 65535.
    """
    return _unit(_as_gray(_checked(array, source)), source, scaling)


def luma(image: FloatImage) -> FloatImage:
    """Return the BT.601 luminance (H, W) of an RGB image (H, W, 3 or 4)."""
    return np.asarray(image[..., :3] @ np.asarray(LUMA, dtype=np.float32), dtype=np.float32)


def unit_to_dtype(image: FloatImage, dtype: np.dtype) -> NDArray:
    """Round an image in [0, 1] to `dtype` (uint8, uint16 or a float type); values are clamped."""
    clamped = np.clip(image, 0.0, 1.0)
    if np.issubdtype(dtype, np.floating):
        return clamped.astype(dtype)
    return _rounded(clamped * np.iinfo(dtype).max, dtype)


def _as_gray(array: NDArray) -> NDArray:
    """Return one channel in the scale of the input; alpha must not take part in a stretch."""
    if array.ndim == 2:
        return array
    if array.shape[2] < 3 or bool((array[..., :3] == array[..., :1]).all()):
        return np.ascontiguousarray(array[..., 0])
    gray = luma(array)
    return gray if np.issubdtype(array.dtype, np.floating) else _rounded(gray, array.dtype)


def _rounded(image: NDArray, dtype: np.dtype) -> NDArray:
    return np.round(image).astype(dtype)


def _checked(array: NDArray, source: str) -> NDArray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise UserError(f"{source}: shape {array.shape} is not H x W or H x W x (1, 3 or 4)")
    if array.size == 0:
        raise UserError(f"{source}: the image is empty (shape {array.shape})")
    return array


def _unit(array: NDArray, source: str, scaling: Scaling) -> FloatImage:
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255.0
    if array.dtype == np.uint16:
        return _stretch(array) if scaling == "percentile" else array.astype(np.float32) / 65535.0
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{source}: dtype {array.dtype}; use uint8, uint16, or float in [0, 1]")
    if not np.isfinite(array).all():
        raise UserError(f"{source}: holds NaN or infinite values")
    low, high = float(array.min()), float(array.max())
    if low < 0.0 or high > 1.0:
        raise UserError(
            f"{source}: float values span [{low:.4g}, {high:.4g}]; scale them to [0, 1]"
        )
    return array.astype(np.float32)


def _stretch(array: NDArray) -> FloatImage:
    low, high = np.percentile(array, (0.5, 99.5))
    if high <= low:
        return np.full(array.shape, float(low) / 65535.0, dtype=np.float32)
    return np.clip((array.astype(np.float32) - low) / (high - low), 0.0, 1.0).astype(np.float32)
