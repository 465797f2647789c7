"""The outermost layer around the app: request ids, security headers, the log, and no stack trace.

Legend of the log: `token` is the name of a token, `bytes_in` and `bytes_out` count bodies.
"""

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dtpf.serving import journal
from dtpf.serving.meters import Meters
from dtpf.serving.problems import Problem

REQUEST_ID = "X-Request-Id"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_KNOWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CUT_OFF = 499  # in log and metrics: the client went away, or the answer was broken off
_logger = logging.getLogger(__name__)


class Envelope:
    """Gives each request an id and each response its headers; turns defects into a plain 500.

    `announce_id` is off behind a proxy that adds the header itself, as Ray Serve's does.
    """

    def __init__(
        self,
        app: ASGIApp,
        announce_id: bool = True,
        meters: Meters | None = None,
        log: bool = False,
    ) -> None:
        self._app, self._announce_id, self._log = app, announce_id, log
        self._meters = meters or Meters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._announce_id)
        self._meters.begin()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            _logger.exception(
                "request %s failed: %s %s", exchange.id, scope["method"], scope["path"]
            )
            if exchange.status is not None:
                exchange.status = _CUT_OFF
                raise
            problem = Problem(500, f"the server failed; its log has request {exchange.id}")
            await problem.response()(scope, receive, exchange.send)
        finally:
            self._record(exchange)

    def _record(self, exchange: "_Exchange") -> None:
        fields = exchange.summary()
        self._meters.end(exchange.route, fields["status"], fields["ms"] / 1000.0)
        if self._log:
            journal.write("request", fields)


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, announce_id: bool) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.id = given if _KNOWN_ID.fullmatch(given) else uuid.uuid4().hex
        self.status: int | None = None
        self._scope, self._receive, self._send = scope, receive, send
        self._announce_id = announce_id
        self._bytes_in = self._bytes_out = 0
        self._start = time.perf_counter()

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            if self._announce_id:
                headers[REQUEST_ID] = self.id
        self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    @property
    def route(self) -> str:
        """The template of the route that answered; `other` where none did."""
        route = self._scope.get("route")
        return str(getattr(route, "path", "other")) if route is not None else "other"

    def summary(self) -> dict[str, Any]:
        state = self._scope.get("state", {})
        return {
            "id": self.id,
            "method": self._scope["method"],
            "path": self._scope["path"][:200],
            "status": self.status if self.status is not None else _CUT_OFF,
            "ms": round(1000.0 * (time.perf_counter() - self._start), 1),
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "token": state.get("token"),
            **state.get("fused", {}),
        }
