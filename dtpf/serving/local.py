"""The endpoint in this process, under uvicorn: what `dtpf serve BUNDLE` runs."""

import logging
from collections.abc import Mapping

import uvicorn

from dtpf.core.storage.keys import CURRENT
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import normalise_uri
from dtpf.serving import journal
from dtpf.serving.address import check_free, is_loopback
from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.patience import patient_protocol
from dtpf.serving.service import Service, make_service
from dtpf.serving.watch import CurrentModel, Watcher

_SPARE_CONNECTIONS = 64  # for the page and for probes, beside those that bring work
_logger = logging.getLogger(__name__)


def serve_local(bundles: Mapping[str, str], config: ServeConfig) -> None:
    """Serve bundles until the process is interrupted.

    Args:
        bundles: where each bundle lies, by model name; the first is the default. A `current.json`
            is followed: what it names later is served without a restart.
        config: settings; `bundles` has the names.

    Raises:
        UserError: a bundle or the tokens file cannot be used, or the address cannot be listened on.
    """
    default, *others = bundles
    named = {**config.as_dict(), "name": default, "also": others}
    config = ServeConfig.parse(named, "dtpf serve")
    check_free(config.host, config.port)
    service = make_service(config)
    app = create_app(service)
    for name, source in bundles.items():
        service.predictors[name].load(source)
    journal.log_as_json()
    if not is_loopback(config.host) and config.tokens_file is None:
        _logger.warning("%s can be reached from elsewhere, without a password", config.host)
    watcher = follow(service, bundles)
    try:
        uvicorn.run(
            app,
            host=config.host,
            port=config.port,
            http=patient_protocol(config.body_idle_s),
            log_level="warning",
            server_header=False,
            limit_concurrency=config.capacity + _SPARE_CONNECTIONS,
            timeout_graceful_shutdown=10,
        )
    finally:
        watcher.stop()


def follow(service: Service, sources: Mapping[str, str]) -> Watcher:
    """Start to watch those sources that are a `current.json`; the others never change."""
    followed = {name: uri for name, uri in sources.items() if uri.endswith(f"/{CURRENT}")}
    predictors = {name: service.predictors[name] for name in followed}

    def read(name: str) -> CurrentModel:
        folder, _, key = normalise_uri(followed[name]).rpartition("/")
        return CurrentModel.parse(Store(folder).read_bytes(key), followed[name])

    watcher = Watcher(predictors, read, service.config.watch_s)
    if followed and service.config.watch_s > 0:
        watcher.start()
    return watcher
