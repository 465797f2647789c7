"""Pairs in memory, and the training crops that follow from a seed and a step alone.

The position of a crop in the whole training (step times batch plus place in the batch) decides
which pair it is cut from, where, and how it is turned. So any number of workers sees the same
crops, and a resumed run goes on exactly where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dtpf.core.ops.padding import reflect_pad_to_size
from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import EVERY_DEGRADATION, Pair
from dtpf.core.storage.patience import patiently
from dtpf.core.storage.uri import read_bytes
from dtpf.data.cache import ByteCache
from dtpf.data.degrade import apply, draw_degradations
from dtpf.data.images import decode_infrared, decode_visible
from dtpf.data.variety import Change, vary

CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class LoadedImages:
    """One pair as float32 tensors in [0, 1]: visible (3, H, W), infrared (1, H, W).

    Guides are the clean images where they are known, else the same tensors as the inputs.
    """

    pair_id: str
    visible: Tensor
    infrared: Tensor
    visible_guide: Tensor
    infrared_guide: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Visible, infrared and their guides."""
        return self.visible, self.infrared, self.visible_guide, self.infrared_guide


@dataclass(frozen=True)
class CropBatch:
    """Crops of one side: (B, 3, S, S) visible and (B, 1, S, S) infrared, float32 in [0, 1].

    `dull` (B,), bool, says which were dimmed or softened.
    """

    pair_ids: tuple[str, ...]
    visible: Tensor
    infrared: Tensor
    visible_guide: Tensor
    infrared_guide: Tensor
    dull: Tensor


class PairDataset:
    """Decodes pairs on demand and keeps the latest of them; safe to use from several threads.

    Images stay in memory as float16, whose steps in [0.5, 1] are 1/2048: finer than 8 bits.

    Args:
        pairs: what to decode.
        scaling: how 16-bit infrared is brought to [0, 1].
        cache_bytes: how much stays in memory.
        patience: for how many seconds a storage server that does not answer is waited for.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        scaling: Scaling = "percentile",
        cache_bytes: int = CACHE_BYTES,
        patience: float = 0.0,
    ) -> None:
        self.pairs = tuple(pairs)
        self._scaling: Scaling = scaling
        self._patience = patience
        self._cache = ByteCache[LoadedImages](cache_bytes, _size)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> LoadedImages:
        stored = self._cache.get(index)
        if stored is None:
            stored = self._load(index)
        return LoadedImages(stored.pair_id, *(tensor.float() for tensor in stored.tensors))

    def _load(self, index: int) -> LoadedImages:
        pair = self.pairs[index]
        visible_guide, infrared_guide = pair.guide_uris
        seen, heat = self._visible(pair.visible_uri), self._infrared(pair.infrared_uri)
        clean = seen if visible_guide == pair.visible_uri else self._visible(visible_guide)
        warm = heat if infrared_guide == pair.infrared_uri else self._infrared(infrared_guide)
        loaded = LoadedImages(pair.pair_id, seen, heat, clean, warm)
        self._cache.put(index, loaded)
        return loaded

    def _visible(self, uri: str) -> Tensor:
        image = decode_visible(self._read(uri), uri)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous().half()

    def _infrared(self, uri: str) -> Tensor:
        image = decode_infrared(self._read(uri), uri, self._scaling)
        return torch.from_numpy(image)[None].half()

    def _read(self, uri: str) -> bytes:
        return patiently(lambda: read_bytes(uri), self._patience)


def _size(loaded: LoadedImages) -> int:
    distinct = {tensor.data_ptr(): tensor.nbytes for tensor in loaded.tensors}
    return sum(distinct.values())


def draw(position: int, count: int, seed: int) -> int:
    """Return which of `count` pairs the crop at `position` is cut from.

    Every pair occurs once in each epoch of `count` positions, in an order of that epoch.
    """
    epoch, place = divmod(position, count)
    return int(_order(seed, epoch, count)[place])


@lru_cache(maxsize=2)  # a batch may lie across two epochs
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def training_crops(
    dataset: PairDataset,
    positions: Sequence[int],
    seed: int,
    side: int,
    shrunk: float = 0.0,
    degraded: float = 0.0,
    dimmed: float = 0.0,
    softened: float = 0.0,
    grainy: float = 0.0,
    degradations: Sequence[str] = EVERY_DEGRADATION,
) -> CropBatch:
    """Return the crops at these positions: `side` pixels square, flipped and turned at random.

    An image that is smaller than the crop is extended by reflection. A share of `shrunk` of the
    crops is cut from the image shrunk (mean over areas) until its shorter side is `side`. A share
    of `degraded` gets one to three of `degradations`; guides stay clean. Shares of `dimmed`,
    `softened` and `grainy` show other light or another camera, images and guides alike
    (`dtpf.data.variety`).
    """
    shares: dict[Change, float] = {"dimmed": dimmed, "softened": softened, "grainy": grainy}
    pair_ids, crops = [], []
    for position in positions:
        images = dataset[draw(position, len(dataset), seed)]
        rng = np.random.default_rng((seed, position, 1))
        tensors: Sequence[Tensor] = images.tensors
        if shrunk and rng.random() < shrunk:
            tensors = [_shrink(tensor, side) for tensor in tensors]
        crop = _cut(tensors, side, rng)
        changes = np.random.default_rng((seed, position, 2))  # the same cut with and without them
        crop, done = vary(crop, shares, changes)
        if changes.random() < degraded:
            crop = [*_degrade(crop, tensors[0].shape[2], changes, degradations), *crop[2:]]
        dull = torch.tensor(bool(done & {"dimmed", "softened"}))
        crops.append((*_turn(crop, rng), dull))
        pair_ids.append(images.pair_id)
    return CropBatch(tuple(pair_ids), *(torch.stack(column) for column in zip(*crops, strict=True)))


def _shrink(image_CHW: Tensor, side: int) -> Tensor:
    shorter = min(image_CHW.shape[1:])
    if shorter <= side:
        return image_CHW
    size = [max(side, round(length * side / shorter)) for length in image_CHW.shape[1:]]
    return F.interpolate(image_CHW[None], size, mode="area")[0]


def _cut(images: Sequence[Tensor], side: int, rng: np.random.Generator) -> list[Tensor]:
    padded = [reflect_pad_to_size(image[None], side, side)[0] for image in images]
    height, width = padded[0].shape[-2:]
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    return [image[:, top : top + side, left : left + side] for image in padded]


def _degrade(
    crop: Sequence[Tensor], width: int, rng: np.random.Generator, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    pair = crop[0].permute(1, 2, 0).numpy(), crop[1][0].numpy()
    seen, heat = apply(pair, draw_degradations(rng, names=names), rng, width)
    return torch.from_numpy(seen).permute(2, 0, 1), torch.from_numpy(heat)[None]


def _turn(images: Sequence[Tensor], rng: np.random.Generator) -> list[Tensor]:
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    turned = [torch.rot90(image, turns, (1, 2)) for image in images]
    return [image.flip(2) if mirrored else image for image in turned]
