"""The endpoint in this process, under uvicorn: what `dtpf serve BUNDLE` runs."""

import logging

import uvicorn

from dtpf.serving.address import check_free, is_loopback
from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor

_logger = logging.getLogger(__name__)


def serve_local(bundle_uri: str, config: ServeConfig) -> None:
    """Serve one bundle until the process is interrupted.

    Raises:
        UserError: the bundle cannot be used, or the address cannot be listened on.
    """
    check_free(config.host, config.port)
    if not is_loopback(config.host):
        _logger.warning("%s can be reached from elsewhere, without a password", config.host)
    predictor = Predictor(None, config)
    predictor.load(bundle_uri)
    uvicorn.run(
        create_app(predictor, config),
        host=config.host,
        port=config.port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=10,
    )
