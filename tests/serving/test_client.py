"""The client against the real app in this process, and against servers that misbehave."""

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from dtpf.serving import client as module
from dtpf.serving.app import create_app
from dtpf.serving.client import Client, RefusedError
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import Service
from dtpf.serving.tokens import add_token
from tests.serving.fakes import (
    MeanFuser,
    infrared_array,
    infrared_png,
    load,
    visible_array,
    visible_png,
)


class ToApp(httpx.BaseTransport):
    """Hands requests to the app, without a socket."""

    def __init__(self, app: TestClient) -> None:
        self._app = app

    def handle_request(self, request):
        request.read()
        answer = self._app.request(
            request.method, str(request.url), content=request.content, headers=request.headers
        )
        headers = [(k, v) for k, v in answer.headers.items() if k != "content-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)


@pytest.fixture
def fusing(client):
    with Client("http://testserver", transport=ToApp(client)) as opened:
        yield opened


def test_fuses_bytes_and_paths(fusing, tmp_path):
    seen, heat = tmp_path / "seen.png", tmp_path / "heat.png"
    seen.write_bytes(visible_png())
    heat.write_bytes(infrared_png())
    fused = fusing.fuse(seen, str(heat), format="jpeg", quality=80)
    again = fusing.fuse(visible_png(), infrared_png(), format="jpeg", quality=80)
    assert fused.data == again.data
    assert (fused.media_type, fused.version) == ("image/jpeg", "v1")
    assert len(fused.request_id) == 32
    assert list(fused.timings) == ["decode", "model", "encode"]


def test_fuses_arrays_without_rounding(fusing):
    fused = fusing.fuse_arrays(visible_array(), infrared_array())
    np.testing.assert_array_equal(fused, (visible_array() + infrared_array()[..., None]) / 2)


def test_fuses_many(fusing):
    pairs = {"a": (visible_png(), infrared_png()), "b": (b"no image", infrared_png())}
    first, second = fusing.fuse_many(pairs, format="webp")
    assert first.data[8:12] == b"WEBP"
    assert second.data is None
    assert second.report["field"] == "visible"


def test_describes_models(fusing):
    assert fusing.model()["version"] == "v1"
    assert [item["name"] for item in fusing.models()] == ["student"]
    assert fusing.ready()
    with pytest.raises(RefusedError, match="404: model 'other' is not served"):
        fusing.model("other")


def test_refusal_names_the_field(fusing):
    with pytest.raises(RefusedError) as caught:
        fusing.fuse(b"no image", infrared_png())
    assert (caught.value.status, caught.value.field) == (422, "visible")
    assert len(caught.value.request_id) == 32


def test_several_models_side_by_side(config):
    config = config.model_copy(update={"also": ("night",)})
    predictors = {
        "student": Predictor(MeanFuser("v1"), config, load),
        "night": Predictor(MeanFuser("n7"), config, load),
    }
    with (
        TestClient(create_app(Service(config, predictors))) as app,
        Client("http://testserver", transport=ToApp(app)) as fusing,
    ):
        pair = visible_png(), infrared_png()
        assert fusing.fuse(*pair).version == "v1"
        assert fusing.fuse(*pair, model="night").version == "n7"
        assert fusing.model("night")["name"] == "night"
        assert [item["name"] for item in fusing.models()] == ["student", "night"]
        with pytest.raises(RefusedError, match="known: student, night") as caught:
            fusing.fuse(*pair, model="noon")
        assert (caught.value.status, caught.value.field) == (422, "model")


def test_token_comes_from_the_argument_or_the_environment(predictor, config, tmp_path, monkeypatch):
    path = tmp_path / "tokens.json"
    secret = add_token(path, "lab")
    config = config.model_copy(update={"tokens_file": str(path)})
    with TestClient(create_app(Service(config, {"student": predictor}))) as app:
        transport = ToApp(app)
        with pytest.raises(RefusedError, match="401"):
            Client("http://testserver", transport=transport).model()
        assert Client("http://testserver", token=secret, transport=transport).model()
        monkeypatch.setenv("DTPF_TOKEN", secret)
        assert Client("http://testserver", transport=transport).model()


def busy(answers):
    """A server that gives these answers one after the other."""
    left = list(answers)

    def handle(request):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), left


GOOD = httpx.Response(200, json={"version": "v1"})
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    "first",
    [
        httpx.Response(503, headers={"Retry-After": "2"}),
        httpx.Response(429, headers={"Retry-After": "2"}),
        httpx.Response(503),
        httpx.Response(408, json={"detail": "the body went astray"}, headers=PROBLEM),
        httpx.Response(500, text="a proxy lost its replica"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("went away"),
    ],
)
def test_tries_again_where_that_helps(first, pauses):
    transport, left = busy([first, GOOD])
    assert Client("http://x", transport=transport).model() == {"version": "v1"}
    assert left == []
    assert len(pauses) == 1
    told = isinstance(first, httpx.Response) and "Retry-After" in first.headers
    assert pauses[0] >= (2.0 if told else 0.0)


@pytest.mark.parametrize(
    "final",
    [
        httpx.Response(422, json={"detail": "no"}, headers=PROBLEM),
        httpx.Response(500, json={"detail": "the server failed"}, headers=PROBLEM),
        httpx.Response(401, text="go away"),
    ],
)
def test_does_not_try_again_where_that_is_in_vain(final, pauses):
    transport, left = busy([final, GOOD])
    with pytest.raises(RefusedError, match=str(final.status_code)):
        Client("http://x", transport=transport).model()
    assert left == [GOOD]
    assert pauses == []


def test_patience_ends(pauses):
    transport, _ = busy([httpx.ConnectError("refused")] * 3)
    with pytest.raises(httpx.ConnectError):
        Client("http://x", transport=transport, patience_s=0.0).model()
    transport, left = busy([httpx.Response(503, headers={"Retry-After": "60"}), GOOD])
    with pytest.raises(RefusedError, match="503"):
        Client("http://x", transport=transport).model()
    assert left == [GOOD]
