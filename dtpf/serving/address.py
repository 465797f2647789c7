"""The address an endpoint listens on: is it free, and under which URL is it reached."""

import ipaddress
import socket

from dtpf.core.errors import UserError
from dtpf.serving.config import ServeConfig

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def endpoint_url(config: ServeConfig) -> str:
    """Return the URL at which a client on this machine reaches the endpoint."""
    host = _WILDCARDS.get(config.host, config.host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{config.port}{config.route_prefix.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_free(host: str, port: int) -> None:
    """Raise a UserError that names the address and the remedy unless it can be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{host}:{port}: cannot listen there ({reason}); choose another port, "
            f"such as {port + 1 if port < 65535 else port - 1}, or stop what uses it"
        ) from None
