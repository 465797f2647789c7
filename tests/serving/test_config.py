import pytest

from dtpf.core.errors import UserError
from dtpf.serving.config import ServeConfig


def test_default_stays_on_this_machine_with_bounded_everything():
    config = ServeConfig()
    assert config.host == "127.0.0.1"
    assert config.max_body_bytes == 64 * 2**20
    assert config.request_timeout_s > 0
    assert config.max_queued_requests >= 0


@pytest.mark.parametrize(
    "document",
    [
        {"port": 0},
        {"port": "8000"},
        {"name": "../escape"},
        {"name": ""},
        {"route_prefix": "fuse"},
        {"route_prefix": "/fuse/"},
        {"max_ongoing_requests": 0},
        {"max_queued_requests": -1},
        {"request_timeout_s": 0.0},
        {"threads": 0},
        {"hots": "127.0.0.1"},
    ],
)
def test_refuses_wrong_settings_and_names_the_field(document):
    with pytest.raises(UserError, match=f"serve.yaml: {next(iter(document))}"):
        ServeConfig.parse(document, "serve.yaml")


@pytest.mark.parametrize("prefix", ["/", "/fusion", "/a/b-1"])
def test_takes_route_prefixes(prefix):
    assert ServeConfig(route_prefix=prefix).route_prefix == prefix
