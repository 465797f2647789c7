"""Ports of Ray: free before it starts, and Ray's own when it runs."""

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from dtpf.doctor.findings import Finding, Status, passed, warned

DASHBOARD, AGENT, SERVE = 8265, 52365, 8000
# What each is for, and the option that moves it.
PORTS = {
    6379: ("Ray's GCS", "ray start --port"),
    DASHBOARD: ("dashboard and jobs", "ray start --dashboard-port"),
    SERVE: ("endpoint", "--set serve.port=..."),
    AGENT: ("agent of the node", "ray start --dashboard-agent-listen-port"),
    8080: ("metrics", "ray start --metrics-export-port"),
    10001: ("Ray client", "ray start --ray-client-server-port"),
}
_RAY = re.compile(r"ray::|raylet|gcs_server|ray-dashboard|ray[/.](dashboard|_private|util)[/.]")


@dataclass(frozen=True)
class Listener:
    """A process that listens at a port: where, its program, and whether that is part of Ray.

    Its arguments are not kept: they may hold secrets of others.
    """

    address: str
    program: str
    is_ray: bool


def check_ports(
    ports: Mapping[int, tuple[str, str]] = PORTS, stranger: Status = "fail"
) -> list[Finding]:
    """Look at each port.

    Args:
        ports: what each is for, and the option that moves it.
        stranger: what it is when a process that is not Ray's listens there.
    """
    return [check_port(port, *about, stranger) for port, about in ports.items()]


def check_port(port: int, use: str, option: str, stranger: Status = "fail") -> Finding:
    """Look at one port."""
    name = f"port {port}"
    if is_free(port):
        return passed(name, f"free ({use})")
    found = listeners(port)
    if any(listener.is_ray for listener in found):
        return passed(name, "Ray's own")
    remedy = f"end what listens there, or choose another port: {option}"
    if not found:  # of another user, or in another container
        return warned(name, f"taken by a process this user cannot see ({use})", remedy)
    return Finding(name, stranger, f"taken by {found[0].program}, not by Ray ({use})", remedy)


def is_free(port: int) -> bool:
    """Say whether a server could listen at a port of every interface; nothing listens for it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listeners(port: int) -> list[Listener]:
    """Return the processes of this user that listen at a port."""
    try:
        import psutil  # comes with dtpf[ray]
    except ImportError:
        return []
    found = []
    for connection in psutil.net_connections(kind="tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        if listens and connection.pid:
            with suppress(psutil.Error):  # ended meanwhile, or not ours
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())
                found.append(
                    Listener(connection.laddr.ip, process.name(), bool(_RAY.search(command)))
                )
    return found


def ray_address(port: int) -> str | None:
    """Return HOST:PORT at which a Ray of this user answers this machine, None if none listens."""
    hosts = [item.address for item in listeners(port) if item.is_ray]
    if not hosts:
        return None
    host = hosts[0].removeprefix("::ffff:")
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
