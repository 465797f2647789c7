"""Zips of pairs: answered as a stream, pair by pair; hostile ones are refused as a whole."""

import io
import json
import struct
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.serving.fakes import MeanFuser, infrared_png, visible_png
from tests.serving.test_access import opened
from tests.serving.test_bad_input import check_problem
from tests.serving.test_batching import until


def packed(members: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def pairs(*names: str) -> dict[str, bytes]:
    return {
        f"{modality}/{name}.png": data
        for name in names
        for modality, data in (("visible", visible_png()), ("infrared", infrared_png()))
    }


def post(client, data: bytes, query: str = ""):
    return client.post(f"/fuse/batch{query}", content=data)


def unpacked(answer) -> tuple[list[dict], dict[str, bytes]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(files.pop("report.json")), files


def test_pairs_are_fused_in_order(client, pair):
    names = [f"{number:03d} a" for number in range(20)]
    report, files = unpacked(post(client, packed(pairs(*names), zipfile.ZIP_DEFLATED)))
    assert [item["name"] for item in report] == names
    assert {item["status"] for item in report} == {"fused"}
    assert list(files) == [f"fused/{name}.png" for name in names]
    assert set(files.values()) == {client.post("/fuse", files=pair).content}


def test_options_hold_for_all(client):
    report, files = unpacked(post(client, packed(pairs("a", "b")), "?format=jpeg&gray=true"))
    assert [item["file"] for item in report] == ["fused/a.jpeg", "fused/b.jpeg"]
    assert {Image.open(io.BytesIO(data)).mode for data in files.values()} == {"L"}


def test_bad_pairs_are_told_of_and_the_others_fused(client, fuser):
    members = pairs("a", "b", "c", "d", "e")
    members["visible/b.png"] = b"no image"
    del members["infrared/c.png"]
    members["infrared/d.png"] = infrared_png(32, 24)
    report, files = unpacked(post(client, packed(members)))
    outcomes = {item["name"]: (item["status"], item.get("field")) for item in report}
    assert outcomes == {
        "a": ("fused", None),
        "b": ("failed", "visible"),
        "c": ("failed", "infrared"),
        "d": ("failed", "infrared"),
        "e": ("fused", None),
    }
    assert sorted(files) == ["fused/a.png", "fused/e.png"]


def test_damaged_member_fails_alone(client):
    data = bytearray(packed(pairs("a", "b")))
    data[80] ^= 0xFF  # inside the first member
    report, _ = unpacked(post(client, bytes(data)))
    assert [(item["status"], item.get("field")) for item in report] == [
        ("failed", "visible"),
        ("fused", None),
    ]
    assert "CRC" in report[0]["detail"]


def test_defect_of_ours_is_told_without_its_cause(client, fuser):
    fuser.error = RuntimeError("secret path")
    report, _ = unpacked(post(client, packed(pairs("a"))))
    assert report == [{"name": "a", "status": "failed", "detail": "the server failed"}]


def test_pairs_of_an_archive_share_model_calls(predictor, config, fuser):
    fuser.gate = threading.Event()
    with opened(predictor, config) as client:
        answers = []
        request = threading.Thread(
            target=lambda: answers.append(post(client, packed(pairs(*map(str, range(17))))))
        )
        request.start()
        until(lambda: fuser.calls > 1 and fuser.sizes[1] + len(predictor._batcher._queue) == 8)
        fuser.gate.set()
        request.join(20)
    assert len(unpacked(answers[0])[0]) == 17
    # After the one that tried the network: the second takes all that waited for the first.
    assert 8 - fuser.sizes[1] <= fuser.sizes[2] <= 8
    assert sum(fuser.sizes[1:]) == 17


def test_answer_begins_before_the_last_pair_is_fused():
    """Drive the app by raw messages: the first bytes come while the model is still held."""
    import asyncio

    from dtpf.serving.app import create_app
    from dtpf.serving.config import ServeConfig
    from dtpf.serving.predictor import Predictor
    from dtpf.serving.service import Service

    class LastHeld(MeanFuser):
        def fuse(self, visible, infrared):
            if len(visible) == 16:
                assert begun.wait(20)
            return super().fuse(visible, infrared)

    begun = threading.Event()
    config = ServeConfig(max_batch_size=1)
    app = create_app(Service(config, {"student": Predictor(LastHeld(), config)}))
    members = pairs("a") | {
        "visible/z.png": visible_png(16, 16),
        "infrared/z.png": infrared_png(16, 16),
    }
    scope = {"type": "http", "method": "POST", "path": "/fuse/batch", "query_string": b""}
    scope |= {"headers": [], "asgi": {"version": "3.0", "spec_version": "2.4"}}
    sent = []

    async def receive():
        return {"type": "http.request", "body": packed(members), "more_body": False}

    async def send(message):
        sent.append(message.get("body", b""))
        if b"fused/a.png" in sent[-1]:
            begun.set()

    asyncio.run(app(scope, receive, send))
    assert len(unpacked_bytes(b"".join(sent))) == 3


def unpacked_bytes(data: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def with_flag(data: bytes, flag: int) -> bytes:
    """Set a general-purpose flag in both headers of the first member."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.index(signature) + offset
        changed[place] |= flag
    return bytes(changed)


def understated(data: bytes, size: int) -> bytes:
    """Let the directory claim that each member unpacks to `size` bytes."""
    changed = bytearray(data)
    place = -1
    while (place := changed.find(b"PK\x01\x02", place + 1)) >= 0:
        changed[place + 24 : place + 28] = struct.pack("<I", size)
    return bytes(changed)


def link() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        info = zipfile.ZipInfo("visible/a.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return sink.getvalue()


def named(name: str) -> bytes:
    return packed(pairs("a") | {name: b"x"})


BAD_ARCHIVES = {
    "no bytes": b"",
    "text": b"this is no zip",
    "png": visible_png(),
    "cut off": packed(pairs("a"))[:-30],
    "directory alone": packed({}),
    "damaged directory": packed(pairs("a"))[:-60] + bytes(38) + packed(pairs("a"))[-22:],
    "no pairs": packed({"visible/": b""}),
    "climbs out": named("../../etc/cron.d/x.png"),
    "climbs out behind a folder": named("visible/../../x.png"),
    "climbs out by backslashes": named("visible\\..\\..\\x.png"),
    "absolute": named("/visible/x.png"),
    "drive": named("C:/visible/x.png"),
    "hidden": named("visible/.x.png"),
    "dots": named("visible/...png"),
    "nested": named("visible/a/b.png"),
    "other folder": named("thermal/a.png"),
    "no folder": named("a.png"),
    "no suffix": named("visible/x"),
    "line break": named("visible/x\ny.png"),
    "colon": named("visible/x:y.png"),
    "name of 300 letters": named(f"visible/{'x' * 300}.png"),
    "turned text": named("visible/\u202egnp.exe.png"),
    "twice": packed(pairs("a") | {"visible/a.jpg": b"x"}),
    "link": link(),
    "encrypted": with_flag(packed(pairs("a")), 1),
    "bzip2": packed(pairs("a"), zipfile.ZIP_BZIP2),
    "lzma": packed(pairs("a"), zipfile.ZIP_LZMA),
    "too many": packed({f"visible/{number}.png": b"" for number in range(40)}),
    "bomb": packed(pairs("a") | {"visible/b.png": bytes(3_000_000)}, zipfile.ZIP_DEFLATED),
}


@pytest.fixture
def strict(predictor, config):
    limits = {"max_archive_pairs": 8, "max_archive_bytes": 1_000_000}
    with opened(predictor, config, **limits) as client:
        yield client


@pytest.mark.parametrize("kind", list(BAD_ARCHIVES))
def test_bad_archive(strict, fuser, kind):
    calls = fuser.calls
    document = check_problem(post(strict, BAD_ARCHIVES[kind]), 422)
    assert document["field"] == "archive"
    assert fuser.calls == calls
    assert unpacked(post(strict, packed(pairs("a"))))[0][0]["status"] == "fused"


def test_bomb_that_lies_about_its_size_is_stopped_while_it_unpacks(strict):
    honest = packed({"visible/a.png": bytes(5_000_000), "infrared/a.png": b"x"}, 8)
    report, files = unpacked(post(strict, understated(honest, 10)))
    assert report[0]["status"] == "failed"
    assert files == {}


def test_body_beyond_the_limit(client):
    data = packed(pairs("a") | {"visible/b.png": np.random.default_rng(0).bytes(300_000)})
    check_problem(post(client, data), 413)


def test_unknown_option(client):
    assert check_problem(post(client, packed(pairs("a")), "?scale=2"), 422)["field"] == "scale"
