"""Tokens and doors: files with their modes, and servers that answer with or without asking."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dtpf.core.machine import free_port
from dtpf.doctor.access import (
    check_agent,
    check_dashboard,
    check_mode,
    check_token,
    keyed_digest,
    token_of,
)

SECRET = "0123456789abcdef"


@contextmanager
def server(status: int, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list]]:
    """A server that answers everything alike; its address, and what it was asked."""
    asked: list = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append((self.command, self.path, dict(self.headers)))
            self.send_response_only(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_HEAD = answer

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{httpd.server_port}", asked
        finally:
            httpd.shutdown()


@pytest.fixture
def token(tmp_path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def named(path: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


@pytest.mark.parametrize(
    ("mode", "status"), [("token", "pass"), ("disabled", "fail"), (None, "warn"), ("", "warn")]
)
def test_the_mode(mode, status):
    environment = {} if mode is None else {"RAY_AUTH_MODE": mode}
    assert check_mode(environment, unset="warn").status == status
    assert check_mode({}).status == "fail"


def test_a_private_token_passes_and_is_not_shown(token):
    found = check_token(named(token))
    assert found.status == "pass"
    assert SECRET not in str(found)


def test_a_token_that_others_can_read_is_a_failure(token):
    token.chmod(0o640)
    found = check_token(named(token))
    assert found.status == "fail"
    assert "0640" in found.found
    assert "chmod 600" in found.remedy


def test_a_missing_or_empty_token_is_a_failure(token, tmp_path):
    assert check_token(named(tmp_path / "none")).status == "fail"
    token.write_text("\n")
    assert check_token(named(token)).status == "fail"


def test_a_token_in_the_environment_is_warned_of_and_not_shown():
    found = check_token({"RAY_AUTH_TOKEN": SECRET})
    assert found.status == "warn"
    assert SECRET not in str(found)


def test_the_token_is_found_as_ray_finds_it(token, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_of({}) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("home\n")
    assert token_of({}) == "home"
    assert token_of(named(token)) == SECRET
    assert token_of(named(token) | {"RAY_AUTH_TOKEN": "first"}) == "first"


def test_digests_compare_tokens_and_say_nothing_without_the_key(token, tmp_path):
    other = tmp_path / "other"
    other.write_text("another")
    digest = keyed_digest(named(token), b"key")
    assert digest == keyed_digest({"RAY_AUTH_TOKEN": SECRET}, b"key")
    assert digest != keyed_digest(named(other), b"key")
    assert digest != keyed_digest(named(token), b"other key")
    assert keyed_digest(named(tmp_path / "none"), b"key") == "none"


@pytest.mark.parametrize(("status", "expected"), [(401, "pass"), (403, "pass"), (200, "fail")])
def test_the_dashboard_must_refuse(status, expected, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    with server(status) as (address, asked):
        found = check_dashboard(address)
    assert found.status == expected
    ((method, path, headers),) = asked
    assert (method, path) == ("GET", "/api/jobs/")
    assert "Authorization" not in headers


@pytest.mark.parametrize(("status", "expected"), [(401, "pass"), (400, "fail"), (500, "fail")])
def test_an_agent_that_reads_a_request_at_all_is_open(status, expected):
    with server(status) as (address, asked):
        found = check_agent(address)
    assert found.status == expected
    assert asked[0][:2] == ("POST", "/api/job_agent/jobs/")


def test_what_does_not_answer_is_warned_of():
    assert check_agent(f"127.0.0.1:{free_port()}").status == "warn"
