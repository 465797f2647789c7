"""The door: bearer tokens, their size limit and their rate limit, as plain ASGI middleware.

What works and what tells of the work wants a token, where tokens are set: every POST, `/v1/...`
and `/metrics`. The page, its examples, health and the OpenAPI document are open.
"""

import math
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dtpf.serving.problems import Problem
from dtpf.serving.tokens import Token, TokenFile

_GUARDED = ("/v1/", "/metrics")


class Door:
    """Lets in who has a token, as often as the token allows; tells others how to get in.

    The token's name and its own body limit go into the request's state, for the log and for
    `BodyLimit`.
    """

    def __init__(
        self, app: ASGIApp, tokens: TokenFile, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._tokens, self._clock = app, tokens, clock
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _is_guarded(scope):
            await self._app(scope, receive, send)
            return
        try:
            token = self._identify(Headers(scope=scope).get("Authorization"))
            if scope["method"] == "POST":
                self._count(token)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["token"], state["max_body_bytes"] = token.name, token.max_body_bytes
        await self._app(scope, receive, send)

    def _identify(self, header: str | None) -> Token:
        scheme, _, secret = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _unauthorised("this endpoint wants 'Authorization: Bearer TOKEN'", "")
        token = self._tokens.find(secret.strip())
        if token is None:
            raise _unauthorised("unknown token", ' error="invalid_token"')
        return token

    def _count(self, token: Token) -> None:
        rate = token.requests_per_minute
        if rate is None:
            return
        now = self._clock()
        bucket = self._buckets.get(token.name)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[token.name] = Bucket(rate, now)
        wait = bucket.take(now)
        if wait > 0:
            raise Problem(
                429,
                f"more than {rate} requests a minute; try again in {math.ceil(wait)} s",
                headers={"Retry-After": str(math.ceil(wait))},
            )


class Bucket:
    """A token bucket: `rate` a minute, and as many at once."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self._level, self._last = float(rate), now

    def take(self, now: float) -> float:
        """Take one; returns 0, or the seconds until there is one."""
        per_second = self.rate / 60.0
        self._level = min(float(self.rate), self._level + (now - self._last) * per_second)
        self._last = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / per_second


def _is_guarded(scope: Scope) -> bool:
    # Behind a route prefix the path holds it, and root_path names it.
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") or path.startswith(_GUARDED)


def _unauthorised(detail: str, error: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": f'Bearer realm="dtpf"{error}'})
