"""One loop, three ways to start it: the same losses step by step, and those of the past.

Workers add gradients in another order than one process, so curves agree to a relative 1e-3 (they
differ by 1e-6 to 1e-4 here); `golden_curve.json` holds the curve of a plain process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtpf.core.storage.store import Store
from dtpf.pipeline.plan import Plan
from dtpf.training.config import ScalingConfig, TrainSpec
from dtpf.training.run import run_training
from tests.small import as_options, small_config
from tests.training.test_run import ALONE, changed

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden_curve.json")
TOLERANCE = 1e-3
STEPS = "teacher.train.steps=8"


def curve(rows) -> list[float]:
    return [row["loss"] for row in rows]


@pytest.fixture
def longer(spec) -> TrainSpec:
    return changed(spec, steps=8, validate_every=8, checkpoint_every=8)


def test_a_plain_process_repeats_the_golden_curve(longer):
    """A change of the method shows here: after a wanted one, write the new curve down."""
    found = curve(run_training(longer, ALONE).losses)
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=TOLERANCE)


def torchrun(job: str, store: Store, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(ROOT / "jobs" / f"{job}.py"), "--store", store.uri]
    return subprocess.run(
        [*command, *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_torchrun_with_two_processes_repeats_it(captioned):
    options = as_options(STEPS, "teacher.train.accumulate=2")
    done = torchrun("train_teacher", captioned.store, *options)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("[3/7] teacher") == 1  # one process speaks
    plan = Plan(small_config(STEPS, "teacher.train.accumulate=2"), captioned.store)
    run = plan.need("teacher").outputs["run"]
    found = curve(captioned.store.read_json(f"{run}/losses.json"))
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=TOLERANCE)
    assert captioned.store.read_json(f"{run}/run.json")["hardware"]["workers"] == 2


def test_torchrun_refuses_jobs_that_are_no_training(captioned):
    done = torchrun("pipeline", captioned.store, *as_options())
    assert done.returncode != 0
    assert "torchrun runs jobs/train_teacher.py" in done.stderr


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_with_two_workers_repeats_it(ray_cluster, longer):
    from dtpf.training.on_ray import train_on_ray

    scaling = ScalingConfig(workers=2, environment={"DTPF_TEST": "1"})
    found = curve(train_on_ray(longer, scaling).losses)
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=TOLERANCE)


def test_gradients_in_bfloat16_stay_close(captioned):
    """The curve of two workers that exchange rounded gradients: within one percent."""
    options = as_options(STEPS, "scaling.gradients=bfloat16")
    done = torchrun("train_teacher", captioned.store, *options)
    assert done.returncode == 0, done.stderr[:3000]
    plan = Plan(small_config(STEPS), captioned.store)
    run = plan.need("teacher").outputs["run"]
    found = curve(captioned.store.read_json(f"{run}/losses.json"))
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=0.01)
    assert captioned.store.read_json(f"{run}/run.json")["hardware"]["gradients"] == "bfloat16"
