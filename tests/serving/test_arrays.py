"""The raw-array route: what programs send, and what nobody should."""

import io
import struct

import numpy as np
import pytest

from dtpf.serving.arrays import read_npy, write_npy
from tests.serving.fakes import infrared_array, visible_array
from tests.serving.test_bad_input import check_problem


def npy(array) -> bytes:
    return write_npy(np.asarray(array))


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.fixture
def array_pair():
    return {"visible": npy(visible_array()), "infrared": npy(infrared_array())}


def fused(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-npy"
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def test_floats_come_back_unrounded(client, array_pair):
    answer = client.post("/fuse/arrays", files=array_pair)
    expected = (visible_array() + infrared_array()[..., None]) / 2
    np.testing.assert_array_equal(fused(answer), expected)
    assert fused(answer).dtype == np.float32
    assert answer.headers["X-Model-Version"] == "v1"


def test_bytes_come_back_where_wanted(client, array_pair):
    answer = fused(client.post("/fuse/arrays?dtype=uint8", files=array_pair))
    expected = 255 * (visible_array() + infrared_array()[..., None]) / 2
    assert answer.dtype == np.uint8
    assert np.abs(answer - expected).max() <= 0.501


@pytest.mark.parametrize(
    "change",
    [
        lambda a: (a * 255).astype(np.uint8),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
        lambda a: a.astype(">f4"),
        np.asfortranarray,
        lambda a: a[..., :1],
        lambda a: a[..., 0],
        lambda a: np.concatenate([a, a[..., :1]], axis=2),
    ],
)
def test_takes_usual_layouts(client, array_pair, change):
    seen = change(visible_array())
    answer = fused(client.post("/fuse/arrays", files=array_pair | {"visible": npy(seen)}))
    unit = seen / 255 if seen.dtype == np.uint8 else seen
    unit = unit[..., None] if unit.ndim == 2 else unit[..., :3]
    expected = (np.broadcast_to(unit, (24, 32, 3)) + infrared_array()[..., None]) / 2
    np.testing.assert_allclose(answer, expected, atol=1e-3)


class Explodes:
    def __reduce__(self):
        return (open, ("/tmp/dtpf-was-here", "w"))


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
WITHIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 64, 3), }"
BAD_ARRAYS = {
    "no bytes": b"",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "magic alone": b"\x93NUMPY",
    "header cut off": npy(visible_array())[:40],
    "values cut off": npy(visible_array())[:-1],
    "values left over": npy(visible_array()) + b"\0",
    "header of 10^12 pixels": with_header(HUGE),
    "header beyond the bytes": with_header(WITHIN, bytes(100)),
    "header with a call": with_header("__import__('os').system('true')"),
    "header with deep nesting": with_header("(" * 100),
    "header of another kind": with_header("{'shape': 3}"),
    "negative shape": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }"),
    "format 9": b"\x93NUMPY\x09\x00" + bytes(100),
    "pickle": None,
    "zip of arrays": None,
    "strings": npy(np.full((24, 32), "a")),
    "records": npy(np.zeros((24, 32), dtype=[("a", "f4")])),
    "complex": npy(np.zeros((24, 32), np.complex64)),
    "integers of 64 bits": npy(np.zeros((24, 32), np.int64)),
    "booleans": npy(np.zeros((24, 32), bool)),
    "a number": npy(np.float32(1)),
    "a row": npy(np.zeros(32, np.float32)),
    "a batch": npy(np.zeros((1, 24, 32, 3), np.float32)),
    "five channels": npy(np.zeros((24, 32, 5), np.float32)),
    "channels first": npy(np.zeros((3, 24, 32), np.float32)),
    "no pixels": npy(np.zeros((0, 32), np.float32)),
    "too many pixels": npy(np.zeros((65, 64), np.uint8)),
    "nan": npy(np.full((24, 32), np.nan, np.float32)),
    "infinity": npy(np.full((24, 32), np.inf, np.float32)),
    "beyond 1": npy(np.full((24, 32), 1.5, np.float32)),
    "negative": npy(np.full((24, 32), -0.1, np.float32)),
    "other size": npy(np.zeros((32, 24), np.float32)),
    "too small": npy(np.zeros((8, 8), np.float32)),
}


def bad_array(kind: str) -> bytes:
    if kind not in ("pickle", "zip of arrays"):
        return BAD_ARRAYS[kind]
    sink = io.BytesIO()
    if kind == "pickle":
        np.save(sink, np.array([Explodes()], dtype=object), allow_pickle=True)
    else:
        np.savez(sink, visible=visible_array())
    return sink.getvalue()


@pytest.mark.parametrize("field", ["visible", "infrared"])
@pytest.mark.parametrize("kind", list(BAD_ARRAYS))
def test_bad_array(client, array_pair, fuser, field, kind):
    calls = fuser.calls
    files = array_pair | {field: bad_array(kind)}
    document = check_problem(client.post("/fuse/arrays", files=files), 422)
    assert document["field"] in ("visible", "infrared")
    assert fuser.calls == calls


def test_nothing_is_unpickled(tmp_path):
    import os

    with pytest.raises(ValueError, match="dtype object"):
        read_npy(bad_array("pickle"), "visible", 10**6)
    assert not os.path.exists("/tmp/dtpf-was-here")


@pytest.mark.parametrize(("query", "field"), [("dtype=float64", "dtype"), ("format=png", "format")])
def test_bad_option(client, array_pair, query, field):
    document = check_problem(client.post(f"/fuse/arrays?{query}", files=array_pair), 422)
    assert document["field"] == field
