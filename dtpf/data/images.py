"""Image files to arrays and back: the one place where pixels are decoded and encoded.

Legend: H, W = height and width. Pillow reads most formats, tifffile reads TIFF (float and 16-bit
colour, which Pillow cannot), kornia_rs reads 16-bit colour PNG (which Pillow cuts to 8 bits).
Every failure is a UserError that names the file and the remedy.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tifffile
from kornia_rs import io as kornia_io
from numpy.typing import NDArray
from PIL import Image

from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import (
    FloatImage,
    Scaling,
    infrared_to_unit,
    unit_to_dtype,
    visible_to_unit,
)

MAX_PIXELS = 64_000_000  # more than any camera here delivers, and 0.8 GB as float RGB

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".ppm", ".pgm")

# Formats that may be opened. Others (EPS starts Ghostscript) are no image data of this field.
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "JPEG2000", "PPM")
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {2: "rgb", 6: "rgba"}  # colour types of the PNG header
_ORIENTATION = 0x0112  # the EXIF and TIFF tag


class TooManyPixels(UserError):
    """An image that is refused before it is decoded."""


def decode_visible(data: bytes, source: str, max_pixels: int = MAX_PIXELS) -> FloatImage:
    """Return an image file as float32 (H, W, 3) in [0, 1]; gray is repeated, alpha dropped.

    Args:
        data: the bytes of the file.
        source: its name in error messages.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        UserError: not an image, damaged, too large, or of an unsupported pixel type.
    """
    return visible_to_unit(decode_array(data, source, max_pixels), source)


def decode_infrared(
    data: bytes, source: str, scaling: Scaling = "percentile", max_pixels: int = MAX_PIXELS
) -> FloatImage:
    """Return an image file as float32 (H, W) in [0, 1]; gray stored as RGB is recognised.

    `scaling` is how 16-bit values come to [0, 1]: see `infrared_to_unit`. Errors and other
    arguments as in `decode_visible`.
    """
    return infrared_to_unit(decode_array(data, source, max_pixels), source, scaling)


def decode_array(data: bytes, source: str, max_pixels: int = MAX_PIXELS) -> NDArray:
    """Return the stored values, upright: (H, W) or (H, W, 2..4), uint8, uint16 or float32.

    Palettes are looked up, 1-bit images become 0 and 255, CMYK and YCbCr become RGB. 16-bit
    values are never reduced to 8 bits. The orientation tag is applied. Of several frames the
    first is taken. Errors as in `decode_visible`.
    """
    with _reported(data, source):
        if data[:4] in _TIFF_MARKS:
            return _decode_tiff(data, source, max_pixels)
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            _check_pixels(image.height * image.width, source, max_pixels)
            array = _png16_array(data, source) if _is_png16(data) else _pillow_array(image)
            return _upright(array, image.getexif().get(_ORIENTATION, 1))


def probe_size(data: bytes, source: str) -> tuple[int, int]:
    """Return (height, width) of an image file, upright, without decoding its pixels."""
    with _reported(data, source):
        if data[:4] in _TIFF_MARKS:
            with tifffile.TiffFile(io.BytesIO(data)) as tiff:
                page = tiff.pages.first
                size, turn = (page.imagelength, page.imagewidth), _tiff_orientation(page)
        else:
            with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
                size, turn = (image.height, image.width), image.getexif().get(_ORIENTATION, 1)
        return (size[1], size[0]) if turn in (5, 6, 7, 8) else size


def encode_png(image: NDArray) -> bytes:
    """Return a PNG file of an image (H, W) or (H, W, 3): float in [0, 1], uint8, or gray uint16.

    Floats are rounded to 8 bits; the round trip through `decode_array` is exact for integers.
    """
    return encode(image, "png")


def encode(image: NDArray, image_format: str, quality: int = 95) -> bytes:
    """Return an image file: `png`, `tiff` (both lossless), `jpeg` or `webp` (lossy, `quality`).

    Takes what `encode_png` takes. Raises UserError for another format or pixel type.
    """
    array = unit_to_dtype(image, np.dtype(np.uint8)) if image.dtype.kind == "f" else image
    name = {"jpg": "jpeg", "tif": "tiff"}.get(image_format.lower(), image_format.lower())
    if name not in ("png", "tiff", "jpeg", "webp"):
        raise UserError(f"image format {image_format!r}; use png, tiff, jpeg or webp")
    deep = array.dtype == np.uint16 and (name == "tiff" or (name == "png" and array.ndim == 2))
    if array.dtype != np.uint8 and not deep:
        raise UserError(f"{name} cannot hold {array.dtype} of shape {array.shape}; use uint8")
    sink = io.BytesIO()
    if name == "tiff":
        tifffile.imwrite(sink, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        options = {"quality": quality} if name in ("jpeg", "webp") else {}
        Image.fromarray(array).save(sink, name, **options)
    return sink.getvalue()


@contextmanager
def _reported(data: bytes, source: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into one line for the user."""
    if not data:
        raise UserError(f"{source}: the file is empty (0 bytes); replace it or remove the pair")
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(
            f"{source}: not an image (PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, PNM), whatever its "
            "name says; convert it or remove the pair"
        ) from None
    except Image.DecompressionBombError:
        raise TooManyPixels(
            f"{source}: far too many pixels to decode safely; scale it down"
        ) from None
    except Exception as error:  # decoders raise nearly every built-in type on damaged bytes
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{source}: damaged or truncated image ({detail}); replace it or remove the pair"
        ) from None


def _check_pixels(pixels: int, source: str, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise TooManyPixels(f"{source}: {pixels} pixels, the limit is {max_pixels}; scale it down")


def _pillow_array(image: Image.Image) -> NDArray:
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return np.asarray(image)
    if image.mode.startswith("I"):  # 16-bit gray; mode I holds it in 32 bits
        return np.asarray(image).astype(np.uint16)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    has_alpha = image.mode == "PA" or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _is_png16(data: bytes) -> bool:
    """Say whether the header declares 16 bits a channel and more than one channel."""
    return data.startswith(_PNG_MARK) and data[24:25] == b"\x10" and data[25:26] != b"\x00"


def _png16_array(data: bytes, source: str) -> NDArray:
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    if color_type not in _PNG_CHANNELS:
        raise UserError(f"{source}: 16-bit gray PNG with alpha; store it without alpha")
    decoded = kornia_io.decode_image_png_u16(data, (height, width), _PNG_CHANNELS[color_type])
    return np.asarray(decoded)


def _decode_tiff(data: bytes, source: str, max_pixels: int) -> NDArray:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        _check_pixels(page.imagelength * page.imagewidth, source, max_pixels)
        try:
            array = page.asarray()
        except (KeyError, ValueError) as error:
            if "imagecodecs" not in str(error):
                raise
            return _decode_packed_tiff(data, page, source)
        if array.size == 0 or array.ndim not in (2, 3):
            raise UserError(f"{source}: the TIFF file holds no image; it is damaged, save it again")
        return _upright(_tiff_pixels(array, page), _tiff_orientation(page))


def _decode_packed_tiff(data: bytes, page: tifffile.TiffPage, source: str) -> NDArray:
    """Read compressions that need a codec package through Pillow, where it keeps all bits."""
    if page.bitspersample > 8 and page.samplesperpixel > 1:
        raise UserError(
            f"{source}: TIFF compression {page.compression}; store it uncompressed or as zlib"
        )
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        image.load()  # also turns a TIFF image upright
        return np.asarray(image) if image.mode == "F" else _pillow_array(image)


def _tiff_pixels(array: NDArray, page: tifffile.TiffPage) -> NDArray:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        return np.moveaxis(page.colormap[:, array], 0, -1)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _upright(array: NDArray, orientation: int) -> NDArray:
    """Apply the EXIF orientation (1 to 8; TIFF 6.0, section 8) to rows and columns."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
