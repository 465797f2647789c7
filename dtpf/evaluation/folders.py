"""Fused images that somebody else made, in a folder, matched to pairs by file name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import torch
from torch import Tensor

from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.core.storage.uri import read_bytes
from dtpf.data.images import decode_visible
from dtpf.data.layouts import list_images
from dtpf.evaluation.batches import Batch


@dataclass(frozen=True)
class FolderMethod:
    """Fused images made elsewhere. Build with `open`.

    Attributes:
        name: how tables call it.
        files: URI of the fused image by pair id.
        set_aside: names of images of pairs in other splits.
    """

    name: str
    files: dict[str, str]
    set_aside: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, name: str, folder: str, pairs: Sequence[Pair], others: Sequence[Pair] = ()
    ) -> "FolderMethod":
        """Match the images of a folder to pairs: by pair id or the visible file's name.

        Suffix and upper or lower case do not matter.

        Args:
            name: how tables call it.
            folder: path or URI, searched with its subfolders.
            pairs: those that are scored.
            others: pairs of other splits, whose images may lie there too.

        Raises:
            UserError: no such folder, two files for a pair, or files missing or extra (all named).
        """
        try:
            images = list_images(folder)
        except UserError as error:
            raise UserError(f"{name}: no folder of fused images: {error}") from None
        found = {PurePosixPath(image.path).stem.lower(): image.uri for image in images}
        if len(found) != len(images):
            counts = Counter(PurePosixPath(image.path).stem for image in images)
            twice = sorted(stem for stem, count in counts.items() if count > 1)
            raise UserError(f"{name}: {folder} has several files for {_listed(twice)}; keep one")
        keys = {pair.pair_id: _key(pair, found) for pair in pairs}
        foreign = set(found) - set(keys.values())
        aside = {_key(pair, found) for pair in others} & foreign
        problems = {
            "missing": [pair.pair_id for pair in pairs if keys[pair.pair_id] not in found],
            "extra": sorted(foreign - aside),
        }
        told = [f"{what} {_listed(names)}" for what, names in problems.items() if names]
        if told:
            raise UserError(
                f"{name}: {folder} does not match the pairs: {'; '.join(told)}; "
                "name each fused image after its pair"
            )
        files = {pair_id: found[key] for pair_id, key in keys.items()}
        return cls(name, files, tuple(sorted(aside)))

    def fuse(self, batch: Batch) -> Tensor:
        """Return the stored images (B, 3, H, W).

        Raises:
            UserError: one is damaged, or its size differs from the pair's.
        """
        needed = tuple(batch.visible.shape[2:])
        images = [_read(self.files[pair.pair_id], needed) for pair in batch.pairs]
        return torch.stack(images).to(batch.visible.device)


def _read(uri: str, needed: tuple[int, ...]) -> Tensor:
    image = decode_visible(read_bytes(uri), uri)
    given = image.shape[:2]
    if given != needed:
        raise UserError(f"{uri}: size {given}, the pair has {needed}; save it unscaled")
    return torch.from_numpy(image).permute(2, 0, 1)


def _key(pair: Pair, found: dict[str, str]) -> str:
    """Return the name under which a folder has the pair's image, or should have it."""
    last_part = pair.pair_id.rpartition("/")[2]
    names = [pair.pair_id, last_part, PurePosixPath(pair.visible_uri).stem]
    return next((name.lower() for name in names if name.lower() in found), last_part.lower())


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"
