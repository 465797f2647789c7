"""What can be evaluated: trivial baselines, networks, and folders of somebody's fused images.

Legend: H, W = height and width; images are floats in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dtpf.core.errors import UserError
from dtpf.core.records import Pair
from dtpf.data.images import SUFFIXES, decode_visible
from dtpf.evaluation.baselines import BASELINES, Baseline


@dataclass(frozen=True)
class LoadedPair:
    """One pair in memory, as a batch of one.

    Attributes:
        pair: the row of the index.
        visible: (1, 3, H, W) in [0, 1].
        infrared: (1, 1, H, W) in [0, 1].
        guides: clean visible and infrared of the same shapes, where they are known.
        text: text embedding (1, 512), where the pair has one.
    """

    pair: Pair
    visible: Tensor
    infrared: Tensor
    guides: tuple[Tensor, Tensor] | None = None
    text: Tensor | None = None


Load = Callable[[Pair], LoadedPair]


class Method(Protocol):
    """Anything that turns a pair into a fused image."""

    @property
    def name(self) -> str:
        """How tables call the method; unique within an evaluation."""

    def fuse(self, loaded: LoadedPair) -> Tensor:
        """Return the fused image (1, 3, H, W) in [0, 1]."""


@dataclass(frozen=True)
class BaselineMethod:
    """One of BASELINES, by its name there."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in BASELINES:
            raise UserError(f"unknown baseline {self.name!r}; known: {', '.join(BASELINES)}")

    def fuse(self, loaded: LoadedPair) -> Tensor:
        """Return the fused image (1, 3, H, W)."""
        baseline: Baseline = BASELINES[self.name]
        return baseline(loaded.visible, loaded.infrared)


@dataclass(frozen=True)
class NetworkMethod:
    """A fusion network: `network(visible, infrared, text)`; `uses_text` false gives it None."""

    name: str
    network: nn.Module
    uses_text: bool = False

    @torch.inference_mode()
    def fuse(self, loaded: LoadedPair) -> Tensor:
        """Return the clamped output (1, 3, H, W) on the CPU.

        Raises:
            UserError: the network reads text and the pair has no embedding.
        """
        if self.uses_text and loaded.text is None:
            raise UserError(
                f"{self.name}: no text for {loaded.pair.pair_id}; caption the data first"
            )
        self.network.eval()
        device = next(self.network.parameters()).device
        text = loaded.text.to(device) if self.uses_text and loaded.text is not None else None
        fused = self.network(loaded.visible.to(device), loaded.infrared.to(device), text)
        return fused.clamp(0.0, 1.0).cpu()


@dataclass(frozen=True)
class FolderMethod:
    """Fused images made elsewhere, found by file name. Build with `open`."""

    name: str
    files: dict[str, Path]

    @classmethod
    def open(cls, name: str, folder: Path, pairs: Sequence[Pair]) -> "FolderMethod":
        """Match the image files of a folder to pairs: file stem = pair id, any image suffix.

        Raises:
            UserError: the folder does not exist, two files share a stem, or files are missing or
                extra (all are named).
        """
        if not folder.is_dir():
            raise UserError(f"{name}: no folder {folder}; give a folder of fused images")
        images = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
        files = {file.stem: file for file in images}
        if len(files) != len(images):
            twice = sorted({file.stem for file in images if files[file.stem] != file})
            raise UserError(f"{name}: {folder} has several files for {_listed(twice)}; keep one")
        wanted = {_stem(pair) for pair in pairs}
        problems = {"missing": sorted(wanted - set(files)), "extra": sorted(set(files) - wanted)}
        found = [f"{what} {_listed(stems)}" for what, stems in problems.items() if stems]
        if found:
            raise UserError(
                f"{name}: {folder} does not match the pairs: {'; '.join(found)}; "
                "name each fused image after its pair"
            )
        return cls(name, files)

    def fuse(self, loaded: LoadedPair) -> Tensor:
        """Return the stored image (1, 3, H, W).

        Raises:
            UserError: it is damaged, or its size differs from the pair's.
        """
        file = self.files[_stem(loaded.pair)]
        image = torch.from_numpy(decode_visible(file.read_bytes(), str(file)))
        fused = image.permute(2, 0, 1)[None]
        if fused.shape != loaded.visible.shape:
            given, needed = tuple(fused.shape[2:]), tuple(loaded.visible.shape[2:])
            raise UserError(f"{file}: size {given}, the pair has {needed}; save it unscaled")
        return fused


def _stem(pair: Pair) -> str:
    return pair.pair_id.rpartition("/")[2]


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"
