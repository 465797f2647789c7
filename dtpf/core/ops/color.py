"""RGB to luminance and chrominance and back: full-range ITU-R BT.601 (the JPEG form).

Legend: B = batch, H, W = height and width. All values lie in [0, 1], Cb and Cr around 0.5.
"""

import torch
from torch import Tensor

from dtpf.core.ops.pixels import LUMA

_RED, _GREEN, _BLUE = LUMA
_CB_SCALE = 0.5 / (1.0 - _BLUE)
_CR_SCALE = 0.5 / (1.0 - _RED)


def luminance(image: Tensor) -> Tensor:
    """Return the luminance (B, 1, H, W) of an RGB image (B, 3, H, W); gray passes unchanged.

    Raises:
        ValueError: the image has neither one nor three channels.
    """
    if image.ndim == 4 and image.shape[1] == 1:
        return image
    red, green, blue = _channels(image, "RGB")
    return _RED * red + _GREEN * green + _BLUE * blue


def rgb_to_ycbcr(image_B3HW: Tensor) -> Tensor:
    """Return Y, Cb, Cr (B, 3, H, W) of an RGB image (B, 3, H, W), full range.

    Raises:
        ValueError: the image is not (B, 3, H, W).
    """
    red, _, blue = _channels(image_B3HW, "RGB")
    luma = luminance(image_B3HW)
    cb = _CB_SCALE * (blue - luma) + 0.5
    cr = _CR_SCALE * (red - luma) + 0.5
    return torch.cat((luma, cb, cr), dim=1)


def ycbcr_to_rgb(image_B3HW: Tensor) -> Tensor:
    """Inverse of `rgb_to_ycbcr`; the result is not clamped.

    Raises:
        ValueError: the image is not (B, 3, H, W).
    """
    luma, cb, cr = _channels(image_B3HW, "YCbCr")
    blue = luma + (cb - 0.5) / _CB_SCALE
    red = luma + (cr - 0.5) / _CR_SCALE
    green = (luma - _RED * red - _BLUE * blue) / _GREEN
    return torch.cat((red, green, blue), dim=1)


def raise_luminance(visible_B3HW: Tensor, infrared_B1HW: Tensor) -> Tensor:
    """Raise RGB (B, 3, H, W) to at least the luminance of (B, 1, H, W), Cb and Cr unchanged.

    Single channels of the result may leave [0, 1]; it is not clamped.

    Raises:
        ValueError: the first image is not (B, 3, H, W).
    """
    return visible_B3HW + (infrared_B1HW - luminance(visible_B3HW)).clamp(min=0.0)


def recolour(luma_B1HW: Tensor, visible_B3HW: Tensor) -> Tensor:
    """Return an RGB image with the given luminance and the Cb, Cr of `visible_B3HW`.

    Full-range BT.601. Where that colour leaves [0, 1], its chroma is reduced, not its luminance:
    clipping the channels would change the fused luminance that is measured.
    """
    luma = luma_B1HW.clamp(0.0, 1.0)
    chroma = visible_B3HW - luminance(visible_B3HW)
    room = torch.where(chroma > 0, 1.0 - luma, luma)
    reach = torch.where(chroma == 0, 1.0, room / chroma.abs().clamp(min=1e-6))
    fitting = reach.amin(dim=1, keepdim=True).clamp(max=1.0)
    return (luma + fitting * chroma).clamp(0.0, 1.0)


def _channels(image: Tensor, space: str) -> tuple[Tensor, Tensor, Tensor]:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"expected a {space} image (B, 3, H, W), got shape {tuple(image.shape)}")
    first, second, third = image.split(1, dim=1)
    return first, second, third
