"""Image files for tests, made by other means than the code under test."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RAMP16 = (np.arange(64 * 48, dtype=np.uint32) * 21).astype(np.uint16).reshape(64, 48)


def picture(height: int = 40, width: int = 56, seed: int = 0, channels: int = 3) -> np.ndarray:
    """A smooth random uint8 picture: JPEG keeps it nearly, and no two rows are equal."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    full = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return full if channels == 3 else full[..., 0].copy()


def file_of(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file that Pillow writes."""
    sink = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(sink, kind, **options)
    return sink.getvalue()


def png16(array: np.ndarray) -> bytes:
    """A 16-bit PNG of one to four channels, put together by hand from the PNG specification."""
    height, width = array.shape[:2]
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if array.ndim == 2 else array.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_pair(
    root: Path, stem: str, visible: str = "vi", infrared: str = "ir", seed: int = 0
) -> None:
    """A small good pair: `root/<visible>/<stem>.jpg` and `root/<infrared>/<stem>.png`."""
    for folder, name, data in (
        (visible, f"{stem}.jpg", file_of(picture(seed=seed), "JPEG")),
        (infrared, f"{stem}.png", file_of(picture(seed=seed + 1, channels=1))),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_bytes(data)
