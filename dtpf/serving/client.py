"""A client of the endpoint for programs.

    with Client("http://127.0.0.1:8000") as client:
        png = client.fuse("visible.png", "infrared.png").data
        fused = client.fuse_arrays(visible, infrared)          # numpy in, numpy out
        for item in client.fuse_many({"a": ("a_vis.png", "a_ir.png")}): ...

Fusing changes nothing at the server, so a request that found it busy, changing or gone is sent
again until `patience_s` has passed.
"""

import io
import json
import os
import random
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from dtpf.core.errors import UserError
from dtpf.serving.archive import REPORT
from dtpf.serving.arrays import write_npy

TOKEN_VARIABLE = "DTPF_TOKEN"

Source = bytes | str | os.PathLike[str]

_AGAIN = (408, 429, 503)  # 408: a body that went astray with a replica that died
_LONGEST_PAUSE_S = 5.0


class RefusedError(UserError):
    """The endpoint refused a request, for good.

    Attributes:
        status: of the answer.
        field: the part or option to mend; None where none is to blame.
        request_id: names the request in the server's log.
    """

    def __init__(self, status: int, detail: str, field: str | None, request_id: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.field, self.request_id = status, field, request_id


@dataclass(frozen=True)
class Fused:
    """One fused image, encoded; `timings` are milliseconds at the server."""

    data: bytes
    media_type: str
    version: str
    request_id: str
    timings: dict[str, float]


@dataclass(frozen=True)
class Member:
    """What became of one pair of many; `data` is None where it failed, `report` says why."""

    name: str
    data: bytes | None
    report: dict[str, Any] = field(default_factory=dict)


class Client:
    """Talks to one endpoint. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 90.0,
        patience_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect on first use.

        Args:
            url: of the endpoint, with its route prefix.
            token: bearer token; None takes the environment's DTPF_TOKEN, if it is set.
            timeout_s: for one answer.
            patience_s: how long to try again while the endpoint is busy or away; 0 tries once.
            transport: for tests.
        """
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers=auth_headers(token),
            timeout=timeout_s,
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fuse(self, visible: Source, infrared: Source, **options: Any) -> Fused:
        """Fuse one pair of image files, given as bytes or paths.

        Args:
            visible: the visible image.
            infrared: the infrared image.
            options: `format`, `quality`, `gray`, `size`, `model`.

        Raises:
            RefusedError: a pair or an option cannot be used, or the patience is over.
            httpx.TransportError: the endpoint is away for longer than the patience.
        """
        return _fused(self._post("/fuse", visible, infrared, options))

    def fuse_arrays(self, visible: NDArray, infrared: NDArray, **options: Any) -> NDArray:
        """Fuse H x W [x 3] and H x W arrays to H x W x 3; `options`: `dtype`, `size`, `model`."""
        seen, heat = write_npy(visible), write_npy(infrared)
        answer = self._post("/fuse/arrays", seen, heat, options)
        array: NDArray = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return array

    def fuse_many(
        self, pairs: Mapping[str, tuple[Source, Source]], **options: Any
    ) -> Iterator[Member]:
        """Fuse many pairs by name in one request; yields each, fused or failed."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as target:
            for name, (visible, infrared) in pairs.items():
                target.writestr(f"visible/{name}.png", _bytes(visible))
                target.writestr(f"infrared/{name}.png", _bytes(infrared))
        headers = {"Content-Type": "application/zip"}
        answer = self._request(
            "POST", "/fuse/batch", content=archive.getvalue(), headers=headers, params=options
        )
        with zipfile.ZipFile(io.BytesIO(answer.content)) as fused:
            for item in json.loads(fused.read(REPORT)):
                data = fused.read(item["file"]) if "file" in item else None
                yield Member(item["name"], data, item)

    def model(self, name: str | None = None) -> dict[str, Any]:
        """Describe a served model; the default one without a name."""
        path = "/v1/model" if name is None else f"/v1/models/{name}"
        document: dict[str, Any] = self._request("GET", path).json()
        return document

    def models(self) -> list[dict[str, Any]]:
        """Describe all served models; the first is the default."""
        documents: list[dict[str, Any]] = self._request("GET", "/v1/models").json()
        return documents

    def ready(self) -> bool:
        """Whether the endpoint answers and has its models."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _post(
        self, path: str, visible: Source, infrared: Source, options: Mapping[str, Any]
    ) -> httpx.Response:
        files = {"visible": _bytes(visible), "infrared": _bytes(infrared)}
        return self._request("POST", path, files=files, params=dict(options))

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request until it is answered for good or the patience is over."""
        until = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            attempt += 1
            answer, error = self._try(method, path, arguments)
            pause = _pause(answer, attempt)
            if pause is None or time.monotonic() + pause > until:
                break
            time.sleep(pause)
        if answer is None:
            assert error is not None
            raise error
        if answer.is_success:
            return answer
        raise _refusal(answer)

    def _try(
        self, method: str, path: str, arguments: dict[str, Any]
    ) -> tuple[httpx.Response | None, httpx.TransportError | None]:
        try:
            return self._http.request(method, path, **arguments), None
        except httpx.TimeoutException:
            raise  # it had its time
        except httpx.TransportError as error:
            return None, error


def auth_headers(token: str | None = None) -> dict[str, str]:
    """Return the header that carries a token, or that of the environment; none without one."""
    token = token or os.environ.get(TOKEN_VARIABLE)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _pause(answer: httpx.Response | None, attempt: int) -> float | None:
    """Return how long to wait before the next attempt; None where the answer is final."""
    jittered = random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE_S, 0.1 * 2.0**attempt)
    if answer is None:
        return jittered
    # A 5xx that is not our problem document comes from a proxy whose replica has died.
    ours = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    if answer.status_code in _AGAIN:
        told = answer.headers.get("Retry-After", "")
        return float(told) * random.uniform(1.0, 1.5) if told.isdecimal() else jittered
    return jittered if answer.status_code >= 500 and not ours else None


def _refusal(answer: httpx.Response) -> RefusedError:
    try:
        problem = answer.json()
        detail, blamed = str(problem["detail"]), problem.get("field")
    except (ValueError, KeyError, TypeError):
        detail, blamed = answer.text[:200] or answer.reason_phrase, None
    request_id = answer.headers.get("X-Request-Id", "")
    return RefusedError(answer.status_code, detail, blamed, request_id)


def _fused(answer: httpx.Response) -> Fused:
    headers = answer.headers
    parts = (part.strip().split(";dur=") for part in headers.get("Server-Timing", "").split(","))
    timings = {name_ms[0]: float(name_ms[1]) for name_ms in parts if len(name_ms) == 2}
    return Fused(
        data=answer.content,
        media_type=headers["Content-Type"],
        version=headers.get("X-Model-Version", ""),
        request_id=headers.get("X-Request-Id", ""),
        timings=timings,
    )


def _bytes(source: Source) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
