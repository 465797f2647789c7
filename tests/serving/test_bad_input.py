"""What clients get wrong: each case is a 4xx problem document, and the app goes on."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.serving.fakes import infrared_png, visible_png


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_bomb(side: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b"")


def tiff(array: np.ndarray, **options) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, array, **options)
    return sink.getvalue()


def jpeg() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (32, 24)).save(sink, "jpeg")
    return sink.getvalue()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


BAD_IMAGES = {
    "no bytes": b"",
    "one byte": b"\x89",
    "text": b"this is no image",
    "script": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 32\nshowpage",
    "gif": b"GIF89a" + bytes(40),
    "zip": b"PK\x03\x04" + bytes(40),
    "zeros": bytes(1000),
    "png mark alone": b"\x89PNG\r\n\x1a\n",
    "truncated png": visible_png()[:200],
    "damaged png": flipped(visible_png()),
    "truncated jpeg": jpeg()[:120],
    "truncated tiff": tiff(np.zeros((24, 32), np.uint16))[:80],
    "bomb of 100k x 100k": png_bomb(100_000),
    "bomb of 2^31": png_bomb(2**31 - 1),
    "side of zero": png_bomb(0),
    "beyond the pixel limit": visible_png(65, 64),
    "tiff beyond the pixel limit": tiff(np.zeros((65, 64), np.uint8), compression="zlib"),
    "nan tiff": tiff(np.full((24, 32), np.nan, np.float32)),
    "float tiff beyond 1": tiff(np.full((24, 32), 7, np.float32)),
    "64-bit tiff": tiff(np.zeros((24, 32), np.int64)),
    "five channels": tiff(
        np.zeros((24, 32, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "other size": visible_png(32, 24),
}


def check_problem(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert set(document) <= {"type", "title", "status", "detail", "field"}
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in response.text
    assert "\n" not in document["detail"]
    return document


@pytest.mark.parametrize("field", ["visible", "infrared"])
@pytest.mark.parametrize("kind", list(BAD_IMAGES))
def test_bad_image(client, pair, fuser, field, kind):
    calls = fuser.calls
    response = client.post("/fuse", files=pair | {field: BAD_IMAGES[kind]})
    document = check_problem(response, 422)
    assert document["field"] == ("infrared" if kind == "other size" else field)
    assert fuser.calls == calls
    assert client.post("/fuse", files=pair).status_code == 200


BAD_REQUESTS = {
    "no body": ({}, 422, "visible"),
    "no infrared": ({"files": {"visible": visible_png()}}, 422, "infrared"),
    "no visible": ({"files": {"infrared": infrared_png()}}, 422, "visible"),
    "text instead of a file": (
        {"data": {"visible": "abc"}, "files": {"infrared": infrared_png()}},
        422,
        "visible",
    ),
    "misspelt part": (
        {"files": {"visible": visible_png(), "infra_red": infrared_png()}},
        422,
        "infrared",
    ),
    "json": ({"json": {"visible": "aGk=", "infrared": "aGk="}}, 422, "visible"),
    "form without files": ({"data": {"visible": "a", "infrared": "b"}}, 422, "visible"),
    "multipart without boundary": (
        {"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        None,
    ),
    "multipart cut off": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="visible"',
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        422,
        "visible",
    ),
    "multipart garbage": (
        {
            "content": b"\0\1\2" * 50,
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        400,
        None,
    ),
}


@pytest.mark.parametrize("kind", list(BAD_REQUESTS))
def test_bad_request(client, kind):
    request, status, field = BAD_REQUESTS[kind]
    document = check_problem(client.post("/fuse", **request), status)
    assert document.get("field") == field


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("format=bmp", "format"),
        ("format=", "format"),
        ("format=PNG", "format"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=high", "quality"),
        ("gray=perhaps", "gray"),
        ("scale=2", "scale"),
    ],
)
def test_bad_option(client, pair, query, field):
    document = check_problem(client.post(f"/fuse?{query}", files=pair), 422)
    assert document["field"] == field
    assert field in document["detail"]


def test_option_in_the_form_is_not_silently_ignored(client, pair):
    document = check_problem(client.post("/fuse", files=pair, data={"format": "jpeg"}), 422)
    assert document["field"] == "format"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fuse", 405),
        ("PUT", "/fuse", 405),
        ("DELETE", "/v1/model", 405),
        ("POST", "/healthz", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
        ("GET", "/static/../config.py", 404),
        ("GET", "/static/%2e%2e/config.py", 404),
        ("GET", "/static/none.js", 404),
    ],
)
def test_wrong_route(client, method, path, status):
    check_problem(client.request(method, path), status)


def test_body_beyond_the_limit(client, pair):
    document = check_problem(client.post("/fuse", files=pair | {"visible": bytes(300_000)}), 413)
    assert "200000 bytes" in document["detail"]
    assert client.post("/fuse", files=pair).status_code == 200


def test_endless_body_without_a_length(client):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="visible"; filename="a"\r\n\r\n'
        for _ in range(1000):
            sent += 1000
            yield bytes(1000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    check_problem(client.post("/fuse", content=endless(), headers=headers), 413)
