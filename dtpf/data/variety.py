"""Other light and other cameras than those of the training pairs: images and guides alike.

Not degradations: nothing here is to be undone. Crops are visible (3, H, W), infrared (1, H, W) and
the guides of both, float32 in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

Change = Literal["dimmed", "softened", "grainy"]

_DIMMEST = 0.1
_DEEPEST = 3.0  # largest power of a tone curve that leaves lights alone
_SOFTEST = 0.45, 1.35  # sigma of the blur, pixels
_GRAIN = 0.004, 0.03  # standard deviation


def vary(
    crop: Sequence[Tensor], shares: dict[Change, float], rng: np.random.Generator
) -> tuple[list[Tensor], set[Change]]:
    """Return the crop as other light or another camera shows it, and what was done.

    Each change comes with its share's probability: `dimmed` darkens, each image by a factor or a
    tone curve of its own; `softened` blurs all alike; `grainy` adds noise, an image and its guide
    the same. Grain is blurred too in half of the crops that have both: it is coarser there.
    """
    done = [name for name in _CHANGES if rng.random() < shares.get(name, 0.0)]
    if {"softened", "grainy"} <= set(done) and rng.random() < 0.5:
        done[-2:] = done[-1], done[-2]
    images = list(crop)
    for name in done:
        images = _CHANGES[name](images, rng)
    return images, set(done)


def _dim(images: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    seen, heat = (_darker(rng) for _ in range(2))
    return [change(image) for image, change in zip(images, (seen, heat, seen, heat), strict=True)]


def _darker(rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    factor, power = float(rng.uniform(_DIMMEST, 1.0)), float(rng.uniform(1.0, _DEEPEST))
    if rng.random() < 0.5:
        return lambda image: image * factor
    return lambda image: image**power


def _soften(images: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    sigma = float(rng.uniform(*_SOFTEST))
    size = 2 * round(3 * sigma) + 1
    return [
        gaussian_blur2d(image[None], (size,) * 2, (sigma,) * 2, border_type="replicate")[0]
        for image in images
    ]


def _add_grain(images: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    spread = float(rng.uniform(*_GRAIN))
    seen, heat = (
        torch.from_numpy(rng.normal(0.0, spread, image.shape).astype(np.float32))
        for image in images[:2]
    )
    noisy = zip(images, (seen, heat, seen, heat), strict=True)
    return [(image + grain).clamp(0.0, 1.0) for image, grain in noisy]


_CHANGES: dict[Change, Callable[[list[Tensor], np.random.Generator], list[Tensor]]] = {
    "dimmed": _dim,
    "softened": _soften,
    "grainy": _add_grain,
}
