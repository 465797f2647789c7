"""Networks whose answers are known, and encoded pairs to send to them."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtpf.core.errors import UserError
from dtpf.data.images import encode_png

HEIGHT, WIDTH = 24, 32


class MeanFuser:
    """Fuses by the mean of both images; can be held in the middle of a call, or made to fail."""

    def __init__(self, version: str = "v1", **info: Any) -> None:
        self.info: dict[str, Any] = {"version": version, "sha256": f"sha-{version}", **info}
        self.calls = 0
        self.sizes: list[int] = []
        self.gate: threading.Event | None = None
        self.error: Exception | None = None

    def fuse_batch(self, visible: Sequence[NDArray], infrared: Sequence[NDArray]) -> list[NDArray]:
        self.calls += 1
        self.sizes.append(len(visible))
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return [self.fuse(*pair) for pair in zip(visible, infrared, strict=True)]

    def fuse(self, visible: NDArray, infrared: NDArray) -> NDArray:
        return (visible + infrared[..., None]) / 2


class NanFuser(MeanFuser):
    def fuse(self, visible: NDArray, infrared: NDArray) -> NDArray:
        return np.full_like(visible, np.nan)


class CroppingFuser(MeanFuser):
    def fuse(self, visible: NDArray, infrared: NDArray) -> NDArray:
        return visible[:-1]


def load(uri: str) -> MeanFuser:
    """A loader of fakes by name, the way Fuser.from_bundle loads bundles."""
    if uri == "missing":
        raise UserError("missing: no bundle there")
    if uri == "defect":
        raise RuntimeError("unpickling failed\nwith a long traceback")
    kinds = {"nan": NanFuser, "cropping": CroppingFuser}
    return kinds.get(uri, MeanFuser)(uri)


def visible_array(height: int = HEIGHT, width: int = WIDTH) -> NDArray:
    return np.random.default_rng(1).random((height, width, 3), dtype=np.float32)


def infrared_array(height: int = HEIGHT, width: int = WIDTH) -> NDArray:
    return np.random.default_rng(2).random((height, width), dtype=np.float32)


def visible_png(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return encode_png(visible_array(height, width))


def infrared_png(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return encode_png(infrared_array(height, width))
