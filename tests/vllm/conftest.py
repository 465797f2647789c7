"""A Ray cluster beside an S3 server, and a tiny model in that server's store."""

import importlib.util
import os

import pytest

# Elsewhere there is nothing to collect; `make test-vllm` fails where it collects nothing.
collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(s3_environment):
    """Ray whose workers find the S3 server; yields the variables that lead to it."""
    os.environ.update(s3_environment)
    os.environ.update(
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        VLLM_CPU_KVCACHE_SPACE="1",
    )
    import ray

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield s3_environment
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of the tiny model."""
    from tests.vllm.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("model"))
