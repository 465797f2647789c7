"""Tokens, their limits, CORS, the log: the doors of the app as it is composed."""

import json
import logging

import pytest
from fastapi.testclient import TestClient

from dtpf.serving.access import Bucket
from dtpf.serving.app import create_app
from dtpf.serving.envelope import SECURITY_HEADERS
from dtpf.serving.journal import JsonFormatter
from dtpf.serving.service import Service
from dtpf.serving.tokens import add_token
from tests.serving.test_bad_input import check_problem

OPEN = ["/", "/healthz", "/readyz", "/examples", "/openapi.json", "/static/app.js"]
GUARDED = ["/v1/model", "/v1/models", "/v1/models/student", "/metrics"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


@pytest.fixture
def secret(path):
    return add_token(path, "lab")


def opened(predictor, config, **changes) -> TestClient:
    config = config.model_copy(update=changes)
    return TestClient(create_app(Service(config, {config.name: predictor})))


@pytest.fixture
def guarded(predictor, config, path, secret):
    with opened(predictor, config, tokens_file=str(path)) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("route", OPEN)
def test_what_tells_nothing_is_open(guarded, route):
    assert guarded.get(route).status_code == 200


@pytest.mark.parametrize("route", GUARDED)
def test_what_tells_of_the_work_wants_a_token(guarded, secret, route):
    answer = guarded.get(route)
    check_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="dtpf"')
    assert guarded.get(route, headers=bearer(secret)).status_code == 200


@pytest.mark.parametrize("route", ["/fuse", "/fuse/arrays", "/fuse/batch", "/nowhere"])
def test_every_post_wants_a_token(guarded, route):
    check_problem(guarded.post(route, content=b"x" * 1000), 401)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic bGFiOng=", "Bearer wrong", "bearer\twrong", "Bearer a b c"],
)
def test_wrong_credentials(guarded, pair, header):
    check_problem(guarded.post("/fuse", files=pair, headers={"Authorization": header}), 401)


def test_token_in_the_query_does_not_count(guarded, pair, secret):
    check_problem(guarded.post(f"/fuse?token={secret}", files=pair), 401)


def test_right_token_fuses_and_rotation_needs_no_restart(guarded, pair, secret, path):
    assert guarded.post("/fuse", files=pair, headers=bearer(secret)).status_code == 200
    path.write_text('{"tokens": []}')
    check_problem(guarded.post("/fuse", files=pair, headers=bearer(secret)), 401)
    renewed = add_token(path, "lab")
    assert guarded.post("/fuse", files=pair, headers=bearer(renewed)).status_code == 200


def test_size_limit_of_a_token(guarded, pair, path):
    small = add_token(path, "small", max_body_bytes=1000)
    document = check_problem(guarded.post("/fuse", files=pair, headers=bearer(small)), 413)
    assert "1000 bytes" in document["detail"]

    def unannounced():
        yield b"--x\r\n" + bytes(2000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"} | bearer(small)
    check_problem(guarded.post("/fuse", content=unannounced(), headers=headers), 413)


def test_size_limit_of_a_token_cannot_lift_that_of_the_endpoint(guarded, pair, path):
    large = add_token(path, "large", max_body_bytes=10**9)
    files = pair | {"visible": bytes(300_000)}
    check_problem(guarded.post("/fuse", files=files, headers=bearer(large)), 413)


def test_rate_limit_of_a_token_is_its_own(guarded, pair, path, secret):
    slow = add_token(path, "slow", requests_per_minute=2)
    answers = [guarded.post("/fuse", files=pair, headers=bearer(slow)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    check_problem(answers[2], 429)
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
    assert guarded.post("/fuse", files=pair, headers=bearer(secret)).status_code == 200
    assert guarded.get("/v1/model", headers=bearer(slow)).status_code == 200


def test_bucket_refills_with_time_and_never_beyond_its_size():
    bucket = Bucket(rate=60, now=0.0)
    assert [bucket.take(0.0) for _ in range(60)] == [0.0] * 60
    assert bucket.take(0.0) == pytest.approx(1.0)
    assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0.0
    assert [bucket.take(1000.0) for _ in range(61)] == [0.0] * 60 + [pytest.approx(1.0)]


def test_other_origins_are_refused_by_default(client, pair):
    origin = {"Origin": "https://evil.example"}
    preflight = origin | {"Access-Control-Request-Method": "POST"}
    assert client.options("/fuse", headers=preflight).status_code == 405
    answer = client.post("/fuse", files=pair, headers=origin)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_named_origins_may_come_with_a_token(predictor, config, path, secret, pair):
    changes = {"cors_origins": ("https://lab.example",), "tokens_file": str(path)}
    with opened(predictor, config, **changes) as client:
        asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization"
        assert client.options("/fuse", headers=asked).status_code == 200
        origin = {"Origin": "https://lab.example"} | bearer(secret)
        answer = client.post("/fuse", files=pair, headers=origin)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
        assert "X-Model-Version" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        other = client.post(
            "/fuse", files=pair, headers=origin | {"Origin": "https://evil.example"}
        )
        assert "Access-Control-Allow-Origin" not in other.headers


def test_refusals_carry_the_security_headers_too(guarded):
    headers = guarded.post("/fuse").headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "'unsafe" not in headers["Content-Security-Policy"]


def test_log_tells_of_requests_and_holds_no_secret_and_no_image(guarded, pair, secret, caplog):
    caplog.set_level(logging.INFO, "dtpf")
    headers = bearer(secret) | {"X-Request-Id": "trace-1"}
    guarded.post("/fuse?format=jpeg", files=pair, headers=headers)
    guarded.get("/nowhere/%0A%7B%22forged%22%3A1%7D")
    records = [r for r in caplog.records if r.name == "dtpf.serving.requests"]
    lines = [JsonFormatter().format(record) for record in records]
    fused, missing = map(json.loads, lines)
    expected = {"id": "trace-1", "method": "POST", "path": "/fuse", "status": 200, "token": "lab"}
    assert expected.items() <= fused.items()
    assert (fused["version"], fused["size"]) == ("v1", "32x24")
    assert fused["bytes_in"] > sum(map(len, pair.values()))
    assert fused["bytes_out"] > 100
    assert {"model_ms", "decode_ms", "encode_ms", "ms", "time", "level"} <= set(fused)
    assert missing["status"] == 404
    assert all("\n" not in line and len(line) < 600 for line in lines)
    assert secret not in caplog.text


def test_metrics_count_requests_stages_and_batches(client, pair):
    client.post("/fuse", files=pair)
    client.post("/fuse", files=pair | {"visible": b"x"})
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'dtpf_requests_total{route="/fuse",status="200"} 1.0' in text
    assert 'dtpf_requests_total{route="/fuse",status="422"} 1.0' in text
    assert 'status="404"' in text
    assert 'dtpf_stage_seconds_count{stage="model"} 1.0' in text
    assert 'dtpf_model{name="student",version="v1"} 1.0' in text
    assert "dtpf_ongoing_requests 1.0" in text  # the scrape itself
