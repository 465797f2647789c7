"""Pictures for the report: each pair with every method's result and one shared zoomed inset.

Legend: H, W = height and width; images are floats in [0, 1].
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dtpf.cameras.guards import check_result
from dtpf.core.ops.filters import box_mean
from dtpf.core.records import Pair
from dtpf.data.images import encode
from dtpf.evaluation.batches import Batch, Load
from dtpf.evaluation.methods import Method

_LONGEST_SIDE = 960  # larger images are halved until they fit: the report stays mailable
_INSET_SHARE = 0.22  # side of the inset, as a share of the image's shorter side
_QUALITY = 88
_SCANS = ("pet", "spect", "ct", "mri")


@dataclass(frozen=True)
class Inset:
    """A square crop: its corner and side, as shares of the image's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def corner(self) -> str:
        """The corner of the image, as CSS class, that is farthest from the crop."""
        vertical = "bottom" if self.top + self.height / 2 < 0.5 else "top"
        horizontal = "right" if self.left + self.width / 2 < 0.5 else "left"
        return f"{vertical}-{horizontal}"


@dataclass(frozen=True)
class Picture:
    """One image of a panel, as data URIs of the whole and of its inset, with its warnings."""

    label: str
    image: str
    crop: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair: the sources, if shown, and each method's fused image, with the same inset."""

    pair_id: str
    width: int
    height: int
    inset: Inset
    pictures: tuple[Picture, ...]


def make_panels(
    methods: Sequence[Method], pairs: Sequence[Pair], load: Load, sources: bool = True
) -> list[Panel]:
    """Fuse the given pairs once more and return their panels, methods in the given order."""
    return [_panel(methods, load(pair), sources) for pair in pairs]


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return up to `count` pairs spaced evenly over the set: typical cases, not the best ones."""
    steps = np.linspace(0, len(pairs) - 1, min(count, len(pairs)))
    return [pairs[i] for i in np.round(steps).astype(int)]


def hottest_window(infrared_11HW: Tensor) -> tuple[int, int, int]:
    """Return (top, left, side) of the square that stands out most in the infrared image.

    Its mean brightness less the mean of the surroundings (five times its side) is the largest.
    """
    height, width = infrared_11HW.shape[-2:]
    side = min(max(8, round(_INSET_SHARE * min(height, width))), height, width)
    step = max(1, side // 24)  # targets are found well enough on a coarser grid
    coarse = F.avg_pool2d(infrared_11HW, step)
    target = max(1, side // (3 * step))  # what is looked for is smaller than the window around it
    around = 5 * side // step // 2 * 2 + 1  # odd
    surroundings = box_mean(coarse, around, around)
    contrast = F.avg_pool2d(coarse - surroundings, target, 1)
    row, column = divmod(int(contrast.argmax()), contrast.shape[-1])
    centre = (target * step - side) // 2
    top = min(max(row * step + centre, 0), height - side)
    left = min(max(column * step + centre, 0), width - side)
    return top, left, side


def data_uri(image: NDArray) -> str:
    """Return an image (H, W) or (H, W, 3), float in [0, 1], as a JPEG data URI."""
    payload = base64.b64encode(encode(image, "jpeg", _QUALITY)).decode()
    return f"data:image/jpeg;base64,{payload}"


def source_labels(pair: Pair) -> tuple[str, str]:
    """Return what to call both images: visible and infrared, or the modality of a scan.

    Medical sets name their folders after it (`.../pet/1.png`, `.../mri/1.png`).
    """
    labels = []
    for uri, usual in ((pair.visible_uri, "visible"), (pair.infrared_uri, "infrared")):
        folder = PurePosixPath(uri).parent.name.lower()
        labels.append(folder.upper() if folder in _SCANS else usual)
    return labels[0], labels[1]


def _panel(methods: Sequence[Method], batch: Batch, with_sources: bool) -> Panel:
    (pair,) = batch.pairs
    images: dict[str, Tensor] = {}
    if with_sources:
        images |= zip(source_labels(pair), (batch.visible, batch.infrared), strict=True)
    fused = {method.name: method.fuse(batch) for method in methods}
    images |= fused
    sources = _array(batch.visible), _array(batch.infrared)
    warnings = {
        name: tuple(found.text for found in check_result(_array(image), *sources, name))
        for name, image in fused.items()
    }
    height, width = batch.visible.shape[-2:]
    top, left, side = hottest_window(batch.infrared)
    pictures = tuple(
        Picture(
            label,
            data_uri(_array(_limited(image))),
            data_uri(_array(image[..., top : top + side, left : left + side])),
            warnings.get(label, ()),
        )
        for label, image in images.items()
    )
    inset = Inset(left / width, top / height, side / width, side / height)
    return Panel(pair.pair_id, width, height, inset, pictures)


def _limited(image_1CHW: Tensor) -> Tensor:
    while max(image_1CHW.shape[-2:]) > _LONGEST_SIDE:
        image_1CHW = F.avg_pool2d(image_1CHW, 2)
    return image_1CHW


def _array(image_1CHW: Tensor) -> NDArray:
    array = image_1CHW[0].permute(1, 2, 0).to(torch.float32).numpy()
    return array[..., 0] if array.shape[2] == 1 else array
