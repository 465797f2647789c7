"""One path: the same pair gives the same bytes in Python, on the command line and over HTTP."""

from typing import ClassVar

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

from dtpf import Fuser
from dtpf.cameras import engines
from dtpf.cameras.batch import Job, fuse_folder, fuse_one
from dtpf.cameras.calibration import calibrate_points
from dtpf.cameras.engines import EndpointEngine, LocalEngine, in_order
from dtpf.cameras.prepare import Rig
from dtpf.cli.app import app
from dtpf.core.errors import UserError
from dtpf.data.images import encode_png
from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import Service
from tests.cameras.support import colours, heat, write_folder

NETWORK = "student_tiny"
MARKS = np.array([[0, 0], [20, 2], [22, 14], [3, 12], [10, 8.0]])


def serving(fuser, config):
    return create_app(Service(config, {config.name: Predictor(fuser, config)}))


@pytest.fixture(scope="module")
def fuser():
    return Fuser.from_bundle(NETWORK)


@pytest.fixture(scope="module")
def client(fuser):
    config = ServeConfig()
    with TestClient(serving(fuser, config)) as found:
        yield found


@pytest.fixture
def files(tmp_path):
    """Three pairs, the infrared ones with 8 and with 16 bits."""
    seen = write_folder(tmp_path / "v", colours(3))
    warm = [np.uint8(heat(1)[0] // 64), heat(1)[0], heat(1, hot=[0])[0]]
    return seen, write_folder(tmp_path / "i", warm)


@pytest.mark.parametrize("name", ["f0.png", "f1.png", "f2.png"], ids=["8-bit", "16-bit", "hot"])
def test_python_command_line_and_http_give_the_same_bytes(fuser, client, files, tmp_path, name):
    seen, warm = files[0] / name, files[1] / name
    by_python = encode_png(fuser(np.asarray(Image.open(seen)), np.asarray(Image.open(warm))))
    arguments = ["fuse", str(seen), str(warm), "-o", str(tmp_path / "f.png"), "--model", NETWORK]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    parts = {"visible": seen.read_bytes(), "infrared": warm.read_bytes()}
    by_http = client.post("/fuse", files=parts)
    assert by_http.status_code == 200
    assert (tmp_path / "f.png").read_bytes() == by_python
    assert by_http.content == by_python


def test_an_endpoint_as_engine_gives_the_same_bytes(fuser, client, files, tmp_path):
    rig = Rig()
    with EndpointEngine("http://testserver", 2, client) as remote, LocalEngine(NETWORK) as local:
        for engine, name in ((remote, "remote.png"), (local, "local.png")):
            job = Job(*(f"file://{folder}/f0.png" for folder in files), f"file://{tmp_path}/{name}")
            fuse_one(job, rig, engine)
    assert (tmp_path / "remote.png").read_bytes() == (tmp_path / "local.png").read_bytes()


def test_the_endpoint_moves_raw_pairs_and_warns(fuser, files, tmp_path):
    found = calibrate_points(MARKS, MARKS * 2 + [4.5, 0.5], (16, 24), (32, 48))
    (tmp_path / "rig.json").write_text(found.model_dump_json())
    config = ServeConfig(calibration=str(tmp_path / "rig.json"))
    small = encode_png(heat(1, size=(16, 24))[0])
    parts = {"visible": (files[0] / "f0.png").read_bytes(), "infrared": small}
    with TestClient(serving(fuser, config)) as calibrated:
        answer = calibrated.post("/fuse", files=parts)
    assert answer.status_code == 200
    (tmp_path / "small.png").write_bytes(small)
    arguments = ["fuse", files[0] / "f0.png", tmp_path / "small.png", "-o", tmp_path / "f.png"]
    arguments += ["--model", NETWORK, "--device", "cpu", "--calibration", tmp_path / "rig.json"]
    assert CliRunner().invoke(app, [str(part) for part in arguments]).exit_code == 0
    assert answer.content == (tmp_path / "f.png").read_bytes()

    class Copies:
        info: ClassVar = {"version": "1"}

        def fuse_batch(self, visible, infrared):
            return list(visible)

    with TestClient(serving(Copies(), ServeConfig())) as copying:
        pair = {"visible": parts["visible"], "infrared": (files[1] / "f2.png").read_bytes()}
        assert copying.post("/fuse", files=pair).headers["x-fusion-warnings"] == "ignores-infrared"


def test_several_processes_give_the_same_in_order(files):
    pairs = [(np.float32(frame) / 255, np.float32(frame[..., 0]) / 255) for frame in colours(5)]
    with LocalEngine(NETWORK) as one, LocalEngine(NETWORK, workers=2) as two:
        results = [list(in_order(engine, pairs, lambda pair: pair)) for engine in (one, two)]
    for (first, alone), (second, shared) in zip(*results, strict=True):
        assert first is second
        np.testing.assert_allclose(alone, shared, atol=1e-6)


def test_a_pair_that_fails_is_told_and_the_others_come(files):
    fine = (np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.float32))
    tiny = (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.float32))
    with LocalEngine(NETWORK) as engine:
        outcomes = [result for _, result in in_order(engine, [fine, tiny, fine], lambda p: p)]
    assert isinstance(outcomes[1], UserError)
    assert outcomes[0].shape == outcomes[2].shape == (32, 32, 3)


def test_reading_ahead_is_bounded():
    taken = []

    def endless():
        k = 0
        while True:
            taken.append(k)
            yield (np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.float32))
            k += 1

    with LocalEngine(NETWORK) as engine:
        results = in_order(engine, endless(), lambda pair: pair)
        for _ in range(3):
            next(results)
    assert len(taken) <= 5


def scripted(*answers):
    queue = [httpx.Response(200, json={"name": "student", "sha256": "ab"}), *answers]
    return httpx.Client(transport=httpx.MockTransport(lambda request: queue.pop(0)))


PICTURE = np.zeros((16, 16, 3), np.float32)


def test_a_busy_endpoint_is_waited_for(monkeypatch):
    waits = []
    monkeypatch.setattr(engines.time, "sleep", waits.append)
    busy = httpx.Response(503, json={"detail": "busy"}, headers={"Retry-After": "3"})
    done = httpx.Response(200, content=encode_png(PICTURE))
    with EndpointEngine("http://x/fuse", 1, scripted(busy, busy, done)) as engine:
        assert engine.submit(PICTURE, PICTURE[..., 0]).result().shape == (16, 16, 3)
    assert waits == [3.0, 3.0]


def test_an_endpoint_that_refuses_is_not_asked_again(monkeypatch):
    refused = httpx.Response(422, json={"detail": "infrared: too large"})
    with (
        EndpointEngine("http://x", 1, scripted(refused)) as engine,
        pytest.raises(UserError, match="422 infrared: too large"),
    ):
        engine.submit(PICTURE, PICTURE[..., 0]).result()


def test_no_endpoint_there():
    def fails(request):
        raise httpx.ConnectError("refused")

    client = httpx.Client(transport=httpx.MockTransport(fails))
    with pytest.raises(UserError, match="no dtpf endpoint answers"):
        EndpointEngine("http://x", 1, client)


def test_a_folder_is_gone_on_with_and_its_record_says_what_was_done(files, tmp_path):
    from tests.cameras.support import MeanEngine

    seen, warm = files
    stamps = ["1", "2", "3"]

    def jobs():
        return [
            Job(
                f"file://{seen}/f{k}.png",
                f"file://{warm}/f{k}.png",
                f"file://{tmp_path}/out/f{k}.png",
                stamp,
            )
            for k, stamp in enumerate(stamps)
        ]

    record = f"file://{tmp_path}/out.fusion.json"
    first, second, third = MeanEngine(), MeanEngine(), MeanEngine()
    assert fuse_folder(jobs(), record, Rig(), first).fused == 3
    result = fuse_folder(jobs(), record, Rig(), second)
    assert (result.skipped, second.calls) == (3, 0)
    (tmp_path / "out/f1.png").unlink()
    stamps[2] = "changed"
    assert fuse_folder(jobs(), record, Rig(), third).fused == 2
    assert fuse_folder(jobs(), record, Rig(), MeanEngine(), fresh=True).fused == 3
    text = (tmp_path / "out.fusion.json").read_text()
    assert '"percentile"' in text
    assert '"as stored"' in text
