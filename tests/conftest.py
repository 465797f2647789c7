"""Fixtures that several folders share: a real S3 server, a real Ray cluster, real pairs.

Nothing here starts by itself: a test names what it needs.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
S3_START_SECONDS = 60
BUCKET = "tests"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real image pairs; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real image pairs in {REAL_DATA}")
    return REAL_DATA


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A SeaweedFS server of its own, and the AWS variables that lead to it."""
    folder = tmp_path_factory.mktemp("weed")
    keys = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex}
    credentials = {
        "accessKey": keys["AWS_ACCESS_KEY_ID"],
        "secretKey": keys["AWS_SECRET_ACCESS_KEY"],
    }
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "tester", "credentials": [credentials], "actions": rights}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    port = free_port()
    environment = {
        **keys,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed", "server"]
    command += [f"-dir={folder}", "-s3", f"-s3.port={port}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]  # fixed ports that two servers would share
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")]
    command += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for_s3(environment, process, folder / "log")
        yield environment
    finally:
        process.kill()  # its data is thrown away; an orderly end takes half a minute
        process.wait()


def s3_client(environment: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=BotoConfig(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )


def _wait_for_s3(environment: dict[str, str], process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + S3_START_SECONDS
    client = s3_client(environment)
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"probe")
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.5)
    pytest.fail(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}")


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
    """One Ray on this machine for the whole session: 8 logical CPUs, no dashboard."""
    os.environ.update(
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    import ray

    folder = f"/tmp/dtpf-test-{os.getpid()}"  # sockets below it have short paths
    ray.init(
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        log_to_driver=False,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
