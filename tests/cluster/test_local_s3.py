"""The local S3 server's refusals; that it serves is seen by every test of storage."""

import subprocess
import sys
from pathlib import Path

CLUSTER = Path(__file__).parents[2] / "cluster"
FULL = "import sys, local_s3; local_s3.LEAST_FREE = 1.0; sys.exit(local_s3.main())"


def test_a_full_disk_is_named_before_anything_starts(tmp_path):
    home = tmp_path / "s3"
    command = [sys.executable, "-c", FULL, "up", "--home", str(home)]
    found = subprocess.run(command, cwd=CLUSTER, capture_output=True, text=True)
    assert found.returncode == 2
    assert str(home) in found.stderr
    assert "GiB free" in found.stderr
    assert "make room" in found.stderr
    assert list(home.iterdir()) == []
