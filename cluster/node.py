"""Start Ray on one host of a cluster: same token everywhere, known ports, nothing open by accident.

    python cluster/node.py head --address 10.0.0.1 --token-file /etc/dtpf/token
    python cluster/node.py worker --head 10.0.0.1:6379 --address 10.0.0.2 --token-file ...

It becomes `ray start --block`, for a supervisor that starts it again when it ends
(`cluster/systemd/`). Variables such as AWS_* that jobs need come from its environment.
`cluster/local.py` is for one machine alone.
"""

import argparse
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil
from processes import LOOPBACK, RAY, ClusterError

ROOT = Path(__file__).resolve().parents[1]
# One list for firewalls, network policies and `dtpf doctor`; the README repeats it.
PORTS = {
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "runtime-env-agent-port": 6382,
    "dashboard-agent-listen-port": 52365,
    "metrics-export-port": 8080,
    "min-worker-port": 10010,
    "max-worker-port": 19999,
}
GCS_PORT, DASHBOARD_PORT, CLIENT_PORT = 6379, 8265, 10001
TLS_FILES = {
    "RAY_TLS_SERVER_CERT": "node.crt",
    "RAY_TLS_SERVER_KEY": "node.key",
    "RAY_TLS_CA_CERT": "ca.crt",
}


def command(options: argparse.Namespace) -> list[str]:
    """Return the `ray start` command of this host.

    Raises:
        ClusterError: an address that is not this host's or none, a quota that cannot be read.
    """
    found = {"node-ip-address": _address(options), **PORTS}
    if options.role == "head":
        found |= {
            "port": options.port,
            "dashboard-host": options.dashboard_host,
            "dashboard-port": options.dashboard_port,
            "ray-client-server-port": CLIENT_PORT,
            "autoscaling-config": options.autoscaling_config,
        }
    else:
        found |= {"address": options.head}
    found |= {
        "temp-dir": options.data_dir,
        "object-spilling-directory": options.data_dir and options.data_dir / "spill",
        "object-store-memory": options.object_store_bytes,
        "num-cpus": options.num_cpus,
        "num-gpus": options.num_gpus,
        "resources": _quotas(options.quota),
    }
    switches = ["--head"] * (options.role == "head") + ["--block"] * options.block
    given = [f"--{name}={value}" for name, value in found.items() if value is not None]
    return [*RAY, "start", *switches, *given]


def _quotas(given: Sequence[str]) -> str | None:
    """Return the tenants' shares of this host as custom resources; see dtpf.on_ray.quota."""
    shares = {}
    for text in given:
        name, _, count = text.partition("=")
        if not name or not count.isdecimal():
            raise ClusterError(f"--quota {text}: want TENANT=COUNT, such as lab_a=4")
        shares[name] = int(count)
    return json.dumps(shares) if shares else None


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of Ray on this host: token, encryption, NCCL without NVLink.

    Raises:
        ClusterError: an address that others reach without a token file, or a file of it or of
            the encryption that is missing or that everybody may read.
    """
    found = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ROTATION_MAX_BYTES": str(64 * 2**20),  # of each component; Ray's own is 512 MiB
        # RTX 4090: no peer-to-peer, and drivers that say otherwise have copied wrongly.
        "NCCL_P2P_DISABLE": "1",
        "NCCL_IB_DISABLE": "1",
        **os.environ,
        **_access(options),
        **_encryption(options.tls_dir),
    }
    if options.interface:
        found |= {"NCCL_SOCKET_IFNAME": options.interface, "GLOO_SOCKET_IFNAME": options.interface}
    found.pop("RAY_ADDRESS", None)
    return found


def _access(options: argparse.Namespace) -> dict[str, str]:
    if options.token_file is not None:
        _check_private(options.token_file, "--token-file")
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(options.token_file)}
    address = _address(options)
    if not ipaddress.ip_address(address).is_loopback:
        raise ClusterError(
            f"{address} can be reached by others, who could run any code here: "
            "name the cluster's token with --token-file (make one: openssl rand -hex 32)"
        )
    return {"RAY_AUTH_MODE": "disabled"}


def _encryption(folder: Path | None) -> dict[str, str]:
    """TLS between nodes, each side with a certificate of the cluster's own authority."""
    if folder is None:
        return {}
    for name in TLS_FILES.values():
        if not (folder / name).is_file():
            raise ClusterError(f"--tls-dir {folder}: {name} is missing; see certificates.py")
    _check_private(folder / "node.key", "--tls-dir")
    files = {variable: str(folder / name) for variable, name in TLS_FILES.items()}
    return {"RAY_USE_TLS": "1", **files}


def _check_private(file: Path, option: str) -> None:
    try:
        mode = file.stat().st_mode
        empty = not file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(f"{option} {file}: {error.strerror}") from None
    if empty:
        raise ClusterError(f"{option} {file}: is empty")
    if mode & 0o077:
        raise ClusterError(f"{option} {file}: others may read it; chmod 600 {file}")


def _address(options: argparse.Namespace) -> str:
    """Return this host's address, by default that of `--interface`.

    It must be the host's own: Ray takes any, and then waits for itself for ever.
    """
    cards = {
        card: [entry.address for entry in entries if entry.family == socket.AF_INET]
        for card, entries in psutil.net_if_addrs().items()
    }
    if options.interface and not cards.get(options.interface):
        raise ClusterError(
            f"--interface {options.interface}: this host has no such interface with an address; "
            f"it has {', '.join(card for card, found in sorted(cards.items()) if found)}"
        )
    if options.address is None and not options.interface:
        raise ClusterError("name this host's --address, or the --interface that has it")
    own = sorted(address for found in cards.values() for address in found)
    address = str(options.address or cards[options.interface][0])
    if address not in own:
        raise ClusterError(f"--address {address}: not an address of this host ({', '.join(own)})")
    return address


def parser() -> argparse.ArgumentParser:
    """Return the command line; `ray_up.yaml` and the manifests use it too."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    roles = made.add_subparsers(dest="role", required=True)
    head, worker = roles.add_parser("head"), roles.add_parser("worker")
    for role in (head, worker):
        _add_common(role)
    head.add_argument("--port", type=int, default=GCS_PORT)
    head.add_argument("--dashboard-host", default=LOOPBACK, help="jobs are submitted here")
    head.add_argument("--dashboard-port", type=int, default=DASHBOARD_PORT)
    head.add_argument("--autoscaling-config", help="given by `ray up`")
    worker.add_argument("--head", required=True, metavar="ADDRESS:PORT")
    return made


def _add_common(role: argparse.ArgumentParser) -> None:
    role.add_argument("--address", help="of this host, IPv4; default: that of --interface")
    role.add_argument("--interface", help="network card of NCCL and Gloo, such as eno1")
    role.add_argument("--token-file", type=Path, help="the same on every host, mode 600")
    role.add_argument("--tls-dir", type=Path, help="ca.crt, node.crt, node.key: encrypts gRPC")
    role.add_argument("--data-dir", type=Path, help="logs, sockets, spilled objects; a short path")
    role.add_argument("--object-store-bytes", type=int)
    role.add_argument("--num-cpus", type=int)
    role.add_argument("--num-gpus", type=int)
    role.add_argument(
        "--quota", action="append", default=[], metavar="TENANT=COUNT", help="actors at most"
    )
    role.add_argument("--no-block", dest="block", action="store_false", help="leave at once")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Become `ray start`, or end with exit code 2 and what to mend."""
    options = parser().parse_args(arguments)
    try:
        line, settings = command(options), environment(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    os.chdir(ROOT)  # where the drivers of jobs start
    os.execve(line[0], line, settings)


if __name__ == "__main__":
    main()
