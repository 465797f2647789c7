"""Limits around the app, as plain ASGI middleware: they act before a body is parsed.

From the outside in: `Envelope` (request id, security headers, no stack trace ever),
`Admission` (how many requests at a time), `Deadline` (how long), `BodyLimit` (how large).
"""

import asyncio
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dtpf.serving.problems import Problem

REQUEST_ID = "X-Request-Id"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_KNOWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_logger = logging.getLogger(__name__)


class Envelope:
    """Gives each request an id and each response its headers; turns defects into a plain 500.

    `announce_id` is off behind a proxy that adds the header itself, as Ray Serve's does.
    """

    def __init__(self, app: ASGIApp, announce_id: bool = True) -> None:
        self._app = app
        self._announce_id = announce_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _KNOWN_ID.fullmatch(given) else uuid.uuid4().hex
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                if self._announce_id:
                    headers[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            _logger.exception(
                "request %s failed: %s %s", request_id, scope["method"], scope["path"]
            )
            if started:
                raise
            problem = Problem(500, f"the server failed; its log has request {request_id}")
            await problem.response()(scope, receive, send_with_headers)


class Admission:
    """Refuses work at once when `capacity` requests with a body are under way; pages still load."""

    def __init__(self, app: ASGIApp, capacity: int, retry_after_s: int = 1) -> None:
        self._app = app
        self._capacity = capacity
        self._retry_after_s = retry_after_s
        self._ongoing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._ongoing >= self._capacity:
            problem = Problem(
                503,
                f"{self._ongoing} requests are under way; try again shortly",
                headers={"Retry-After": str(self._retry_after_s)},
            )
            await problem.response()(scope, receive, send)
            return
        self._ongoing += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._ongoing -= 1


class Deadline:
    """Ends a request after `seconds`: 408 while its body is still coming, else 504."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = started = False

        async def watched_receive() -> Message:
            nonlocal arrived
            message = await receive()
            arrived = arrived or not message.get("more_body", False)
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as timer:
                await self._app(scope, watched_receive, watched_send)
        except TimeoutError:
            if started or not timer.expired():
                raise
            await self._problem(arrived).response()(scope, receive, send)

    def _problem(self, arrived: bool) -> Problem:
        limit = f"{self._seconds:g} s"
        if arrived:
            return Problem(504, f"no answer within {limit}; send smaller images or try again")
        return Problem(408, f"the request did not arrive within {limit}")


class BodyLimit:
    """Refuses bodies beyond `max_bytes` with 413: by Content-Length at once, else as they come."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._judge(Headers(scope=scope).get("Content-Length"))
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        total = 0

        async def counted_receive() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._max_bytes:
                raise self._too_large()
            return message

        # The app's form parser lets HTTP exceptions through to its own handlers.
        await self._app(scope, counted_receive, send)

    def _judge(self, content_length: str | None) -> Problem | None:
        if content_length is None:
            return None
        if not content_length.isdecimal():
            return Problem(400, f"Content-Length is no number: {content_length[:20]!r}")
        return self._too_large() if int(content_length) > self._max_bytes else None

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._max_bytes} bytes, the limit here")
