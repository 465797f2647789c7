"""The job on a real Ray cluster of two nodes with tokens, dashboard and agents."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtpf.core.machine import free_port

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
# Two nodes; variables of NCCL are those of the second alone.
CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
head = {"include_dashboard": True, "dashboard_port": int(sys.argv[1]), "temp_dir": sys.argv[2]}
for attempt in range(3):  # Ray gives a node 30 s to start, which a busy machine may exceed
    os.environ.pop("NCCL_DEBUG", None)
    cluster = Cluster(initialize_head=True, head_node_args=small | head)
    try:
        os.environ["NCCL_DEBUG"] = "INFO"
        cluster.add_node(**small)
        break
    except Exception:
        cluster.shutdown()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def token(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("home") / "token"
    path.write_text("a-token-that-is-in-no-output")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def environment(token) -> Iterator[dict[str, str]]:
    """What a client of the cluster needs."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "NCCL_", "GLOO_"))}
    clean |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # several nodes need it on any system
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory(prefix="doc", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(free_port()), folder],
            env=clean,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            lines = iter(process.stdout.readline, "")
            address = next((line.strip() for line in lines if ":" in line.split()[0]), None)
            assert address, "the cluster did not start"
            yield clean | {"RAY_ADDRESS": address}
        finally:
            process.communicate(timeout=120)


def doctor(environment: dict[str, str], *options: object) -> tuple[int, dict, str]:
    """Exit code, report and all output of the job."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.doctor", "--json", *map(str, options)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout), done.stdout + done.stderr


def test_every_node_and_the_whole_are_looked_at(environment, token, tmp_path):
    code, report, output = doctor(environment, "--store", tmp_path / "store")
    found = {(check["where"], check["name"]): check for check in report["checks"]}
    nodes = sorted({where for where, _ in found} - {"cluster"})
    assert len(nodes) == 2
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    assert {check["name"] for check in failed} <= {"shared memory", "disk.space"}  # of the machine
    assert code == bool(failed)
    for node in nodes:
        assert "refuses" in found[node, "token.agent"]["found"]
        assert found[node, "store.create"]["status"] == "pass"
    agents = {found[node, "token.agent"]["found"] for node in nodes}
    assert len(agents) == 2  # each node's own
    whole = {name: check for (where, name), check in found.items() if where == "cluster"}
    for name in ("same.python", "same.token", "clock.nodes", "token.dashboard", "store.shared"):
        assert whole[name]["status"] == "pass", whole[name]
    assert "ms apart" in whole["clock.nodes"]["found"]
    assert "2 ordered pairs" in whole["copies over all"]["found"]
    assert whole["all-reduce over all"]["status"] == "pass"
    assert whole["same.nccl"]["status"] == "warn"
    assert "NCCL_DEBUG=INFO" in whole["same.nccl"]["found"]
    assert token.read_text() not in output


def test_a_token_that_others_can_read_ends_with_code_1(environment, token):
    token.chmod(0o644)
    try:
        code, report, output = doctor(environment, "--no-exchange", "--env", "NCCL_DEBUG=WARN")
    finally:
        token.chmod(0o600)
    assert code == 1
    assert report["status"] == "fail"
    files = [check for check in report["checks"] if check["name"] == "token.file"]
    assert [check["status"] for check in files] == ["fail", "fail"]
    assert "0644" in files[0]["found"]
    assert "chmod 600" in files[0]["remedy"]
    settings = next(check for check in report["checks"] if check["name"] == "same.nccl")
    assert settings["status"] == "pass"  # given to all nodes alike
    assert not [check for check in report["checks"] if "copies" in check["name"]]
    assert token.read_text() not in output
