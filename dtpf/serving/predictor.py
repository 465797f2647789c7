"""Bytes to bytes: two encoded images in, one encoded fused image out; no HTTP, no Ray.

The served network can be exchanged while requests run: each request keeps the one it began with.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dtpf.cameras.guards import as_header, check_result
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.ops.pixels import FloatImage, luma, unit_to_dtype
from dtpf.core.tiling import Fusing, fuse_tiled
from dtpf.data import images
from dtpf.serving import arrays
from dtpf.serving.batching import Batcher, OnBatch
from dtpf.serving.config import ServeConfig
from dtpf.serving.inputs import Rigs, decode_pair, read_pair
from dtpf.serving.resizing import SizePolicy

OutputFormat = Literal["png", "jpeg", "webp", "tiff"]
ArrayType = Literal["float32", "uint8"]

_WARM_UP_SIDE = 64


Loader = Callable[[str], Fusing]


class NotReadyError(RuntimeError):
    """No network is loaded yet."""


@dataclass(frozen=True)
class Options:
    """What a request may choose.

    Attributes:
        format: of the fused image.
        quality: of JPEG and WebP.
        gray: keep the luminance alone.
        size: what to do with images that differ in size.
    """

    format: OutputFormat = "png"
    quality: int = 90
    gray: bool = False
    size: SizePolicy = "same"


@dataclass(frozen=True)
class Prediction:
    """One encoded fused image.

    `timings` are milliseconds of decode, model (with the wait for a batch) and encode; `warnings`
    are kinds of `dtpf.cameras.guards`, or `none`.
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


def make_batcher(config: ServeConfig, on_batch: OnBatch = lambda size: None) -> Batcher:
    """Return the batcher that all models of one process share."""
    return Batcher(config.max_batch_size, config.batch_wait_s, config.max_call_pixels, on_batch)


class Predictor:
    """Fuses encoded images with the network that is loaded now. Safe to call from many threads."""

    def __init__(
        self,
        fuser: Fusing | None,
        config: ServeConfig,
        loader: Loader = Fuser.from_bundle,
        batcher: Batcher | None = None,
    ) -> None:
        """Take a network, or None to begin empty until `load`.

        Sets torch's thread count for the whole process where `config.threads` states one.
        Predictors of one process share a `batcher`, so that models do not fight over the cores.
        """
        self._config = config
        self._batcher = batcher or make_batcher(config)
        self._loader = loader
        self._rigs = Rigs(config.calibration)
        self._exchange = threading.Lock()
        self._loaded = _aside(lambda: _accept(fuser, "model")) if fuser is not None else None
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
                loaded = _aside(lambda: _accept(self._loader(uri), uri, sha256))
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{uri}: not a usable bundle ({_one_line(error)})") from error
            self._loaded = loaded
        return loaded.info

    def close(self) -> None:
        """End the model's thread."""
        self._batcher.close()

    def predict(
        self,
        visible: bytes,
        infrared: bytes,
        options: Options,
        abandoned: threading.Event | None = None,
    ) -> Prediction:
        """Fuse one pair of encoded images.

        Args:
            visible: PNG, JPEG, TIFF, WebP, BMP, JPEG 2000 or PNM.
            infrared: the same.
            options: see `Options`.
            abandoned: set by whoever no longer waits; the work then ends early.

        Raises:
            InputError: an image cannot be read, or the sizes differ; names the field.
            NotReadyError: no network is loaded.
        """

        def encode(fused: FloatImage) -> bytes:
            shown = luma(fused) if options.gray else fused
            return images.encode(shown, options.format, options.quality)

        def decode() -> tuple[NDArray, NDArray]:
            return decode_pair(visible, infrared, self._config.max_pixels)

        return self._answer(decode, encode, options.size, f"image/{options.format}", abandoned)

    def predict_arrays(
        self,
        visible: bytes,
        infrared: bytes,
        dtype: ArrayType = "float32",
        size: SizePolicy = "same",
        abandoned: threading.Event | None = None,
    ) -> Prediction:
        """Fuse one pair of .npy files into a .npy file (H, W, 3); see `predict`."""

        def encode(fused: FloatImage) -> bytes:
            return arrays.write_npy(unit_to_dtype(fused, np.dtype(dtype)))

        def decode() -> tuple[NDArray, NDArray]:
            return read_pair(visible, infrared, self._config.max_pixels)

        return self._answer(decode, encode, size, arrays.MEDIA_TYPE, abandoned)

    def _answer(
        self,
        decode: Callable[[], tuple[NDArray, NDArray]],
        encode: Callable[[FloatImage], bytes],
        size: SizePolicy,
        media_type: str,
        abandoned: threading.Event | None,
    ) -> Prediction:
        loaded = self._current()
        clock = _Clock()
        with self._batcher.coming():
            pair = self._rigs.prepare(*decode(), size)
        clock.lap("decode")

        def call(network: Fusing, seen: FloatImage, heat: FloatImage) -> FloatImage:
            return self._batcher.fuse(network, seen, heat, abandoned)

        limit = self._config.max_call_pixels
        fused = fuse_tiled(loaded.fuser, pair.visible, pair.infrared, limit, call)
        fused = self._rigs.finish(fused, pair, size)
        clock.lap("model")
        warnings = as_header(check_result(fused, pair.visible, pair.infrared))
        data = encode(fused)
        clock.lap("encode")
        height, width = fused.shape[:2]
        return Prediction(data, media_type, height, width, loaded.version, clock.laps, warnings)

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("no model is loaded yet")
        return self._loaded


class _Clock:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = 1000.0 * (now - self._last)
        self._last = now


def _aside(work: Callable[[], _Loaded]) -> _Loaded:
    """Do work with networks in a thread of its own, that ends with it.

    Each thread that computes gets a team of OpenMP workers. While there are more of them than
    cores they sleep between two loops, and waking them costs the model's thread nearly as much as
    its arithmetic. No thread of an endpoint but the model's may keep such a team.
    """
    with ThreadPoolExecutor(1, "load") as thread:
        return thread.submit(work).result()


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
    (fused,) = fuser.fuse_batch([visible], [infrared])
    if fused.shape != visible.shape or not np.isfinite(fused).all():
        raise UserError(
            f"{source}: the network fails on a test pair: shape {fused.shape} for "
            f"{visible.shape}, all values finite: {bool(np.isfinite(fused).all())}"
        )
    return _Loaded(fuser, fuser.info)


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
