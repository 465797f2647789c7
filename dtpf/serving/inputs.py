"""What a request sends, made ready for the network; whatever is wrong is blamed on its field."""

from collections.abc import Iterator
from contextlib import contextmanager

from numpy.typing import NDArray

from dtpf.cameras.calibration import load_calibration
from dtpf.cameras.prepare import CameraConfig, Prepared, Rig
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, infrared_to_unit
from dtpf.data import images
from dtpf.serving import arrays
from dtpf.serving.problems import InputError
from dtpf.serving.resizing import RESOLUTION, SizePolicy, check_sizes


class Rigs:
    """The cameras behind an endpoint: one `Rig` for each size policy a request may choose."""

    def __init__(self, calibration: str | None) -> None:
        """Take the URI of a calibration, None for aligned cameras; UserError if it is unusable."""
        self._calibrated = calibration is not None
        given = load_calibration(calibration) if calibration else None
        self._rigs: dict[SizePolicy, Rig] = {
            policy: Rig(CameraConfig(calibration=given, resolution=resolution))
            for policy, resolution in RESOLUTION.items()
        }

    def prepare(self, visible: NDArray, infrared: NDArray, size: SizePolicy) -> Prepared:
        """Scale and align a pair (H, W, 3) or (H, W); InputError names the field at fault."""
        if not self._calibrated:
            check_sizes(visible.shape[:2], infrared.shape[:2], size)
        try:
            if infrared.dtype.kind == "f":  # a request says nothing of what degrees should become
                infrared_to_unit(infrared)
            return self._rigs[size].prepare(visible, infrared)
        except UserError as error:
            field = "visible" if str(error).startswith("visible") else "infrared"
            raise InputError(field, str(error)) from None

    def finish(self, fused: FloatImage, pair: Prepared, size: SizePolicy) -> FloatImage:
        """Return the fused image (H, W, 3) at the size that the policy promises."""
        return self._rigs[size].finish(fused, pair)


def decode_pair(visible: bytes, infrared: bytes, max_pixels: int) -> tuple[NDArray, NDArray]:
    """Decode two image files; InputError names the field at fault."""
    with _blaming("visible"):
        seen = images.decode_array(visible, "visible", max_pixels=max_pixels)
    with _blaming("infrared"):
        heat = images.decode_array(infrared, "infrared", max_pixels=max_pixels)
    return seen, heat


def read_pair(visible: bytes, infrared: bytes, max_pixels: int) -> tuple[NDArray, NDArray]:
    """Read two .npy files; InputError names the field at fault."""
    with _blaming("visible"):
        seen = arrays.read_npy(visible, "visible", max_pixels)
    with _blaming("infrared"):
        heat = arrays.read_npy(infrared, "infrared", max_pixels)
    return seen, heat


@contextmanager
def _blaming(field: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise InputError(field, str(error)) from None
