import io
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from dtpf.serving.app import create_app
from dtpf.serving.envelope import SECURITY_HEADERS
from dtpf.serving.predictor import Predictor
from dtpf.serving.requests import FuseQuery
from dtpf.serving.service import Service
from tests.serving.fakes import infrared_array, load, visible_array


def test_fuse_answers_with_the_fused_image(client, pair):
    response = client.post("/fuse", files=pair)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    fused = np.asarray(Image.open(io.BytesIO(response.content)))
    expected = 255 * (visible_array() + infrared_array()[..., None]) / 2
    assert np.abs(fused - expected).max() <= 1.01


def test_fuse_says_which_model_and_how_long(client, pair):
    headers = client.post("/fuse", files=pair).headers
    assert headers["X-Model-Version"] == "v1"
    pattern = r"decode;dur=[\d.]+, model;dur=[\d.]+, encode;dur=[\d.]+"
    assert re.fullmatch(pattern, headers["Server-Timing"])
    assert headers["Cache-Control"] == "no-store"


def test_options_come_in_the_query(client, pair):
    response = client.post("/fuse?format=jpeg&quality=40&gray=true", files=pair)
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.mode) == ("JPEG", "L")
    assert response.headers["content-type"] == "image/jpeg"


def test_request_ids_are_kept_if_sane_and_made_otherwise(client):
    def answered(given: str) -> str:
        return client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]

    assert answered("trace-7.a") == "trace-7.a"
    assert re.fullmatch(r"[0-9a-f]{32}", answered("x" * 65))
    assert re.fullmatch(r"[0-9a-f]{32}", answered("a b<script>"))
    assert answered("") != answered("")


def test_behind_a_proxy_that_adds_ids_none_is_announced_twice(predictor, config):
    client = TestClient(
        create_app(Service(config, {config.name: predictor}), announce_request_id=False)
    )
    assert "X-Request-Id" not in client.get("/healthz").headers


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/static/app.js"])
def test_security_headers_are_on_every_answer(client, path):
    headers = client.get(path).headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_model_route_describes_model_and_limits(client):
    document = client.get("/v1/model").json()
    assert document["name"] == "student"
    assert document["version"] == "v1"
    assert document["parameters"] == 7
    assert document["limits"] == {
        "max_body_bytes": 200_000,
        "max_pixels": 4096,
        "max_archive_pairs": 256,
        "request_timeout_s": 20.0,
    }


def test_health_and_readiness(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "version": "v1"}


def test_without_a_model_alive_but_not_ready(config, pair):
    predictor = Predictor(None, config, load)
    with TestClient(create_app(Service(config, {config.name: predictor}))) as client:
        assert client.get("/healthz").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/v1/model"),
            client.post("/fuse", files=pair),
        ):
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "5"
            assert response.json()["detail"] == "no model is loaded yet"
        predictor.load("v3")
        assert client.get("/readyz").json()["version"] == "v3"
        assert client.post("/fuse", files=pair).headers["X-Model-Version"] == "v3"


def test_defect_of_ours_is_a_500_without_its_cause(client, pair, fuser, caplog):
    fuser.error = RuntimeError("secret path /srv/weights")
    response = client.post("/fuse", files=pair)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] in response.json()["detail"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret path" in caplog.text
    fuser.error = None
    assert client.post("/fuse", files=pair).status_code == 200


def test_examples_are_pairs_that_fuse(client, config):
    listed = client.get("/examples").json()
    assert len(listed) >= 2
    for example in listed:
        files = {m: client.get(f"/{example[m]}") for m in ("visible", "infrared")}
        sizes = {Image.open(io.BytesIO(file.content)).size for file in files.values()}
        assert len(sizes) == 1
        assert {file.headers["content-type"] for file in files.values()} == {"image/png"}
        assert sum(len(file.content) for file in files.values()) < 500_000


@pytest.mark.parametrize("path", ["examples/none/visible.png", "examples/night-4/thermal.png"])
def test_unknown_example_is_404(client, path):
    response = client.get(f"/{path}")
    assert response.status_code == 404
    assert "GET /examples" in response.json()["detail"]


def test_openapi_document_names_the_route_and_its_problems(client):
    document = client.get("/openapi.json").json()
    fuse = document["paths"]["/fuse"]["post"]
    assert "multipart/form-data" in fuse["requestBody"]["content"]
    assert {"200", "408", "413", "422", "503", "504"} <= set(fuse["responses"])
    assert {parameter["name"] for parameter in fuse["parameters"]} == set(FuseQuery.model_fields)
