"""Limits around the app, as plain ASGI middleware: they act before a body is parsed.

From the outside in: `Admission` (how many requests at a time), `Deadline` (how long), `BodyLimit`
(how large).
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dtpf.serving.problems import Problem


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
    """Ends a request that takes too long: 408 while its body is still coming, else 504.

    An answer must begin after `seconds`; once it streams, no pause of it may last longer, neither
    ours nor that of a client who does not read, and all of it must end after `streamed_s`. Within
    a body no pause may exceed `idle_s`.
    """

    def __init__(
        self, app: ASGIApp, seconds: float, idle_s: float | None = None, streamed_s: float = 0.0
    ) -> None:
        self._app, self._seconds = app, seconds
        self._idle_s = seconds if idle_s is None else idle_s
        self._streamed_s = max(seconds, streamed_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        begin = loop.time()
        arrived = started = False

        async def watched_receive() -> Message:
            nonlocal arrived
            if arrived:  # a wait for the client's going, not for its body
                return await receive()
            timer.reschedule(min(begin + self._seconds, loop.time() + self._idle_s))
            message = await receive()
            arrived = not message.get("more_body", False)
            timer.reschedule(begin + self._seconds)
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            timer.reschedule(min(begin + self._streamed_s, loop.time() + self._seconds))
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
        pause = f", or paused for {self._idle_s:g} s" if self._idle_s < self._seconds else ""
        return Problem(408, f"the request did not arrive within {limit}{pause}")


class BodyLimit:
    """Refuses bodies beyond `max_bytes` with 413: by Content-Length at once, else as they come.

    A token's own limit, which the door left in the request's state, counts where it is lower.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = scope.get("state", {}).get("max_body_bytes")
        limit = self._max_bytes if own is None else min(own, self._max_bytes)
        problem = _judge(Headers(scope=scope).get("Content-Length"), limit)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        total = 0

        async def counted_receive() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise _too_large(limit)
            return message

        # The app's form parser lets HTTP exceptions through to its own handlers.
        await self._app(scope, counted_receive, send)


def _judge(content_length: str | None, limit: int) -> Problem | None:
    if content_length is None:
        return None
    if not (content_length.isascii() and content_length.isdecimal()):
        return Problem(400, f"Content-Length is no number: {content_length[:20]!r}")
    return _too_large(limit) if int(content_length[:20]) > limit else None


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes, the limit here")
