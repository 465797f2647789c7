"""Trainings struck in the middle; `benchmarks/training_faults.py` strikes five times as often."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.kill, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "fault",
    [
        "process",
        pytest.param("disk", marks=pytest.mark.long),
        pytest.param("storage", marks=[pytest.mark.s3, pytest.mark.long]),
        *(
            pytest.param(fault, marks=[pytest.mark.ray, pytest.mark.long])
            for fault in ("worker", "raylet", "driver")
        ),
    ],
)
def test_a_struck_training_ends_like_an_unbroken_one(fault):
    command = [sys.executable, "benchmarks/training_faults.py", "--json"]
    command += ["--faults", fault, "--strikes", "1", "--steps", "16"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    row = json.loads(done.stdout)[fault]
    if "skipped" in row:
        pytest.skip(row["skipped"])
    assert row["struck_at"]
