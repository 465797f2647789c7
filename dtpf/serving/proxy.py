"""What a running endpoint says of itself over HTTP, asked before and after a deployment."""

import json
import time
import urllib.error
import urllib.request

from dtpf.core.errors import UserError
from dtpf.serving.address import endpoint_url
from dtpf.serving.client import TOKEN_VARIABLE, auth_headers
from dtpf.serving.config import ServeConfig
from dtpf.serving.watch import CurrentModel

_SWAP_TIMEOUT_S = 60.0


def check_same_address(config: ServeConfig) -> None:
    """Raise a UserError unless the proxy of a running Serve answers at the settings' address."""
    if _get(f"{_proxy_url(config)}/-/healthz") != b"success":
        raise UserError(
            f"{config.host}:{config.port}: Ray Serve runs already, at another address; "
            "use that one, or end it with `serve shutdown` first"
        )


def check_route(config: ServeConfig) -> None:
    """Raise a UserError if another application answers at the settings' route.

    Applications share one proxy, and Serve gives a route to whoever came first.
    """
    routes: dict[str, str] = json.loads(_get(f"{_proxy_url(config)}/-/routes") or b"{}")
    owner = routes.get(config.route_prefix, config.application)
    if owner != config.application:
        raise UserError(
            f"serve.route_prefix {config.route_prefix}: application {owner} answers there already; "
            f"choose another, such as --set serve.route_prefix=/{config.application}, or take its "
            f"place with --set serve.application={owner}"
        )


def confirm(url: str, model: CurrentModel) -> None:
    """Wait until the endpoint says that it serves `model`; a UserError if it does not."""
    deadline = time.monotonic() + _SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        served = json.loads(_get(f"{url}/v1/models/{model.name}") or b"{}")
        if (served.get("uri"), served.get("sha256")) == (model.uri, model.sha256):
            return
        time.sleep(0.2)
    raise UserError(
        f"{url}: still serves version {served.get('version')}, not {model.version}; "
        "the log of the replica (`ray logs`) says why it refused"
    )


def _proxy_url(config: ServeConfig) -> str:
    """Return the URL above all applications."""
    return endpoint_url(config.model_copy(update={"route_prefix": "/"}))


def _get(url: str) -> bytes | None:
    """Return what a URL answers, None if it does not."""
    try:
        request = urllib.request.Request(url, headers=auth_headers())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise UserError(
                f"{url}: wants a token; set {TOKEN_VARIABLE} to one of its tokens file"
            ) from None
        return None
    except OSError:
        return None
