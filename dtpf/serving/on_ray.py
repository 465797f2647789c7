"""The endpoint on Ray Serve: the same app in each replica, the model exchanged without restart.

`deploy` reads `models/<name>/current.json` of the store and hands it to the replicas as Serve's
`user_config`; a later `deploy` with the same settings changes that alone, and the running
replicas load the new model beside the old one.
"""

import asyncio
import functools
import hashlib
import logging
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica as serve_replica
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.util import get_node_ip_address

from dtpf.core.config import fingerprint
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.on_ray import quota
from dtpf.serving import journal
from dtpf.serving.address import check_free, endpoint_url
from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor
from dtpf.serving.proxy import check_route, check_same_address, confirm
from dtpf.serving.service import make_service
from dtpf.serving.watch import CurrentModel, Watcher, read_current

DEPLOYMENT = "fusion"

# The replica's own deadline comes first, so that clients get its problem document.
_PROXY_GRACE_S = 5.0
_logger = logging.getLogger(__name__)


class FusionReplica:
    """One copy of the models with the HTTP app around them."""

    def __init__(self, settings: dict[str, Any], store_uri: str) -> None:
        _keep_off_other_interfaces()
        journal.log_as_json()
        config = ServeConfig.parse(settings, "replica settings")
        device = "cuda" if config.num_gpus > 0 else "cpu"
        self._service = make_service(config, functools.partial(Fuser.from_bundle, device=device))
        read = functools.partial(read_current, store_uri)
        self._watcher = Watcher(self._service.predictors, read, config.watch_s)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app inside the replica: it holds threads and the models."""
        return create_app(self._service, announce_request_id=False)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Change over to other models while requests go on.

        Serve ends a replica whose `reconfigure` raises. So a replica that already has a model
        refuses a bad one by keeping its own; `deploy` notices that from /v1/models.
        """
        for document in user_config["models"]:
            await self._change(CurrentModel.parse(document, "user_config"))
        if self._service.config.watch_s > 0 and not self._watcher.running:
            self._watcher.start()

    async def _change(self, wanted: CurrentModel) -> None:
        predictor = self._service.predictors[wanted.name]
        try:
            await asyncio.to_thread(predictor.load, wanted.uri, wanted.sha256)
        except UserError:
            if not predictor.ready:
                raise
            _logger.exception("refused model %s; the present one stays", wanted.version)

    def check_health(self) -> None:
        """Tell Serve whether this replica can work; raises if not."""
        for name, predictor in self._service.predictors.items():
            if not predictor.ready:
                raise RuntimeError(f"model {name} is not loaded")


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
    """Serve the current models of the store; returns the endpoint's URL.

    The endpoint outlives the calling job. Called again with the same settings it exchanges the
    model in place; with others it replaces the replicas.

    Raises:
        UserError: no such model, a bundle that cannot be used, a busy port, or Serve already
            running at another address. What is served then stays as it is.
    """
    models = [read_current(store_uri, name) for name in config.names]
    probe = Predictor(None, config.model_copy(update={"threads": None}))
    for model in models:
        probe.load(model.uri, model.sha256)
    probe.close()
    _start(config)
    serve.run(
        application(config, models, store_uri),
        name=config.application,
        route_prefix=config.route_prefix,
    )
    url = endpoint_url(config)
    for model in models:
        confirm(url, model)
    return url


def check_address(config: ServeConfig) -> None:
    """Refuse an address that `deploy` could not use; cheap, so ask before long work.

    Raises:
        UserError: the port is busy, Serve already runs at another address, or another
            application answers at this route.
    """
    if serve.status().proxies:
        check_same_address(config)
        check_route(config)
    else:
        check_free(config.host, config.port)


def status(name: str) -> dict[str, Any]:
    """Return an application's status, its message and its replicas by state."""
    application = serve.status().applications.get(name)
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
            # One limit for all routes; the app itself holds single fusions to theirs.
            request_timeout_s=_longest_answer_s(config) + _PROXY_GRACE_S,
        ),
    )


def _longest_answer_s(config: ServeConfig) -> float:
    return max(config.request_timeout_s, config.archive_timeout_s)


def application(
    config: ServeConfig, models: Sequence[CurrentModel], store_uri: str
) -> serve.Application:
    """Return what `serve.run` takes: the deployment with its limits, bound to its settings."""
    if config.threads is None:
        config = config.model_copy(update={"threads": max(1, math.floor(config.num_cpus))})
    settings = config.as_dict()
    configured = serve.deployment(
        name=DEPLOYMENT,
        **_replicas(config),
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        ray_actor_options={
            "num_cpus": config.num_cpus,
            "num_gpus": config.num_gpus,
            "resources": quota(),
        },
        user_config={"models": [model.as_dict() for model in models]},
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=_longest_answer_s(config),
        max_constructor_retry_count=3,
    )
    deployment = configured(serve.ingress()(FusionReplica)).options(
        # `serve.run` gives each call a random version, which would restart every replica.
        version=fingerprint(settings, store_uri, _source_digest()),
        _internal=True,
    )
    return deployment.bind(settings, store_uri)


def _replicas(config: ServeConfig) -> dict[str, Any]:
    """Return a fixed number of replicas, or one that follows the queue."""
    if config.max_replicas is None:
        return {"num_replicas": config.num_replicas}
    # A replica is busy enough with one full batch at work and half of one waiting.
    target = min(1.5 * config.max_batch_size, 0.75 * config.max_ongoing_requests)
    return {
        "autoscaling_config": {
            "min_replicas": config.num_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": target,
            "upscale_delay_s": 5.0,
            "downscale_delay_s": 120.0,
        }
    }


def _source_digest() -> str:
    """Return a digest of this package: replicas are replaced when the code has changed."""
    digest = hashlib.sha256()
    package = resources.files("dtpf")
    with resources.as_file(package) as root:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".html", ".css", ".js"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application that `serve deploy` and RayService name in their file.

    Host, port and route prefix are then what that file says, not these settings.

    Args:
        args: `store`, the URI of the store, and fields of `ServeConfig`.
    """
    source = "serve config, args"
    settings = dict(args)
    store_uri = settings.pop("store", None)
    if not isinstance(store_uri, str) or not store_uri:
        raise UserError(f"{source}: store: name the store, such as s3://bucket/prefix")
    config = ServeConfig.parse(settings, source)
    return application(config, [read_current(store_uri, name) for name in config.names], store_uri)
