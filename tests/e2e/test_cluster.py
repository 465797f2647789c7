"""The real thing: a cluster started as users start it, jobs submitted, processes killed.

One cluster with token authentication serves all tests of this module, in order: each goes on
from what the one before left, as a user's day does.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from dtpf.core.machine import free_port
from dtpf.core.storage.store import Store
from dtpf.data.images import decode_visible
from tests.small import as_options

pytestmark = [pytest.mark.ray, pytest.mark.kill, pytest.mark.s3, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
LOCAL = [sys.executable, str(ROOT / "cluster" / "local.py")]
DRIVER = "jobs/pipeline.py"
# Long enough that a process can be struck in the middle of a training.
LONGER = (
    "teacher.train.steps=20",
    "teacher.train.validate_every=20",
    "student.train.steps=12",
    "student.train.validate_every=12",
    "scaling.workers=2",
)
TRAINING, DISTILLING = r"/20 .*loss ", r"/12 .*loss "


class Cluster:
    """`cluster/local.py` in a folder of its own, with jobs over one S3 store."""

    def __init__(self, home: Path, store: str, environment: dict[str, str]) -> None:
        self.home, self.store = home, store
        self.environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            self.environment.pop(name, None)
        self.port = free_port()

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LOCAL, *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def job(self, *more: str) -> list[str]:
        command = ["submit", "--", "python", DRIVER, "--store", self.store]
        return [*command, *as_options(*LONGER, f"serve.port={self.port}"), *more]

    def run(self, *more: str) -> str:
        done = self.call(*self.job(*more))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LOCAL, *self.job(*more)],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def interrupt(self, mark: str, strike: Callable[[], None], *more: str) -> subprocess.Popen[str]:
        """Start the job; when a line of its output matches `mark`, strike."""
        process = self.start(*more)
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if re.search(mark, line):
                strike()
                break
        else:
            pytest.fail(f"no line matched {mark}:\n{''.join(seen)[-3000:]}")
        return process

    @property
    def state(self) -> dict:
        return json.loads((self.home / ".dtpf/cluster/state.json").read_text())

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.state["pid"]).children(recursive=True)

    def kill(self, *words: str) -> None:
        """SIGKILL the processes of this cluster whose command line holds all the words."""
        for process in self.processes():
            try:
                line = " ".join(process.cmdline())
                if all(word in line for word in words):
                    process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3_environment) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(home, f"s3://dtpf/e2e-{os.getpid()}", s3_environment)
    started = cluster.call("up", "--dashboard-port", str(free_port()))
    assert started.returncode == 0, started.stderr
    try:
        yield cluster
    finally:
        cluster.call("down")


def store_of(cluster: Cluster, monkeypatch, s3_environment) -> Store:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return Store(cluster.store)


def test_a_driver_killed_in_training_goes_on(cluster):
    broken = cluster.interrupt(TRAINING, lambda: cluster.kill(DRIVER))
    broken.communicate(timeout=120)
    assert broken.returncode != 0


def test_a_killed_worker_does_not_stop_the_job(cluster):
    """The teacher's worker dies; the job goes on by itself, and what was done is not repeated."""
    process = cluster.interrupt(TRAINING, lambda: cluster.kill("RayTrainWorker"))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[:6000]
    assert "endpoint" in output


def test_the_printed_curl_line_returns_a_fused_png(cluster, tmp_path):
    output = cluster.run()
    assert output.count("skipped") == 6
    line = next(line for line in output.splitlines() if line.startswith("try it"))
    command = line.removeprefix("try it").strip()
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, timeout=120)
    fused = decode_visible((tmp_path / "fused.png").read_bytes(), "fused.png")
    assert fused.shape == (64, 64, 3)
    assert fused.std() > 0.01


def test_the_result_is_that_of_an_unbroken_run(cluster, tmp_path, monkeypatch, s3_environment):
    """The same settings in one process, unbroken; two workers differ by rounding alone."""
    whole = tmp_path / "whole"
    options = as_options(*LONGER[:2])
    program = [sys.executable, str(ROOT / DRIVER), "--local", "--store", str(whole), *options]
    subprocess.run(program, check=True, capture_output=True, env=cluster.environment)
    expected = _teacher_losses(Store(whole))
    broken = _teacher_losses(store_of(cluster, monkeypatch, s3_environment))
    assert len(broken) == len(expected) == 20
    for ours, theirs in zip(broken, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


@pytest.mark.long
def test_a_driver_killed_in_every_stage_repeats_no_finished_one(cluster):
    """Struck in one stage after the other, the same command goes on each time where it was."""
    marks = {2: r"^\[2/7\]", 4: DISTILLING, 5: r"^\[5/7\]", 6: r"^\[6/7\]", 7: r"^\[7/7\]"}
    force = ["--force", "caption"]
    for number, mark in marks.items():
        broken = cluster.interrupt(mark, lambda: cluster.kill(DRIVER), *force)
        broken.communicate(timeout=120)
        assert broken.returncode != 0, f"stage {number}"
        force = []
    output = cluster.run()
    assert output.count("skipped") == 6
    assert "endpoint" in output


def _teacher_losses(store: Store) -> list[dict[str, float]]:
    key = next(k for k in store.keys("runs/tiny") if "/teacher-" in k and k.endswith("losses.json"))
    return store.read_json(key)


def test_nobody_without_the_token_is_heard(cluster):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{cluster.state['dashboard']}/api/jobs/", timeout=10)
    agents = {
        connection.laddr.port
        for process in cluster.processes()
        for connection in _connections(process)
        if "dashboard" in " ".join(process.cmdline()).lower()
    }
    answers = {port: _submit_without_token(port) for port in agents}
    assert 401 in answers.values()
    assert not set(answers.values()) & {200, 201}
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address"]
    refused = subprocess.run(
        [*submit, cluster.state["dashboard"], "--", "true"],
        env={**cluster.environment, "HOME": str(cluster.home)},
        capture_output=True,
        check=False,
    )
    assert refused.returncode != 0


def _submit_without_token(port: int) -> int | None:
    try:
        url = f"http://127.0.0.1:{port}/api/job_agent/jobs/"
        return httpx.post(url, json={"entrypoint": "true"}, timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        return None


def _connections(process: psutil.Process) -> list:
    try:
        found = process.net_connections(kind="tcp")
    except psutil.Error:
        return []
    return [connection for connection in found if connection.status == psutil.CONN_LISTEN]


def test_nothing_listens_beyond_loopback(cluster):
    sockets = [_connections(process) for process in cluster.processes()]
    listening = {connection.laddr.ip for found in sockets for connection in found}
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_the_token_is_private(cluster):
    token = cluster.home / ".dtpf/cluster/token"
    assert token.stat().st_mode & 0o077 == 0


def test_a_busy_endpoint_port_is_named_before_the_work(cluster):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cluster.call(*cluster.job("--set", f"serve.port={port}"))
    assert done.returncode != 0
    assert str(port) in done.stdout
    assert "[1/7]" not in done.stdout


def test_down_ends_all_that_up_started(cluster):
    family = cluster.processes()
    assert cluster.call("down").stdout.strip() == "stopped"
    assert not [process for process in family if process.is_running()]
    assert cluster.call("down").stdout.strip() == "nothing runs here"
