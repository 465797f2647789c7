"""Which network interface NCCL and gloo take: the one that is meant, or a container's bridge."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dtpf.doctor.findings import Finding, failed, passed, warned

NCCL, GLOO = "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"
_VIRTUAL = re.compile(r"docker|br-|veth|virbr|cni|flannel|cali|tun|tap|wg|tailscale|zt|vmnet|ifb")
_UP = 0x1  # IFF_UP


@dataclass(frozen=True)
class Interface:
    """A network interface: its name, and whether traffic can go through it now."""

    name: str
    up: bool

    @property
    def virtual(self) -> bool:
        """Made by software, for containers or tunnels, by its name."""
        return bool(_VIRTUAL.match(self.name))


def interfaces(root: Path = Path("/sys/class/net")) -> list[Interface]:
    """Return the interfaces of this machine but the loopback."""
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    return [Interface(name, _is_up(root / name)) for name in names]


def _is_up(folder: Path) -> bool:
    try:
        flags = int((folder / "flags").read_text(), 16)
        return bool(flags & _UP) and (folder / "carrier").read_text().strip() == "1"
    except OSError:  # the carrier of an interface that is down cannot be read
        return False


def check_interfaces(
    environment: Mapping[str, str], found: Sequence[Interface], many_nodes: bool = False
) -> list[Finding]:
    """Look at what the variables of NCCL and gloo choose among the interfaces.

    Args:
        environment: of the processes that will talk.
        found: all interfaces but the loopback.
        many_nodes: whether they talk to other machines.
    """
    return [
        check_interface("nccl.interface", NCCL, environment.get(NCCL), found, many_nodes),
        check_interface("gloo.interface", GLOO, environment.get(GLOO), found, many_nodes),
    ]


def check_interface(
    name: str, variable: str, value: str | None, found: Sequence[Interface], many_nodes: bool
) -> Finding:
    """Look at what one variable chooses."""
    if not value:
        return _unset(name, variable, found, many_nodes)
    have = ", ".join(item.name for item in found) or "none"
    if variable == GLOO:  # exact names, no signs
        missing = [part for part in value.split(",") if part not in _names(found)]
        chosen = [item for item in found if item.name in value.split(",")]
    else:
        missing, chosen = matching(value, found)
    shown = f"{variable}={value}"
    if value in ("lo", "=lo"):
        return (failed if many_nodes else passed)(
            name, f"{shown}: this machine alone", *(["name the LAN card"] if many_nodes else [])
        )
    if missing or not chosen:
        remedy = f"name one of: {have}"
        return failed(name, f"{shown}: no such interface {','.join(missing)}".rstrip(), remedy)
    if not any(item.up for item in chosen):
        return failed(name, f"{shown}: the interface is down", "bring it up, or name another")
    if all(item.virtual for item in chosen):
        return warned(name, f"{shown}: made for containers or tunnels", "name the LAN card")
    return passed(name, f"{shown} is up")


def matching(value: str, found: Sequence[Interface]) -> tuple[list[str], list[Interface]]:
    """Return which parts of an NCCL_SOCKET_IFNAME match nothing, and what it chooses.

    NCCL takes names as prefixes, with `=` as whole names; with `^` it takes all others.
    """
    rest = value.removeprefix("^")
    exact, parts = rest.startswith("="), rest.removeprefix("=").split(",")

    def hits(part: str, name: str) -> bool:
        return name == part if exact else name.startswith(part)

    if value.startswith("^"):
        return [], [i for i in found if not any(hits(part, i.name) for part in parts)]
    missing = [part for part in parts if not any(hits(part, item.name) for item in found)]
    return missing, [item for item in found if any(hits(part, item.name) for part in parts)]


def _unset(name: str, variable: str, found: Sequence[Interface], many_nodes: bool) -> Finding:
    up = [item for item in found if item.up]
    cards, traps = [i.name for i in up if not i.virtual], [i.name for i in up if i.virtual]
    shown = f"{variable} is not set; up: {', '.join(item.name for item in up) or 'none'}"
    if many_nodes and (traps or len(cards) > 1):
        card = cards[0] if cards else "CARD"
        value = f"={card}" if variable == NCCL else card
        remedy = f"export {variable}={value} (the LAN card) before `ray start` on each node"
        return warned(name, shown, remedy)
    return passed(name, shown)


def _names(found: Sequence[Interface]) -> set[str]:
    return {item.name for item in found}
