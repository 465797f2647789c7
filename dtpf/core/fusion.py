"""Fuse image pairs with a trained network: arrays in, array out, any size, any usual dtype.

from dtpf import Fuser
fuser = Fuser()                                       # the network that comes with the package
fuser = Fuser.from_bundle("models/student/1f0c...")   # a path, an s3:// URI, or a preset name
fused = fuser(visible, infrared)
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dtpf.core import shipped
from dtpf.core.bundle import Bundle, load_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import PRESETS, FusionNet, build
from dtpf.core.models.moments import ImageMoments, LineShares
from dtpf.core.models.restoration import REACH as RESTORER_REACH
from dtpf.core.ops.padding import reflect_pad_to_multiple
from dtpf.core.ops.pixels import FloatImage, infrared_to_unit, unit_to_dtype, visible_to_unit
from dtpf.core.tiling import MIN_TILE_PIXELS, OVERLAP, Fusing, fuse_tiled

MAX_CALL_PIXELS = 2**21  # a full HD image in one call

AnyImage = NDArray | Image.Image | torch.Tensor


class Fuser:
    """A text-free network ready to fuse pairs.

    Attributes:
        info: where the network comes from, its config, parameters and scores.
    """

    def __init__(
        self,
        bundle: Bundle | None = None,
        device: str | torch.device = "cpu",
        max_call_pixels: int = MAX_CALL_PIXELS,
    ) -> None:
        """Take a loaded bundle, or the shipped network `dtpf.core.shipped.DEFAULT`.

        Images of more than `max_call_pixels` are fused in tiles.
        """
        bundle = load_bundle(shipped.DEFAULT) if bundle is None else bundle
        if bundle.model.config.text:
            raise UserError(
                f"{bundle.uri}: this network needs a text embedding (it is a teacher); "
                "fuse with a student"
            )
        if max_call_pixels < MIN_TILE_PIXELS:
            raise UserError(
                f"max_call_pixels must be at least {MIN_TILE_PIXELS}, got {max_call_pixels}"
            )
        self._max_call_pixels = max_call_pixels
        self.info: dict[str, Any] = bundle.info
        self._device = torch.device(device)
        self._model = bundle.model.to(self._device).eval()

    @classmethod
    def from_bundle(
        cls,
        source: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        max_call_pixels: int = MAX_CALL_PIXELS,
    ) -> Self:
        """Load a bundle by path, URI, or name of a shipped network.

        A preset's name gives that network with untrained weights.
        """
        name = os.fspath(source)
        bundle = _untrained(name) if name in PRESETS else load_bundle(name)
        return cls(bundle, device, max_call_pixels)

    def __call__(self, visible: AnyImage, infrared: AnyImage) -> AnyImage:
        """Fuse one pair and return the same kind of image as `visible`, in colour.

        Args:
            visible: H x W, H x W x 3 or H x W x 4: numpy array, PIL image, or torch tensor;
                uint8, uint16, or float in [0, 1].
            infrared: the same of the same height and width; gray, or gray stored as RGB.

        Returns:
            H x W x 3, dtype of `visible` (PIL: RGB).
        """
        seen = _as_array(visible)
        fused = self.fuse(visible_to_unit(seen), infrared_to_unit(_as_array(infrared)))
        if isinstance(visible, Image.Image):
            return Image.fromarray(unit_to_dtype(fused, np.dtype(np.uint8)))
        result = unit_to_dtype(fused, seen.dtype)
        return torch.from_numpy(result) if isinstance(visible, torch.Tensor) else result

    def fuse(self, visible: FloatImage, infrared: FloatImage) -> FloatImage:
        """Fuse one pair of float images in [0, 1]: (H, W, 3) and (H, W) to (H, W, 3).

        A large pair is fused tile by tile, all with the channel statistics of the whole.
        """
        _check_sizes(visible, infrared)
        return fuse_tiled(self, visible, infrared, self._max_call_pixels)

    def fuse_batch(
        self, visible: Sequence[FloatImage], infrared: Sequence[FloatImage]
    ) -> list[FloatImage]:
        """Fuse pairs of one common size in one call of the network; see `fuse`."""
        for seen, heat in zip(visible, infrared, strict=True):
            _check_sizes(seen, heat)
        fused_bchw = fuse_tensors(self._model, *self._stacked(visible, infrared))
        return list(fused_bchw.permute(0, 2, 3, 1).cpu().numpy())

    @property
    def reach(self) -> int:
        """By how many pixels tiles are to overlap; see `dtpf.core.tiling`."""
        return RESTORER_REACH if self._model.config.restoration else OVERLAP

    def passes(self) -> tuple[Fusing, Fusing, Fusing] | None:
        """Return this network as `dtpf.core.tiling` shows one image to it; see there."""
        attends = self._model.config.block != "convolution"
        if not attends and self._model.restorer is None:
            return None
        told = self._told()
        estimate = ImageMoments(told=told)
        moments = ImageMoments(estimate, told)
        work = self.fuse_batch if attends else self._judge_light
        return (
            _Pass(self.info, work, estimate.collecting),
            _Pass(self.info, work, moments.collecting),
            _Pass(self.info, self.fuse_batch, moments.applied),
        )

    def prepared(self, infrared: FloatImage) -> FloatImage:
        """Take a sensor's lines out of a whole image, of which tiles see parts."""
        if self._model.restorer is None:
            return infrared
        height, width = infrared.shape
        with torch.inference_mode():
            heat_11hw = torch.from_numpy(infrared)[None, None].to(self._device)
            # Padded as in one call: the lines found are the same.
            padded = reflect_pad_to_multiple(heat_11hw, self._model.config.stride)
            cleaned: FloatImage = self._model.restorer.amplifiers(padded)[0, 0].cpu().numpy()
        return cleaned[:height, :width]

    def _told(self) -> dict[torch.nn.Module, NamedTuple]:
        """Return what tiles need not find out: a prepared image has no lines."""
        if self._model.restorer is None:
            return {}
        none = LineShares(torch.zeros(1, 2, device=self._device))
        return {self._model.restorer.amplifiers: none}

    def _judge_light(
        self, visible: Sequence[FloatImage], infrared: Sequence[FloatImage]
    ) -> list[FloatImage]:
        """Look at the light of a pair, of which alone more is known where nothing attends."""
        assert self._model.restorer is not None
        seen_bchw, _ = self._stacked(visible, infrared)
        with torch.inference_mode():
            self._model.restorer.exposure.means(seen_bchw)
        return list(visible)

    def _stacked(
        self, visible: Sequence[FloatImage], infrared: Sequence[FloatImage]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pairs of one size as (B, 3, H, W) and (B, 1, H, W)."""
        seen_bchw = torch.from_numpy(np.stack(visible)).permute(0, 3, 1, 2)
        heat_b1hw = torch.from_numpy(np.stack(infrared))[:, None]
        return seen_bchw.to(self._device), heat_b1hw.to(self._device)


class _Pass:
    """What a network does within a context."""

    def __init__(
        self,
        info: dict[str, Any],
        work: Callable[[Sequence[FloatImage], Sequence[FloatImage]], list[FloatImage]],
        context: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.info = info
        self._work, self._context = work, context

    def fuse_batch(
        self, visible: Sequence[FloatImage], infrared: Sequence[FloatImage]
    ) -> list[FloatImage]:
        with self._context():
            return self._work(visible, infrared)


def fuse_tensors(
    model: FusionNet,
    visible_B3HW: torch.Tensor,
    infrared_B1HW: torch.Tensor,
    text_BD: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run a network for inference; images in [0, 1], result (B, 3, H, W) clamped to [0, 1].

    The one path that the Python API, the endpoint, validation and evaluation share.
    """
    with torch.inference_mode():
        fused = model(visible_B3HW.contiguous(), infrared_B1HW.contiguous(), text_BD)
    return fused.float().clamp(0.0, 1.0)


def _as_array(image: AnyImage) -> NDArray:
    if isinstance(image, torch.Tensor):
        return image.detach().cpu().numpy()
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "RGBA", "I;16", "F"):
        return np.asarray(image.convert("RGB"))
    return np.asarray(image)


def _check_sizes(visible: FloatImage, infrared: FloatImage) -> None:
    if visible.shape[:2] != infrared.shape[:2]:
        (vh, vw), (ih, iw) = visible.shape[:2], infrared.shape[:2]
        raise UserError(
            f"visible is {vw}x{vh} and infrared is {iw}x{ih} pixels; register and resize them first"
        )


def _untrained(name: str) -> Bundle:
    torch.manual_seed(0)
    model = build(name).eval()
    return Bundle(model=model, uri=f"preset:{name}", sha256="", provenance={"trained": "no"})
