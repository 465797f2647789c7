"""Several hosts on one machine: each has a network card, an address and processes of its own.

A host is a process that holds Linux namespaces (network, processes, mounts, name); what runs on it
enters them. Ray's folder and shared memory are its own, other files are the machine's: the same
checkout everywhere, as from one image. All are plugged into one bridge, which lies in a namespace
too, so nothing of it can be seen or reached from the machine itself. Ending the first process ends
the host.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.cluster.wire import Wire

NETWORK = "10.77.0"
_TOOLS = ("ip", "unshare", "nsenter", "setpriv")
# A first process that takes in orphans; without that, ended processes stay as zombies.
_INIT = """
mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs -o size=1g tmpfs /dev/shm && hostname "$0" || exit 1
ip link set lo up
touch /tmp/ray/ready
while true; do sleep 3600 & wait $!; done
"""
# What systemd does with `Restart=always`.
_SUPERVISOR = 'while true; do "$@"; sleep 2; done'


def need_namespaces() -> None:
    """Skip where hosts cannot be made."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"hosts in namespaces need {', '.join(missing)} (iproute2, util-linux)")
    if os.geteuid() != 0:
        pytest.skip("hosts in namespaces need root")
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount", "true"], check=False)
    if tried.returncode != 0:
        pytest.skip("this machine allows no network namespaces")


class Host:
    """One host; commands run in its namespaces, from the folder that the caller is in."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        Path("/tmp/ray").mkdir(exist_ok=True)  # where the host's own is mounted
        isolate = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *isolate, "--mount-proc", "bash", "-c", _INIT, name],
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._first_process()

    def _first_process(self) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for child in psutil.Process(self._holder.pid).children():
                if Path(f"/proc/{child.pid}/root/tmp/ray/ready").exists():
                    return child.pid
            time.sleep(0.05)
        raise RuntimeError(f"host {self.name} did not start")

    def enter(self, *command: str) -> list[str]:
        """Return the command as run on this host."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", *command]

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.enter(*command),
            env=dict(environment) if environment is not None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def start(
        self, *command: str, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to `log`."""
        with log.open("ab") as sink:
            return subprocess.Popen(
                self.enter(*command), env=dict(environment), stdout=sink, stderr=subprocess.STDOUT
            )

    def supervise(self, *command: str, environment: Mapping[str, str], log: Path) -> None:
        """Keep a process running as a service manager does: it is started again when it ends."""
        self.start(
            "bash", "-c", _SUPERVISOR, "supervisor", *command, environment=environment, log=log
        )

    def processes(self) -> list[psutil.Process]:
        """All that runs here but the first process; what entered the host is nobody's child."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                here = os.readlink(f"/proc/{process.pid}/ns/pid") == own
                if here and process.pid != self.pid:
                    found.append(process)
        return found

    def end(self) -> None:
        """Switch the host off: all its processes, its card, its Ray folder."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._holder.wait(timeout=30)

    def end_processes(self) -> None:
        """SIGKILL everything that runs on the host, its supervisor too; the host stays."""
        found = self.processes()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=30)


class Lab:
    """Hosts on one bridge, by name; `slow` ones behind a wire that loses and delays packets."""

    def __init__(self, names: Sequence[str], slow: Mapping[str, Wire] | None = None) -> None:
        self.hosts: dict[str, Host] = {}
        self._switch = Host("switch", "")
        self._slow = dict(slow or {})
        try:
            self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
            self._on_switch("ip", "link", "set", "bridge", "up")
            for name in names:
                self.add(name)
        except BaseException:
            self.end()
            raise

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add(self, name: str) -> Host:
        """Plug a new host in."""
        host = Host(name, f"{NETWORK}.{len(self.hosts) + 1}")
        self.hosts[name] = host
        if name in self._slow:
            self._slow[name].connect(host.pid, self._switch.pid, f"port-{name}")
        else:
            self._plug(host)
        for command in (
            ["addr", "add", f"{host.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            done = host.run("ip", *command)
            assert done.returncode == 0, done.stderr
        self._on_switch("ip", "link", "set", f"port-{name}", "master", "bridge", "up")
        return host

    def _plug(self, host: Host) -> None:
        ends = ["eth0", "netns", str(host.pid), "type", "veth", "peer", "name", f"port-{host.name}"]
        self._on_switch("ip", "link", "add", *ends)

    def cut_off(self, name: str) -> None:
        """Pull the host's plug; everything on it goes on running."""
        self._on_switch("ip", "link", "set", f"port-{name}", "down")

    def reconnect(self, name: str) -> None:
        self._on_switch("ip", "link", "set", f"port-{name}", "up")

    def _on_switch(self, *command: str) -> None:
        """Run in the switch's network alone: the hosts' process numbers are this machine's."""
        enter = ["nsenter", "-t", str(self._switch.pid), "-n"]
        subprocess.run([*enter, *command], check=True, timeout=30)

    def end(self) -> None:
        for wire in self._slow.values():
            wire.end()
        for host in [*self.hosts.values(), self._switch]:
            host.end()
