"""`dtpf serve BUNDLE` as a process of its own: it answers, refuses, and ends when told."""

import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from dtpf.core.errors import UserError
from dtpf.core.machine import free_port
from dtpf.serving.config import ServeConfig
from dtpf.serving.local import serve_local
from tests.serving.fakes import infrared_png, visible_png

PROGRAM = """
import sys
from dtpf.serving.config import ServeConfig
from dtpf.serving.local import serve_local
serve_local({"student": "student_tiny"}, ServeConfig.parse(
    {"port": int(sys.argv[1]), "max_body_bytes": 100_000, "body_idle_s": 2.0}, "test"
))
"""


def wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the endpoint did not come up")


def test_process_answers_over_a_real_socket_and_ends_on_sigterm():
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)])
    try:
        wait_for(url, process)
        pair = {"visible": visible_png(), "infrared": infrared_png()}
        answer = httpx.post(f"{url}/fuse", files=pair, timeout=60, trust_env=False)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
        assert "server" not in answer.headers
        assert refused_unsent(port) == b"HTTP/1.1 413"
        assert slow_headers(port) == b"HTTP/1.1 408"
        assert slow_headers(port, first=True) == b"HTTP/1.1 408"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait(30)


def refused_unsent(port: int) -> bytes:
    """Declare a huge body, send none of it, and return the start of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /fuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        return connection.recv(12)


def slow_headers(port: int, first: bool = False) -> bytes:
    """Send headers a few bytes at a time, at first or after a whole request; return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        if not first:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while b"alive" not in connection.recv(4096):
                pass
        for byte in b"GET /healthz HTTP/1.1\r\nHost: local":
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
        return connection.recv(12)


def test_busy_port_is_named_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}"):
            serve_local({"student": "nowhere"}, ServeConfig(port=port))


def test_missing_bundle_is_named(tmp_path):
    with pytest.raises(UserError, match="no bundle there"):
        serve_local({"student": str(tmp_path / "none")}, ServeConfig(port=free_port()))
