"""One pair of raw images made fit for the network, and what the network returns made a picture.

The one path that the Python API, the command line and the endpoint share. Legend: H, W = height
and width.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dtpf.cameras.calibration import Calibration
from dtpf.cameras.color import recolor
from dtpf.cameras.homography import covered, warp
from dtpf.cameras.palette import PALETTES, find_false_colour, undo_palette
from dtpf.cameras.scaling import Scaler, ScalingConfig, ScalingRecord
from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, luma, visible_to_unit

Resolution = Literal["keep", "visible", "infrared"]
Color = Literal["network", "visible"]


class CameraConfig(Config):
    """What is done to a raw pair before the network.

    Attributes:
        scaling: of the infrared values.
        resolution: `keep` fuses pairs of one size and refuses others, `visible` brings the
            infrared image to the visible one's pixels, `infrared` the reverse. With a calibration
            `keep` means `visible`.
        calibration: how the cameras see each other.
        palette: false colours that are undone.
        color: the network's own, or Cb and Cr of the visible image under its luminance.
        gray: the result is the luminance alone.
    """

    scaling: ScalingConfig = ScalingConfig()
    resolution: Resolution = "keep"
    calibration: Calibration | None = None
    palette: str | None = None
    color: Color = "network"
    gray: bool = False


@dataclass(frozen=True)
class Prepared:
    """A pair fit for the network: (H, W, 3) and (H, W) in [0, 1].

    `known` is where the infrared camera (or with `resolution=infrared` the visible one) sees
    anything, None for everywhere.
    """

    visible: FloatImage
    infrared: FloatImage
    known: NDArray[np.bool_] | None
    scaling: ScalingRecord
    geometry: str
    remarks: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return what was done, as JSON types."""
        share = 1.0 if self.known is None else float(self.known.mean())
        return {
            "infrared_scaling": asdict(self.scaling),
            "geometry": self.geometry,
            "size": list(self.infrared.shape),
            "seen_by_both": round(share, 4),
            "remarks": list(self.remarks),
        }

    @property
    def changed(self) -> bool:
        """Whether values were rescaled or pixels resampled."""
        return self.scaling.policy != "as stored" or self.geometry != "kept"


class Rig:
    """Two cameras with one configuration; holds what a sequence's range was learned from."""

    def __init__(self, config: CameraConfig | None = None) -> None:
        self.config = config or CameraConfig()
        if self.config.palette is not None and self.config.palette not in PALETTES:
            known = ", ".join(PALETTES)
            raise UserError(f"--palette {self.config.palette}: unknown; known are {known}")
        self.scaler = Scaler(self.config.scaling)

    def raw_infrared(self, array: NDArray) -> NDArray:
        """Return the infrared values that are scaled: false colours are undone if told."""
        return undo_palette(array, self.config.palette) if self.config.palette else array

    def prepare(
        self, visible: NDArray, infrared: NDArray, names: tuple[str, str] = ("visible", "infrared")
    ) -> Prepared:
        """Make a pair of raw arrays fit for the network.

        Raises:
            UserError: unusable pixel types, or sizes that the resolution policy refuses.
        """
        remarks = []
        if self.config.palette is None and (colours := find_false_colour(infrared)):
            remarks.append(str(colours))
        seen = visible_to_unit(visible, names[0])
        heat, scaling = self.scaler(self.raw_infrared(infrared), names[1])
        seen, heat, known, geometry = self._one_grid(seen, heat)
        return Prepared(seen, heat, known, scaling, geometry, tuple(remarks))

    def finish(self, fused: FloatImage, prepared: Prepared) -> FloatImage:
        """Return the picture: where one camera alone sees, that camera's image.

        (H, W, 3), or with `gray` (H, W).
        """
        if self.config.color == "visible":
            fused = recolor(fused, prepared.visible)
        if prepared.known is not None:
            alone = prepared.visible
            if self.config.resolution == "infrared":
                alone = np.repeat(prepared.infrared[..., None], 3, axis=2)
            weight = cv2.GaussianBlur(prepared.known.astype(np.float32), (0, 0), 2.0)
            weight = np.where(prepared.known, np.clip(2 * weight - 1, 0, 1), 0)[..., None]
            fused = np.asarray(weight * fused + (1 - weight) * alone, np.float32)
        return luma(fused) if self.config.gray else fused

    def _one_grid(
        self, seen: FloatImage, heat: FloatImage
    ) -> tuple[FloatImage, FloatImage, NDArray[np.bool_] | None, str]:
        policy = self.config.resolution
        visible, infrared = (seen.shape[0], seen.shape[1]), (heat.shape[0], heat.shape[1])
        if self.config.calibration is not None:
            return self._calibrated(seen, heat)
        if visible == infrared:
            return seen, heat, None, "kept"
        shown = f"visible is {visible[1]}x{visible[0]} and infrared is {infrared[1]}x{infrared[0]}"
        if policy == "keep":
            raise UserError(
                f"{shown} pixels; register and resize them first, or choose --resolution visible "
                "or infrared (one field of view), or --calibration FILE (see dtpf calibrate)"
            )
        if policy == "visible":
            return seen, _resized(heat, visible), None, f"{shown}; infrared resized to visible"
        return _resized(seen, infrared), heat, None, f"{shown}; visible resized to infrared"

    def _calibrated(
        self, seen: FloatImage, heat: FloatImage
    ) -> tuple[FloatImage, FloatImage, NDArray[np.bool_] | None, str]:
        visible, infrared = (seen.shape[0], seen.shape[1]), (heat.shape[0], heat.shape[1])
        assert self.config.calibration is not None
        matrix = self.config.calibration.for_sizes(infrared, visible)
        if self.config.resolution == "infrared":
            back = np.linalg.inv(matrix)
            known = covered(back, visible, infrared)
            moved = np.clip(warp(seen, back, infrared), 0, 1)
            return moved, heat, _unless_all(known), "visible moved to infrared by calibration"
        known = covered(matrix, infrared, visible)
        moved = np.clip(warp(heat, matrix, visible), 0, 1)
        return seen, moved, _unless_all(known), "infrared moved to visible by calibration"


def _unless_all(known: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    if not known.any():
        raise UserError("the calibration puts the two images beside each other; calibrate again")
    return None if bool(known.all()) else known


def _resized(image: FloatImage, size: tuple[int, int]) -> FloatImage:
    """Resize over areas where pixels get fewer, else with cubic splines, without overshoot."""
    fewer = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if fewer else cv2.INTER_CUBIC
    return np.asarray(np.clip(cv2.resize(image, size[::-1], interpolation=how), 0, 1), np.float32)
