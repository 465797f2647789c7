"""The compiled kernels in this process: loaded once, called with PyTorch's own threads."""

import ctypes
import logging
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dtpf.core.kernels.compiler import compiled

_log = logging.getLogger(__name__)


class Threads(ctypes.Structure):
    """`struct Threads` of jobs.h."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("count", ctypes.c_long),
        ("scratch", ctypes.c_void_p),
        ("scratch_size", ctypes.c_long),
    )


class Tiles(ctypes.Structure):
    """`struct Tiles` of jobs.h."""

    _fields_ = tuple(
        (name, ctypes.c_long) for name in ("batch", "height", "width", "rows", "columns")
    )

    @property
    def per_image(self) -> int:
        """How many tiles an image has."""
        return -(-self.height // self.rows) * -(-self.width // self.columns)


class Norm(ctypes.Structure):
    """`struct Norm` of matrix.h."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    )


class Affine(NamedTuple):
    """What a layer norm over the channels is made of."""

    weight: Tensor
    bias: Tensor
    epsilon: float


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None without a compiler, or with DTPF_KERNELS=0."""
    if os.environ.get("DTPF_KERNELS") == "0":
        return None
    if _run_in_parallel() is None and torch.get_num_threads() > 1:
        _log.warning(
            "PyTorch's OpenMP is not found: its operations compute in place of the kernels"
        )
        return None
    path = compiled()
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError as error:
        _log.warning("%s cannot be loaded, delete it: %s", path, error)
        return None


@cache
def _run_in_parallel() -> int | None:
    """Return the address of GOMP_parallel in the OpenMP library of PyTorch, if it has one.

    The kernels then share PyTorch's threads and obey `torch.set_num_threads`.
    """
    core = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    for path in (None, str(core)):  # of a library, its dependencies are searched too
        try:
            function = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value
    return None


def _numbers(count: int) -> Tensor:
    # Whatever PyTorch's default type and device are.
    return torch.empty(count, dtype=torch.float32, device="cpu")


class _Scratch(threading.local):
    """Memory that the calls of one thread use one after the other."""

    def __init__(self) -> None:
        self.numbers = _numbers(0)

    def take(self, size: int) -> Tensor:
        if self.numbers.numel() < size:
            self.numbers = _numbers(size)
        return self.numbers


_scratch = _Scratch()


def size(name: str, *arguments: int) -> int:
    """Return a number that the kernels compute, such as how much scratch memory one needs."""
    kernels = library()
    assert kernels is not None
    function = getattr(kernels, name)
    function.restype = ctypes.c_long
    number: int = function(*map(ctypes.c_long, arguments))
    return number


def call(name: str, tiles: Tiles, scratch: int, packed: int, arguments: Sequence[Any]) -> None:
    """Call a kernel.

    Args:
        name: the C function.
        tiles: the pieces of work.
        scratch: numbers that each thread needs.
        packed: numbers that its packed weights need.
        arguments: what stands between tiles and packed weights: tensors (contiguous, float32),
            layer norms and whole numbers.

    Raises:
        ValueError: a tensor is of another type or device, or not contiguous.
    """
    kernels = library()
    assert kernels is not None
    count = torch.get_num_threads()
    scratch, packed = (-(-numbers // 16) * 16 for numbers in (scratch, packed))  # cache lines
    memory = _scratch.take(count * scratch + packed)
    start = memory.data_ptr()
    threads = Threads(_run_in_parallel(), count, start + 4 * packed, scratch)
    passed = [_as_argument(argument) for argument in arguments]
    getattr(kernels, name)(
        ctypes.byref(threads), ctypes.byref(tiles), *passed, ctypes.c_void_p(start)
    )


def _as_argument(value: Tensor | Affine | int) -> Any:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, Affine):
        return ctypes.byref(Norm(_address(value.weight), _address(value.bias), value.epsilon))
    return ctypes.c_void_p(_address(value))


def _address(tensor: Tensor) -> int:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        kind = f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}"
        raise ValueError(f"kernels take contiguous float32 tensors on the CPU, not {kind}")
    return tensor.data_ptr()
