"""Raw arrays in NumPy's own format (.npy), read from clients nobody knows.

Nothing is unpickled, and nothing is allocated before the header agrees with the bytes that are
there: `numpy.load` would reserve whatever size a header claims.
"""

import io
import math
import warnings

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dtpf.core.errors import UserError

MEDIA_TYPE = "application/x-npy"

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(data: bytes, source: str, max_pixels: int) -> NDArray:
    """Return the array of a .npy file, in native byte order and C order.

    Raises:
        UserError: not a .npy file, objects or other unusable types, more than `max_pixels`, or
            fewer or more bytes than the header declares.
    """
    sink = io.BytesIO(data)
    shape, fortran, dtype = _read_header(sink, source)
    if dtype.hasobject or dtype.kind not in "uf" or dtype.itemsize > 8:
        raise UserError(f"{source}: dtype {dtype}; send uint8, uint16 or float in [0, 1]")
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] > 4):
        raise UserError(f"{source}: shape {shape} is not H x W or H x W x (1, 3 or 4)")
    if shape[0] * shape[1] > max_pixels:
        raise UserError(f"{source}: {shape[0] * shape[1]} pixels, the limit is {max_pixels}")
    declared, there = math.prod(shape) * dtype.itemsize, len(data) - sink.tell()
    if declared != there:
        raise UserError(f"{source}: {there} bytes of values, its header declares {declared}")
    flat = np.frombuffer(data, dtype, offset=sink.tell())
    array = flat.reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))


def write_npy(array: NDArray) -> bytes:
    """Return an array as a .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def _read_header(sink: io.BytesIO, source: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = npy.read_magic(sink)
        if version not in _READERS:
            raise ValueError(f"format version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            return _READERS[version](sink)
    except Exception as error:  # the header is an expression that anybody may have written
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{source}: not a .npy file ({detail}); write it with numpy.save") from None
