import socket

import pytest

from dtpf.core.errors import UserError
from dtpf.serving.address import check_free, endpoint_url, is_loopback
from dtpf.serving.config import ServeConfig


def test_busy_port_is_named_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}.*choose another port"):
            check_free("127.0.0.1", port)
    check_free("127.0.0.1", port)


def test_foreign_address_is_refused():
    with pytest.raises(UserError, match=r"192\.0\.2\.1:8000"):
        check_free("192.0.2.1", 8000)


@pytest.mark.parametrize(
    ("host", "prefix", "url"),
    [
        ("127.0.0.1", "/", "http://127.0.0.1:8000"),
        ("0.0.0.0", "/a", "http://127.0.0.1:8000/a"),
        ("::1", "/", "http://[::1]:8000"),
    ],
)
def test_url_is_one_that_a_client_here_can_use(host, prefix, url):
    assert endpoint_url(ServeConfig(host=host, route_prefix=prefix)) == url


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_loopback(host, answer):
    assert is_loopback(host) is answer
