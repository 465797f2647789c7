"""Bytes to bytes: two encoded images in, one encoded fused image out; no HTTP, no Ray.

The served network can be exchanged while requests run: each request keeps the one it began with.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dtpf.cameras.calibration import load_calibration
from dtpf.cameras.guards import as_header, check_result
from dtpf.cameras.prepare import CameraConfig, Prepared, Rig
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.ops.pixels import FloatImage, infrared_to_unit, luma
from dtpf.data import images
from dtpf.serving.config import ServeConfig
from dtpf.serving.problems import InputError

OutputFormat = Literal["png", "jpeg", "webp"]

_WARM_UP_SIDE = 64


class Fusing(Protocol):
    """What a served network offers; `dtpf.core.fusion.Fuser` is one."""

    @property
    def info(self) -> dict[str, Any]:
        """Name, version, parameters, provenance and metrics as plain JSON types."""

    def fuse(self, visible: FloatImage, infrared: FloatImage) -> FloatImage:
        """Fuse visible (H, W, 3) and infrared (H, W), both in [0, 1], to (H, W, 3) in [0, 1]."""


Loader = Callable[[str], Fusing]


class NotReadyError(RuntimeError):
    """No network is loaded yet."""


@dataclass(frozen=True)
class OutputOptions:
    """How the fused image is encoded; `gray` keeps the luminance alone."""

    format: OutputFormat = "png"
    quality: int = 90
    gray: bool = False


@dataclass(frozen=True)
class Prediction:
    """One encoded fused image; `timings` are milliseconds of decode, model and encode.

    `warnings` are kinds of `dtpf.cameras.guards`, or `none`.
    """

    data: bytes
    media_type: str
    height: int
    width: int
    version: str
    timings: dict[str, float]
    warnings: str = "none"


@dataclass(frozen=True)
class _Loaded:
    fuser: Fusing
    info: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.info.get("version", "unversioned"))


class Predictor:
    """Fuses encoded images with the network that is loaded now. Safe to call from many threads."""

    def __init__(
        self,
        fuser: Fusing | None,
        config: ServeConfig,
        loader: Loader = Fuser.from_bundle,
    ) -> None:
        """Take a network, or None to begin empty until `load`.

        Sets torch's thread count for the whole process where `config.threads` states one.
        """
        self._config = config
        self._loader = loader
        given = load_calibration(config.calibration) if config.calibration else None
        self._rig = Rig(CameraConfig(calibration=given))
        self._exchange = threading.Lock()
        self._loaded = _accept(fuser, "model") if fuser is not None else None
        if config.threads is not None:
            torch.set_num_threads(config.threads)

    @property
    def ready(self) -> bool:
        """Whether a network is loaded."""
        return self._loaded is not None

    @property
    def info(self) -> dict[str, Any]:
        """What is served now: the bundle's own information."""
        return self._current().info

    def load(self, uri: str, sha256: str | None = None) -> dict[str, Any]:
        """Load a bundle, try it on a small pair, then serve it instead of the present one.

        Args:
            uri: Where the bundle lies.
            sha256: Digest that the bundle's weights must have; None trusts them.

        Returns:
            The information on the network that is served now.

        Raises:
            UserError: the bundle is missing, broken or not the expected one. The network
                that was served before is still served.
        """
        with self._exchange:
            try:
                loaded = _accept(self._loader(uri), uri, sha256)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{uri}: not a usable bundle ({_one_line(error)})") from error
            self._loaded = loaded
        return loaded.info

    def predict(self, visible: bytes, infrared: bytes, options: OutputOptions) -> Prediction:
        """Fuse one encoded pair.

        Raises:
            InputError: an image cannot be read, or the sizes differ; names the field.
            NotReadyError: no network is loaded.
        """
        loaded = self._current()
        clock = _Clock()
        pair = self._decode(visible, infrared)
        clock.lap("decode")
        fused = self._rig.finish(loaded.fuser.fuse(pair.visible, pair.infrared), pair)
        clock.lap("model")
        warnings = as_header(check_result(fused, pair.visible, pair.infrared))
        shown = luma(fused) if options.gray else fused
        data = images.encode(shown, options.format, options.quality)
        clock.lap("encode")
        height, width = fused.shape[:2]
        media_type = f"image/{options.format}"
        return Prediction(data, media_type, height, width, loaded.version, clock.laps, warnings)

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("no model is loaded yet")
        return self._loaded

    def _decode(self, visible: bytes, infrared: bytes) -> Prepared:
        limit = self._config.max_pixels
        seen = _decoded("visible", images.decode_array, visible, limit)
        heat = _decoded("infrared", images.decode_array, infrared, limit)
        if self._config.calibration is None and seen.shape[:2] != heat.shape[:2]:
            raise InputError(
                "infrared",
                f"sizes differ: visible is {_size(seen)}, infrared is {_size(heat)}; "
                "send a registered pair of one size",
            )
        try:
            if heat.dtype.kind == "f":  # a request says nothing of what degrees should become
                infrared_to_unit(heat)
            return self._rig.prepare(seen, heat)
        except UserError as error:
            field = "visible" if str(error).startswith("visible") else "infrared"
            raise InputError(field, str(error)) from None


class _Clock:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = 1000.0 * (now - self._last)
        self._last = now


def _decoded(field: str, decode: Callable[..., NDArray], data: bytes, max_pixels: int) -> NDArray:
    try:
        return decode(data, field, max_pixels=max_pixels)
    except UserError as error:
        raise InputError(field, str(error)) from None


def _accept(fuser: Fusing, source: str, sha256: str | None = None) -> _Loaded:
    """Return a network that is the expected one and has proved itself on a small pair."""
    found = fuser.info.get("sha256")
    if sha256 is not None and found != sha256:
        raise UserError(
            f"{source}: the weights have sha256 {found}, expected {sha256}; publish the model again"
        )
    ramp = np.linspace(0.0, 1.0, _WARM_UP_SIDE, dtype=np.float32)
    infrared = np.repeat(ramp[None], _WARM_UP_SIDE, axis=0)
    visible = np.repeat(infrared.T[..., None], 3, axis=2)
    fused = fuser.fuse(visible, infrared)
    if fused.shape != visible.shape or not np.isfinite(fused).all():
        raise UserError(
            f"{source}: the network fails on a test pair: shape {fused.shape} for "
            f"{visible.shape}, all values finite: {bool(np.isfinite(fused).all())}"
        )
    return _Loaded(fuser, fuser.info)


def _size(image: NDArray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
