"""What benchmarks strike with: a training in a process, Ray nodes, a server, a disk."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from dtpf.core.machine import free_port
from dtpf.core.storage.store import Store
from dtpf.training.config import TrainSpec

ROOT = Path(__file__).resolve().parents[1]
STORAGE_AWAY = 30.0  # seconds

# Runs a spec to its end, alone or on the Ray cluster at an address; says each step.
_PROGRAM = """
import json, sys
import torch
from dtpf.core.errors import UserError
from dtpf.training.config import ScalingConfig, TrainSpec
torch.set_num_threads(1)
spec = TrainSpec.parse(open(sys.argv[1]).read(), sys.argv[1])
say = lambda report: print(f"step {report.step} workers {report.workers}", flush=True)
try:
    if sys.argv[2]:
        import ray
        from dtpf.training.on_ray import train_on_ray
        ray.init(address=sys.argv[2], log_to_driver=False)
        result = train_on_ray(spec, ScalingConfig(**json.loads(sys.argv[3])), say)
    else:
        from dtpf.training.group import current_group
        from dtpf.training.run import run_training
        result = run_training(spec, current_group(), say)
except UserError as error:
    sys.exit(f"error: {error}")
print("losses " + json.dumps([row["loss"] for row in result.losses]), flush=True)
"""


class Unavailable(Exception):
    """A fault that cannot be made on this machine, and why."""


class Struck:
    """One training run, as a process that is started again whenever it has ended."""

    def __init__(
        self,
        folder: Path,
        spec: TrainSpec,
        address: str = "",
        scaling: dict[str, Any] | None = None,
    ) -> None:
        file = folder / f"{spec.root.replace('/', '-')}.json"
        file.write_text(json.dumps(spec.as_dict()))
        self._command = [sys.executable, "-c", _PROGRAM, str(file), address]
        self._command.append(json.dumps(scaling or {}))
        self._process: subprocess.Popen[str] | None = None

    def until(self, step: int) -> int:
        """Return the first step from `step` on that the run reports."""
        return int(self._wait(lambda found: int(found[1]) >= step)[1])

    def until_workers(self, count: int) -> None:
        """Wait for a step that so many workers did."""
        self._wait(lambda found: int(found[2]) == count)

    def kill(self) -> None:
        """SIGKILL the process; the next call of another method starts it again."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._process = None

    def ends_with(self, message: str) -> None:
        """Wait for the end of the process, which must be an error with that message."""
        output, _ = self._running().communicate()
        assert self._running().returncode != 0, output
        assert message in output, output[-2000:]
        self._process = None

    def losses(self) -> list[float]:
        """Return the losses of the run when it is done."""
        output, _ = self._running().communicate()
        lines = [line for line in output.splitlines() if line.startswith("losses ")]
        assert lines, output[-3000:]
        found: list[float] = json.loads(lines[0].removeprefix("losses "))
        return found

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return self._process

    def _wait(self, wanted) -> re.Match[str]:
        process = self._running()
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            found = re.match(r"step (\d+) workers (\d+)", line)
            if found and wanted(found):
                return found
        raise AssertionError(f"the run ended first:\n{''.join(seen)[-3000:]}")


class RayNodes:
    """A Ray cluster of three nodes on this machine: a head without CPUs, and two for work."""

    def __init__(self, cpus: int = 1) -> None:
        self._cpus = cpus
        os.environ.update(
            RAY_AUTH_MODE="disabled",
            RAY_USAGE_STATS_ENABLED="0",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1",  # several nodes need it on any system
        )
        self._random = random.Random(0)

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **_SMALL_STORE},
        )
        self.address = self._cluster.address
        self._nodes: list[Any] = []
        self.add()
        self.add()
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()

    def add(self) -> None:
        """Start a node for work."""
        self._nodes.append(self._cluster.add_node(num_cpus=self._cpus, **_SMALL_STORE))

    def kill_node(self) -> None:
        """SIGKILL the raylet of the newest node; its workers go with it."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def kill_worker(self, name: str = "RayTrainWorker") -> None:
        """SIGKILL one of the processes of that name, whichever."""
        self._random.choice(self._workers(name)).kill()

    def _workers(self, name: str) -> list[psutil.Process]:
        raylets = [node.all_processes["raylet"][0].process.pid for node in self._nodes]
        below = [process for pid in raylets for process in psutil.Process(pid).children(True)]
        return [process for process in below if name in " ".join(process.cmdline())]


_SMALL_STORE = {"object_store_memory": 100 * 2**20}


class S3:
    """A SeaweedFS server of its own; the AWS variables of this process lead to it."""

    def __init__(self, folder: Path) -> None:
        self._script = [sys.executable, str(ROOT / "cluster" / "local_s3.py")]
        self._options = ["--home", str(folder / "s3"), "--port", str(free_port())]

    def __enter__(self) -> Self:
        self.start()
        exports = subprocess.check_output([*self._script, "env", *self._options], text=True)
        words = shlex.split(exports.removeprefix("export "))
        os.environ.update(dict(word.split("=", 1) for word in words))
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server; what it held before is there again."""
        command = [*self._script, "up", *self._options]
        subprocess.run(command, check=True, stdout=sys.stderr)

    def away(self) -> None:
        """End the server, and start it again after a while."""
        self.stop()
        time.sleep(STORAGE_AWAY)
        self.start()

    def stop(self) -> None:
        """End the server."""
        subprocess.run([*self._script, "down", *self._options], check=True, stdout=sys.stderr)


class Disk:
    """A small file system of its own that can be filled up."""

    def __init__(self, folder: Path, megabytes: int = 64) -> None:
        self.place = folder / "disk"
        self.place.mkdir(exist_ok=True)
        self._size = f"size={megabytes}m"

    def __enter__(self) -> Self:
        command = ["mount", "-t", "tmpfs", "-o", self._size, "tmpfs", str(self.place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise Unavailable("there is no mount command here") from None
        if done.returncode != 0:
            raise Unavailable(f"no right to mount a file system: {done.stderr.strip()}")
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def fill(self) -> None:
        """Leave no room."""
        with suppress(OSError), (self.place / "filler").open("wb", buffering=0) as sink:
            while sink.write(bytes(4096)):
                pass

    def free(self) -> None:
        """Give the room back."""
        (self.place / "filler").unlink()


def copied(source: Store, target: Store, prefix: str) -> None:
    """Copy what is below a prefix."""
    for key in source.keys(prefix):
        target.write_bytes(key, source.read_bytes(key))
