"""Fixtures that several folders share: a real S3 server, a real Ray cluster, real pairs.

Nothing here starts by itself: a test names what it needs.
"""

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtpf.core.machine import free_port

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"
BUCKET = "dtpf"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real image pairs; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real image pairs in {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def s3_environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A SeaweedFS server of its own, and the AWS variables that lead to it."""
    home = tmp_path_factory.mktemp("s3")
    command = [sys.executable, str(ROOT / "cluster" / "local_s3.py")]
    options = ["--home", str(home), "--port", str(free_port())]
    subprocess.run([*command, "up", *options], check=True)
    try:
        exports = subprocess.check_output([*command, "env", *options], text=True)
        words = shlex.split(exports.removeprefix("export "))
        yield dict(word.split("=", 1) for word in words)
    finally:
        subprocess.run([*command, "down", *options], check=True)


@pytest.fixture
def s3_store(s3_environment, monkeypatch) -> str:
    """URI of a fresh prefix in a bucket, with the AWS variables set for this test.

    One bucket for all: each one more takes volumes of its own from a small server.
    """
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory) -> Iterator[None]:
    """One Ray on this machine for the whole session: 8 CPUs and a GPU by name, no dashboard."""
    os.environ.update(
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    import ray

    folder = f"/tmp/dtpf-test-{os.getpid()}"  # sockets below it have short paths
    ray.init(
        num_cpus=8,
        num_gpus=1,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        log_to_driver=False,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
