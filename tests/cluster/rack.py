"""A Ray cluster over several hosts, as `cluster/README.md` brings it up; jobs from outside."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import certificates
import psutil
from node import TLS_FILES
from processes import RAY

from tests.cluster.hosts import Host, Lab
from tests.cluster.wire import Wire

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
HEAD, STORE, DESK = "head", "store", "desk"
WORKERS = ("worker1", "worker2", "worker3")
TENANTS = ("lab_a", "lab_b")
QUOTAS = [word for tenant in TENANTS for word in ("--quota", f"{tenant}=1")]
OBJECT_STORE_BYTES = 150 * 2**20

_COUNT = """
import ray
ray.init(address="auto", logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""


class Job:
    """`ray job submit` on the desk, outside the cluster; its output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, list[str]()

    def until(self, mark: str) -> None:
        """Read on until a line matches; fails if none does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if re.search(mark, line):
                return
        raise AssertionError(f"no line matched {mark}:\n{self.text[-4000:]}")

    def end(self, timeout: float = 900) -> str:
        """Wait for the end and return all output."""
        rest, _ = self.process.communicate(timeout=timeout)
        self.lines.append(rest)
        return self.text

    @property
    def text(self) -> str:
        return "".join(self.lines)


class Rack:
    """Head, workers, a store on a host of its own, and a desk from which jobs are submitted."""

    def __init__(
        self, home: Path, slow: dict[str, Wire] | None = None, encrypted: bool = False
    ) -> None:
        self.home, self.encrypted = home, encrypted
        self.lab = Lab([HEAD, *WORKERS, STORE, DESK], slow)
        self.workers = list(WORKERS)
        self.token = home / "token"
        self.token.touch(0o600)
        self.token.write_text(os.urandom(16).hex())
        try:
            if encrypted:
                certificates.issue(home / "tls", [host.address for host in self.lab.hosts.values()])
            self.storage = self._start_store()
            self.start_head()
            for name in WORKERS:
                self.start_worker(name)
            self.wait_for(len(self.nodes))
        except BaseException:
            self.end()
            raise

    def __getitem__(self, name: str) -> Host:
        return self.lab[name]

    def end(self) -> None:
        self.lab.end()

    def start_head(self) -> None:
        self._start_node(self[HEAD], "head", "--dashboard-host", self[HEAD].address)

    def start_worker(self, name: str) -> None:
        self._start_node(self[name], "worker", "--head", f"{self[HEAD].address}:6379", *QUOTAS)

    def lose(self, name: str) -> None:
        """Switch a worker's host off for good."""
        self.workers.remove(name)
        self[name].end()

    def worker_with(self, words: str) -> str:
        """The worker host on which a process runs, or soon will, whose name holds `words`."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for name in self.workers:
                for process in self[name].processes():
                    with suppress(psutil.Error):
                        if words in " ".join(process.cmdline()):
                            return name
            time.sleep(0.2)
        raise AssertionError(f"{words} runs on no worker host")

    def _start_node(self, host: Host, role: str, *more: str) -> None:
        common = ["--address", host.address, "--token-file", str(self.token), "--interface", "eth0"]
        sizes = ["--num-cpus", "2", "--object-store-bytes", str(OBJECT_STORE_BYTES)]
        secure = ["--tls-dir", str(self._certificates(host))] if self.encrypted else []
        command = [PYTHON, str(ROOT / "cluster/node.py"), role, *common, *sizes, *secure, *more]
        environment = {**self._environment(host), **self.storage}
        host.supervise(*command, environment=environment, log=self.log(host.name))

    def _certificates(self, host: Host) -> Path:
        return self.home / "tls" / host.address

    def ray_environment(self, host: Host) -> dict[str, str]:
        """What a Ray client on a host of the cluster needs."""
        files = {name: str(self._certificates(host) / file) for name, file in TLS_FILES.items()}
        secure = {"RAY_USE_TLS": "1", **files} if self.encrypted else {}
        address = {"RAY_ADDRESS": f"{self[HEAD].address}:6379"}
        return {**self.client_environment(), **address, **secure}

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _environment(self, host: Host) -> dict[str, str]:
        """A clean one: nothing of the shell that runs the tests."""
        home = self.home / f"home-{host.name}"
        home.mkdir(exist_ok=True)
        path = f"{Path(PYTHON).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        settings = {"HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}
        return {**settings, "PYTHONPATH": str(ROOT)}  # this checkout, whichever is installed

    def client_environment(self) -> dict[str, str]:
        """What README tells a person at the desk to export."""
        return {
            **self._environment(self[DESK]),
            **self.storage,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def nodes(self) -> list[str]:
        """Hosts that are nodes of the cluster; those that are lost are not."""
        return [HEAD, *self.workers]

    @property
    def dashboard(self) -> str:
        return f"http://{self[HEAD].address}:8265"

    def _start_store(self) -> dict[str, str]:
        host = self[STORE]
        command = [PYTHON, str(ROOT / "cluster/local_s3.py")]
        options = ["--home", str(self.home / "s3"), "--address", host.address]
        environment = self._environment(host)
        up = host.run(*command, "up", *options, environment=environment)
        assert up.returncode == 0, up.stderr
        exports = host.run(*command, "env", *options, environment=environment).stdout
        return dict(word.split("=", 1) for word in shlex.split(exports.removeprefix("export ")))

    def alive(self) -> int:
        """How many nodes the head counts as alive; -1 if it does not answer."""
        head = self[HEAD]
        done = head.run(PYTHON, "-c", _COUNT, environment=self.ray_environment(head))
        return int(done.stdout.split()[-1]) if done.returncode == 0 else -1

    def wait_for(self, nodes: int, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.alive()) != nodes:
            assert time.monotonic() < deadline, f"{found} nodes alive, not {nodes}"
            time.sleep(1)

    def submit(self, store: str, *more: str, tenant: str | None = None) -> Job:
        """Start the main job from the desk, with the README's command."""
        return self._start([*RAY, "job", "submit"], store, more, tenant)

    def submit_watched(self, store: str, *more: str) -> Job:
        """The same with `cluster/submit.py`, which says so when the head is lost."""
        return self._start([PYTHON, str(ROOT / "cluster/submit.py")], store, more)

    def _start(
        self, program: list[str], store: str, more: Sequence[str], tenant: str | None = None
    ) -> Job:
        if tenant is not None:
            program += ["--runtime-env-json", json.dumps({"env_vars": {"DTPF_QUOTA": tenant}})]
        command = [*program, "--", "python", "jobs/pipeline.py", "--store", store, *more]
        process = subprocess.Popen(
            self[DESK].enter(*command),
            env=self.client_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Job(process)
