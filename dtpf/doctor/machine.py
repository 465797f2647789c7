"""All checks of one machine, in the order of the report."""

import os
import tempfile
from collections.abc import Sequence

from dtpf.doctor.access import check_agent, check_dashboard, check_mode, check_token
from dtpf.doctor.findings import Finding, guarded
from dtpf.doctor.gpus import check_gpus
from dtpf.doctor.interfaces import check_interfaces, interfaces
from dtpf.doctor.kernels import check_kernels
from dtpf.doctor.local_exchange import STEP_SECONDS, check_exchange
from dtpf.doctor.ports import AGENT, DASHBOARD, check_ports, ray_address
from dtpf.doctor.resources import check_disk, check_open_files, check_shared_memory
from dtpf.doctor.storage import check_store
from dtpf.doctor.versions import check_versions


def temporary_folder() -> str:
    """Return where Ray puts temporary and spilled data unless it is told otherwise."""
    return os.environ.get("RAY_TMPDIR") or os.path.join(tempfile.gettempdir(), "ray")


def check_hardware(folder: str, many_nodes: bool = False) -> list[Finding]:
    """Look at what a node needs: the same with and without a cluster."""
    return [
        *guarded("versions", check_versions),
        *guarded("gpu", check_gpus),
        *guarded("cpu.kernels", lambda: [check_kernels()]),
        *guarded("interface", lambda: check_interfaces(os.environ, interfaces(), many_nodes)),
        *guarded("shared memory", lambda: [check_shared_memory()]),
        *guarded("disk", lambda: check_disk(folder)),
        *guarded("open files", lambda: [check_open_files()]),
    ]


def check_machine(
    store: str | None,
    folder: str | None = None,
    exchange: bool = True,
    seconds: float = STEP_SECONDS,
) -> list[Finding]:
    """Look at this machine, on which a Ray of this user may run or not.

    Args:
        store: URI of the store; None leaves it out.
        folder: for temporary and spilled data.
        exchange: whether copies between devices are compared.
        seconds: after which a step of that is given up.
    """
    return [
        *check_hardware(folder or temporary_folder()),
        *guarded("ports", check_ports),
        *guarded("token", _check_access),
        *(guarded("store", lambda: check_store(store)) if store else []),
        *(guarded("copies", lambda: check_exchange(seconds)) if exchange else []),
    ]


def _check_access() -> Sequence[Finding]:
    dashboard, agent = ray_address(DASHBOARD), ray_address(AGENT)
    running = bool(dashboard or agent)
    findings = [check_mode(os.environ, "fail" if running else "warn")]
    if findings[0].status == "pass":
        findings.append(check_token(os.environ))
    findings += [check_dashboard(dashboard)] if dashboard else []
    return [*findings, *([check_agent(agent)] if agent else [])]
