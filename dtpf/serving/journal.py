"""Structured logs: one JSON object a line, with what a request was and never what it showed."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_FIELDS = "fields"  # attribute of a log record that holds what `write` was given
_logger = logging.getLogger("dtpf.serving.requests")


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON; line breaks in messages cannot forge others."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def log_as_json(level: int = logging.INFO) -> None:
    """Send the logs of this package to stderr as JSON lines; for processes that are a server."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("dtpf")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def write(message: str, fields: dict[str, Any]) -> None:
    """Log one request."""
    _logger.info(message, extra={_FIELDS: fields})
