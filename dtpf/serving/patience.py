"""A limit on how long a connection may take to say what it wants; uvicorn has none of its own.

Without it, clients that send their headers a byte at a time hold every connection the endpoint
allows, and nobody else is answered.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def patient_protocol(headers_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, ending connections that owe their headers for longer."""
    return type("PatientProtocol", (_PatientProtocol,), {"headers_s": headers_s})


class _PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    headers_s: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A request under way has its own deadlines; after it, the first byte of the next counts.
        if self.cycle is None or self.cycle.response_complete:
            self._start()
        else:
            self._stop()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop()
        super().connection_lost(error)

    def _start(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.headers_s, self._end)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()
