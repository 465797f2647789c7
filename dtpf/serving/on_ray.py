"""The endpoint on Ray Serve: the same app in each replica, the model exchanged without restart.

`deploy` reads `models/<name>/current.json` of the store and hands it to the replicas as Serve's
`user_config`; a later `deploy` with the same settings changes that alone, and the running
replicas load the new model beside the old one.
"""

import asyncio
import functools
import hashlib
import json
import logging
import math
import time
import urllib.request
from importlib import resources
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica as serve_replica
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.util import get_node_ip_address

from dtpf.core.config import Config, fingerprint
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.storage.keys import current_key
from dtpf.core.storage.store import Store
from dtpf.serving.address import check_free, endpoint_url
from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor

APP_NAME = "dtpf"
DEPLOYMENT = "fusion"

# The replica's own deadline comes first, so that clients get its problem document.
_PROXY_GRACE_S = 5.0
_SWAP_TIMEOUT_S = 60.0
_logger = logging.getLogger(__name__)


class CurrentModel(Config):
    """The document `models/<name>/current.json`: which bundle is served."""

    name: str
    version: str
    uri: str
    sha256: str


class FusionReplica:
    """One copy of the model with the HTTP app around it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        _keep_off_other_interfaces()
        self._config = ServeConfig.parse(settings, "replica settings")
        device = "cuda" if self._config.num_gpus > 0 else "cpu"
        loader = functools.partial(Fuser.from_bundle, device=device)
        self._predictor = Predictor(None, self._config, loader)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app inside the replica: it holds threads and the model."""
        return create_app(self._predictor, self._config, announce_request_id=False)

    async def reconfigure(self, model: dict[str, Any]) -> None:
        """Change over to another model while requests go on.

        Serve ends a replica whose `reconfigure` raises. So a replica that already has a model
        refuses a bad one by keeping its own; `deploy` notices that from /v1/model.
        """
        wanted = CurrentModel.parse(model, "user_config")
        try:
            await asyncio.to_thread(self._predictor.load, wanted.uri, wanted.sha256)
        except UserError:
            if not self._predictor.ready:
                raise
            _logger.exception("refused model %s; the present one stays", wanted.version)

    def check_health(self) -> None:
        """Tell Serve whether this replica can work; raises if not."""
        if not self._predictor.ready:
            raise RuntimeError("no model is loaded")


def _keep_off_other_interfaces() -> None:
    """Make this replica's internal gRPC port listen on the node's own address alone.

    Ray Serve 2.60 opens it on every interface once the replica is constructed, and what arrives
    there is unpickled: whoever reaches it runs code. On a cluster whose address is loopback
    nothing outside the machine may reach it.
    """
    address = get_node_ip_address()

    def add_port(server: Any, wildcard: str) -> int:
        port = wildcard.rpartition(":")[2]
        return int(add_port_to_grpc_server(server, f"{address}:{port}"))

    serve_replica.add_port_to_grpc_server = add_port


def deploy(config: ServeConfig, store_uri: str) -> str:
    """Serve the current model of the store; returns the endpoint's URL.

    The endpoint outlives the calling job. Called again with the same settings it exchanges the
    model in place; with others it replaces the replicas.

    Raises:
        UserError: no such model, a bundle that cannot be used, a busy port, or Serve already
            running at another address. What is served then stays as it is.
    """
    model = read_current(store_uri, config.name)
    Predictor(None, config.model_copy(update={"threads": None})).load(model.uri, model.sha256)
    _start(config)
    serve.run(application(config, model), name=APP_NAME, route_prefix=config.route_prefix)
    url = endpoint_url(config)
    _confirm(url, model)
    return url


def read_current(store_uri: str, name: str) -> CurrentModel:
    """Read which bundle the store says is served under a name."""
    store, key = Store(store_uri), current_key(name)
    return CurrentModel.parse(store.read_bytes(key), store.uri_of(key))


def check_address(config: ServeConfig) -> None:
    """Refuse an address that `deploy` could not use; cheap, so ask before long work.

    Raises:
        UserError: the port is busy, or Serve already runs at another address.
    """
    if serve.status().proxies:
        _check_same_address(config)
    else:
        check_free(config.host, config.port)


def status() -> dict[str, Any]:
    """Return the application's status, its message and its replicas by state."""
    application = serve.status().applications.get(APP_NAME)
    if application is None:
        return {"status": "NOT_RUNNING", "message": "", "replicas": {}}
    replicas = application.deployments[DEPLOYMENT].replica_states if application.deployments else {}
    return {
        "status": str(application.status.value),
        "message": application.message,
        "replicas": {str(state): count for state, count in replicas.items()},
    }


def shutdown() -> None:
    """End the endpoint and Serve on this cluster."""
    serve.shutdown()


def _start(config: ServeConfig) -> None:
    """Start Serve's HTTP proxy at the configured address, unless it listens there already."""
    check_address(config)
    if serve.status().proxies:
        return
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(
            host=config.host,  # stated always: some ways of deploying default to all interfaces
            port=config.port,
            request_timeout_s=config.request_timeout_s + _PROXY_GRACE_S,
        ),
    )


def _check_same_address(config: ServeConfig) -> None:
    root = endpoint_url(config.model_copy(update={"route_prefix": "/"}))
    if _get(f"{root}/-/healthz") != b"success":
        raise UserError(
            f"{config.host}:{config.port}: Ray Serve runs already, at another address; "
            "use that one, or end it with `serve shutdown` first"
        )


def _confirm(url: str, model: CurrentModel) -> None:
    """Wait until the endpoint says that it serves `model`."""
    deadline = time.monotonic() + _SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        served = json.loads(_get(f"{url}/v1/model") or b"{}")
        if (served.get("uri"), served.get("sha256")) == (model.uri, model.sha256):
            return
        time.sleep(0.2)
    raise UserError(
        f"{url}: still serves version {served.get('version')}, not {model.version}; "
        "the log of the replica (`ray logs`) says why it refused"
    )


def _get(url: str) -> bytes | None:
    """Return what a URL answers, None if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def application(config: ServeConfig, model: CurrentModel) -> serve.Application:
    """Return what `serve.run` takes: the deployment with its limits, bound to its settings."""
    if config.threads is None:
        config = config.model_copy(update={"threads": max(1, math.floor(config.num_cpus))})
    settings = config.as_dict()
    configured = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        user_config=model.as_dict(),
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=config.request_timeout_s,
        max_constructor_retry_count=3,
    )
    deployment = configured(serve.ingress()(FusionReplica)).options(
        # `serve.run` gives each call a random version, which would restart every replica.
        version=fingerprint(settings, _source_digest()),
        _internal=True,
    )
    return deployment.bind(settings)


def _source_digest() -> str:
    """Return a digest of this package: replicas are replaced when the code has changed."""
    digest = hashlib.sha256()
    package = resources.files("dtpf")
    with resources.as_file(package) as root:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".html", ".css", ".js"):
                digest.update(path.read_bytes())
    return digest.hexdigest()
