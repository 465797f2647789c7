"""Ports, held by real sockets."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dtpf.core.machine import free_port
from dtpf.doctor.ports import PORTS, check_port, check_ports, is_free, listeners, ray_address

LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def port() -> int:
    return free_port()


@contextmanager
def process_at(port: int, *words: str) -> Iterator[None]:
    """A process that listens, with these words in its command line."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.communicate()


def test_a_free_port_passes(port):
    assert is_free(port)
    assert check_port(port, "endpoint", "serve.port").status == "pass"
    assert ray_address(port) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_of_another_program_is_a_failure_that_names_the_option(port, host):
    with socket.create_server((host, port)):
        found = check_port(port, "endpoint", "serve.port")
        assert check_port(port, "endpoint", "serve.port", stranger="warn").status == "warn"
    assert found.status == "fail"
    assert "serve.port" in found.remedy
    assert ray_address(port) is None


def test_rays_own_port_passes(port):
    with process_at(port, "/x/ray/core/src/ray/raylet/raylet"):
        found = check_port(port, "GCS", "--port")
        assert ray_address(port) == f"127.0.0.1:{port}"
    assert (found.status, found.found) == ("pass", "Ray's own")


def test_a_folder_called_ray_is_not_ray(port):
    with process_at(port, "/srv/ray/server.py"):
        assert check_port(port, "GCS", "--port").status == "fail"


def test_arguments_of_other_programs_are_not_shown(port):
    with process_at(port, "--password=geheim"):
        found = check_port(port, "GCS", "--port")
        (listener,) = listeners(port)
    assert "geheim" not in str(found) + str(listener)


def test_a_port_of_a_process_that_cannot_be_seen_is_warned_of(port, monkeypatch):
    monkeypatch.setattr("dtpf.doctor.ports.listeners", lambda port: [])
    with socket.create_server(("127.0.0.1", port)):
        assert check_port(port, "GCS", "--port").status == "warn"


def test_all_ports_of_ray_are_looked_at():
    assert {6379, 8265, 8000, 52365, 8080, 10001} == set(PORTS)
    assert [item.name for item in check_ports()] == [f"port {port}" for port in PORTS]
