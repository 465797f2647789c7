"""Which Ray a command joins."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

PROGRAM = """
from dtpf import on_ray
on_ray.connect()
import ray
print(len(ray.nodes()), ray.get_runtime_context().gcs_address)
on_ray.disconnect()
"""


def test_a_cluster_that_somebody_else_started_here_is_left_alone():
    """Without RAY_ADDRESS a job has a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # sockets: short paths
        latest = Path(folder, "ray", "ray_current_cluster")  # as `ray start` leaves it
        latest.parent.mkdir()
        latest.write_text("127.0.0.1:1")
        inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=inherited | {"RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr[-2000:]
        nodes, address = run.stdout.split()
        assert nodes == "1"
        assert address != "127.0.0.1:1"
