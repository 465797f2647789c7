"""Processes that outlive the command that started them: remembered by pid and start time."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 30.0
# The `ray` of this very environment, whatever PATH says.
RAY = (sys.executable, "-m", "ray.scripts.scripts")


class ClusterError(Exception):
    """Something that the user can mend; one line."""


def launch(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output in `log`."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def remember(state_file: Path, pid: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write pid, start time and facts to `state_file`, readable by the owner alone."""
    state = {"pid": pid, "created": psutil.Process(pid).create_time(), **facts}
    write_private(state_file, json.dumps(state, indent=2))
    return state


def recall(state_file: Path) -> dict[str, Any] | None:
    """Return what was remembered if that very process still runs."""
    if not state_file.exists():
        return None
    state: dict[str, Any] = json.loads(state_file.read_text(encoding="utf-8"))
    try:
        process = psutil.Process(state["pid"])
        alive = (
            process.create_time() == state["created"] and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        alive = False
    return state if alive else None


def end(state_file: Path, stop_seconds: float = STOP_SECONDS) -> bool:
    """End the remembered process and all below it; False if it does not run."""
    state = recall(state_file)
    state_file.unlink(missing_ok=True)
    if state is None:
        return False
    head = psutil.Process(state["pid"])
    family = [head, *head.children(recursive=True)]
    with suppress(psutil.NoSuchProcess):  # any of them may end by itself meanwhile
        head.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=stop_seconds)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil checks that the pid is still the same process
    psutil.wait_procs(left, timeout=STOP_SECONDS)
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def check_free(port: int, option: str, address: str = LOOPBACK) -> None:
    """Refuse a busy port; the message names the option that chooses another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            raise ClusterError(f"port {port} is busy; name another one with {option}") from None
