"""A Ray cluster on this machine: token authentication on, nothing bound beyond loopback.

    python cluster/local.py up        start it (does nothing if it runs)
    python cluster/local.py submit -- python jobs/pipeline.py ...
    python cluster/local.py status
    python cluster/local.py env       shell exports for `ray job submit` and other clients
    python cluster/local.py down      end what `up` started, by pid

State lies in `.dtpf/cluster/` of the working folder: the token (mode 0600) and `state.json`.
"""

import argparse
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import (
    LOOPBACK,
    RAY,
    ClusterError,
    check_free,
    end,
    launch,
    recall,
    remember,
    write_private,
)

from dtpf.core.machine import free_port, logical_cpus

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(".dtpf/cluster").absolute()
STATE = HOME / "state.json"
TOKEN = HOME / "token"
LOG = HOME / "ray.log"
OBJECT_STORE_BYTES = 400 * 2**20
START_SECONDS = 120.0
# What workers need of this shell; a change of it means a new cluster.
PASSED_ON = ("AWS_", "HF_", "DTPF_")


def up(dashboard_port: int) -> dict[str, Any]:
    """Start the cluster unless it runs already with this shell's storage settings."""
    state = recall(STATE)
    if state and state["environment"] == _environment_digest():
        return state
    if state:
        print("storage settings of this shell have changed: restarting the cluster", flush=True)
        end(STATE)
    check_free(dashboard_port, "--dashboard-port")
    if not TOKEN.exists():
        write_private(TOKEN, secrets.token_hex(32))
    process = _launch(dashboard_port)
    dashboard = f"http://{LOOPBACK}:{dashboard_port}"
    facts = {"dashboard": dashboard, "environment": _environment_digest()}
    state = remember(STATE, process.pid, facts)
    try:
        _wait_until_ready(process, dashboard)
    except ClusterError:
        end(STATE)
        raise
    return state


def submit(entrypoint: Sequence[str]) -> int:
    """Run a job on the cluster, show its output, return its exit code."""
    state = recall(STATE)
    if state is None:
        raise ClusterError("no cluster runs here; start it with: python cluster/local.py up")
    command = [*RAY, "job", "submit", "--address", state["dashboard"], "--", *entrypoint]
    return subprocess.run(command, env=client_environment(), check=False).returncode


def client_environment() -> dict[str, str]:
    """Return this process's environment with what clients of the cluster need."""
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(TOKEN),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _launch(dashboard_port: int) -> subprocess.Popen[bytes]:
    environment = {
        **client_environment(),
        # Makes Ray use 127.0.0.1 as the node's address, so that every port binds to it alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [*RAY, "start", "--head", "--block", *_start_options(dashboard_port)]
    return launch(command, LOG, environment, ROOT)


def _start_options(dashboard_port: int) -> list[str]:
    # Unix sockets lie below this folder, and their paths are short.
    folder = hashlib.sha256(str(HOME).encode()).hexdigest()[:8]
    options = {
        "node-ip-address": LOOPBACK,
        "dashboard-host": LOOPBACK,
        "dashboard-port": dashboard_port,
        "num-cpus": logical_cpus(),
        "object-store-memory": OBJECT_STORE_BYTES,
        "temp-dir": f"{tempfile.gettempdir()}/dtpf-{os.getuid()}-{folder}",
        **{name: free_port() for name in ("port", "ray-client-server-port")},
        **{name: free_port() for name in ("dashboard-agent-listen-port", "metrics-export-port")},
    }
    return [f"--{name}={value}" for name, value in options.items()]


def _wait_until_ready(process: subprocess.Popen[bytes], dashboard: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ClusterError(f"Ray ended while starting; see {LOG}")
        if _answers(dashboard):
            return
        time.sleep(0.5)
    raise ClusterError(f"Ray did not answer within {START_SECONDS:.0f} s; see {LOG}")


def _answers(dashboard: str) -> bool:
    token = TOKEN.read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _environment_digest() -> str:
    relevant = {k: v for k, v in sorted(os.environ.items()) if k.startswith(PASSED_ON)}
    return hashlib.sha256(json.dumps(relevant).encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["up", "submit", "status", "env", "down"])
    parser.add_argument("--dashboard-port", type=int, default=8265)
    parser.add_argument("entrypoint", nargs="*", help="after --, for submit")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.command == "up":
        print(f"dashboard {up(options.dashboard_port)['dashboard']}", flush=True)
    elif options.command == "submit":
        return submit(options.entrypoint)
    elif options.command == "down":
        print("stopped" if end(STATE) else "nothing runs here")
    elif options.command == "env":
        state = recall(STATE)
        print(f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='{TOKEN}'")
        if state:
            print(f"export RAY_API_SERVER_ADDRESS='{state['dashboard']}'")
    else:
        state = recall(STATE)
        print(f"running, dashboard {state['dashboard']}" if state else "not running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
