"""What to do with a pair whose two images differ in size.

Legend: H, W = height and width.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from dtpf.core.ops.pixels import FloatImage
from dtpf.serving.problems import InputError

SizePolicy = Literal["same", "visible", "infrared"]

MIN_SIDE = 16  # the smallest side that the network takes
_MAX_STRETCH = 0.02


def bring_to_one_size(
    visible: FloatImage, infrared: FloatImage, policy: SizePolicy
) -> tuple[FloatImage, FloatImage]:
    """Return the pair in one size.

    Args:
        visible: (H, W, 3) in [0, 1].
        infrared: (H, W) in [0, 1].
        policy: `same` refuses sizes that differ; the others name the image whose size both get,
            where their proportions agree to 2 %.

    Raises:
        InputError: sizes differ and may not, or are too small for the network.
    """
    if visible.shape[:2] != infrared.shape:
        if policy == "same":
            raise InputError(
                "infrared",
                f"sizes differ: visible is {_size(visible)}, infrared is {_size(infrared)}; send a "
                "registered pair of one size, or choose the size with the option 'size'",
            )
        _check_proportions(visible, infrared)
        if policy == "visible":
            infrared = _resized(infrared[..., None], visible.shape[:2])[..., 0]
        else:
            visible = _resized(visible, infrared.shape)
    if min(infrared.shape) < MIN_SIDE:
        raise InputError("visible", f"{_size(visible)} pixels; sides must have at least {MIN_SIDE}")
    return visible, infrared


def _check_proportions(visible: FloatImage, infrared: FloatImage) -> None:
    (rows, columns), (high, wide) = visible.shape[:2], infrared.shape
    if abs((rows / columns) / (high / wide) - 1.0) > _MAX_STRETCH:
        raise InputError(
            "infrared",
            f"proportions differ: visible is {_size(visible)}, infrared is {_size(infrared)}; "
            "crop both to one view first",
        )


def _resized(image: FloatImage, size: tuple[int, ...]) -> FloatImage:
    planes_1CHW = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(planes_1CHW, size[:2], mode="bilinear", antialias=True)
    # Interpolation rounds, and may leave [0, 1] by a hair.
    result: FloatImage = resized[0].permute(1, 2, 0).clamp(0.0, 1.0).contiguous().numpy()
    return result


def _size(image: FloatImage) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
