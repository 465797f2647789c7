"""A search as users run it: a job on a local cluster, its processes killed, its winner served."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from dtpf.core.bundle import save_bundle
from dtpf.core.machine import free_port
from dtpf.core.models import build
from dtpf.core.storage.store import Store
from dtpf.pipeline import registry
from dtpf.tuning.ledger import read_trials
from tests.e2e.test_cluster import Cluster
from tests.small import SETTINGS

pytestmark = [pytest.mark.ray, pytest.mark.kill, pytest.mark.long, pytest.mark.timeout(900)]

JOB = "jobs/tune_student.py"
TRIAL, WORKER = "ray::ImplicitFunc", "RayTrainWorker"
# The second setting cannot be trained; the others are long enough to be struck in the middle.
SPACE = """
tune: {stopping: none, trials: 3, steps: 24, rounds: 12, max_parameter_share: 1.0}
points:
  - {model.width: 4, train.learning_rate: 0.001}
  - {model.width: 4, train.learning_rate: 1.0e+30}
  - {model.width: 6, train.learning_rate: 0.001}
"""


class Tuning(Cluster):
    """A cluster whose job is a search, one trial after the other."""

    def job(self, *more: str) -> list[str]:
        command = ["submit", "--", "python", JOB, "--store", self.store]
        small = [setting for setting in SETTINGS if not setting.startswith("tune.")]
        small += [f"serve.port={self.port}", "tune_resources.concurrent=1"]
        options = [part for setting in small for part in ("--set", setting)]
        return [*command, *options, "--space", str(self.home / "space.yaml"), *more]

    def strike(self, marks: Sequence[tuple[str, Callable[[], None]]], *more: str) -> list[str]:
        """Run the job; strike once at the first line with each mark, in turn; return all lines."""
        process = self.start(*more)
        assert process.stdout is not None
        pending, lines = list(marks), []
        for line in process.stdout:
            lines.append(line)
            if pending and pending[0][0] in line:
                pending.pop(0)[1]()
        process.wait(timeout=120)
        assert not pending, "".join(lines)[-4000:]
        return lines


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Tuning]:
    home = tmp_path_factory.mktemp("tuning")
    (home / "space.yaml").write_text(SPACE)
    cluster = Tuning(home, str(home / "store"), {})
    started = cluster.call("up", "--dashboard-port", str(free_port()))
    assert started.returncode == 0, started.stderr
    try:
        yield cluster
    finally:
        cluster.call("down")


def search_of(cluster: Tuning) -> list:
    store = Store(cluster.store)
    key = next(key for key in store.keys("runs/tiny") if key.endswith("search.json"))
    return read_trials(store, key.rpartition("/")[0])


def test_killed_trials_go_on_and_a_killed_driver_is_taken_up(cluster):
    """A trial's worker dies, then the trial itself, then the driver of the whole search."""
    first = cluster.strike(
        [
            ("trial 1/3 running, step 4", lambda: cluster.kill(WORKER)),
            ("trial 1/3 running, step 10", lambda: cluster.kill(TRIAL)),
            ("trial 3/3 running, step 4", lambda: cluster.kill(JOB)),
        ],
        "--set",
        "tune_resources.workers=1",
    )
    text = "".join(first)
    assert "trial 1/3 finished, step 24" in text
    assert "trial 2/3 failed" in text
    assert "loss is" in text
    assert text.count("trial 1/3 running, step 2,") == 1
    broken = search_of(cluster)
    assert [trial.status for trial in broken] == ["finished", "failed", "running"]


def test_the_same_command_goes_on_and_its_winner_is_served(cluster):
    before = search_of(cluster)
    output = cluster.run("--set", "tune_resources.workers=0")
    assert "trial 1/3 running" not in output
    assert "trial 3/3 running, step 2," not in output
    after = search_of(cluster)
    assert after[0] == before[0]
    assert [trial.status for trial in after] == ["finished", "failed", "finished"]
    rounds = [number for number, _ in after[2].history]
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == 12
    # The driver takes reports twice a second: those since it last did are lost with it, in one gap.
    lost = sorted(set(range(1, 13)) - set(rounds))
    assert lost == list(range(lost[0], lost[0] + len(lost))) if lost else True
    assert len(lost) <= 3
    current = json.loads((Path(cluster.store) / "models/student/current.json").read_text())
    url = f"http://127.0.0.1:{cluster.port}/v1/model"
    served = httpx.get(url, timeout=30, trust_env=False).json()
    assert served["version"] == current["version"]
    assert "endpoint" in output


def test_the_terminal_shows_the_search(cluster):
    shown = dtpf("tune", "show", "tiny", "--store", cluster.store)
    assert "3 of 3 trials" in shown
    assert "train.learning_rate" in shown


def test_one_command_leads_back_and_the_endpoint_takes_it_up(cluster):
    """Another model is made current by hand; the way back is `dtpf models rollback`."""
    store = Store(cluster.store)
    first = registry.current(store, "student")
    digest = save_bundle(store, "models/student/other", build("student_tiny"), provenance={})
    uri = store.uri_of("models/student/other")
    registry.make_current(
        store, "student", registry.Version(version="other", uri=uri, sha256=digest)
    )
    dtpf("models", "rollback", "student", "--store", cluster.store)
    assert registry.current(store, "student").uri == first.uri
    cluster.run("--set", "tune_resources.workers=0")
    served = httpx.get(f"http://127.0.0.1:{cluster.port}/v1/model", timeout=30, trust_env=False)
    assert served.json()["version"] == first.version
    listed = dtpf("models", "list", "student", "--store", cluster.store)
    assert f"-> {first.version}" in listed
    assert "taken back" in listed


def dtpf(*arguments: str) -> str:
    command = [sys.executable, "-c", "from dtpf.cli import main; main()", *arguments]
    wide = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=wide).stdout
