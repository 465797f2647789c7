"""Where pairs are fused: in this process, in several, or at a served endpoint."""

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Protocol, Self, TypeVar

import httpx
import torch

from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.machine import keep_freed_memory
from dtpf.core.ops.pixels import FloatImage
from dtpf.data.images import decode_visible, encode_png

_TRIES = 6
_LONGEST_WAIT_S = 10.0

Item = TypeVar("Item")


class Engine(Protocol):
    """Fuses pairs, several at a time."""

    workers: int

    @property
    def identity(self) -> dict[str, Any]:
        """What fuses, as JSON types: equal identities give equal pictures."""

    def submit(self, visible: FloatImage, infrared: FloatImage) -> "Future[FloatImage]":
        """Begin to fuse (H, W, 3) and (H, W) to (H, W, 3), all in [0, 1]."""

    def close(self) -> None:
        """Drop what has not begun and release the workers."""


class _Pooled:
    def __init__(self, pool: Executor, workers: int) -> None:
        self._pool, self.workers = pool, workers

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalEngine(_Pooled):
    """A network of this machine: one worker in this process, or several processes."""

    def __init__(self, source: str, device: str = "cpu", workers: int = 1) -> None:
        """Load the network; errors as in `Fuser.from_bundle`."""
        self._fuser = Fuser.from_bundle(source, device)
        self.identity = {"network": source, "sha256": self._fuser.info.get("sha256", "")}
        if workers == 1:
            super().__init__(ThreadPoolExecutor(1, "fuse"), 1)
            return
        threads = max(1, torch.get_num_threads() // workers)
        pool = ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),  # a forked torch hangs in its threads
            _begin_worker,
            (source, device, threads),
        )
        super().__init__(pool, workers)

    def submit(self, visible: FloatImage, infrared: FloatImage) -> "Future[FloatImage]":
        """See `Engine`."""
        work: Callable[..., FloatImage] = self._fuser.fuse if self.workers == 1 else _fuse_here
        return self._pool.submit(work, visible, infrared)


class EndpointEngine(_Pooled):
    """A served endpoint; images travel with 8 bits, and busy answers are waited for."""

    def __init__(self, url: str, workers: int = 2, client: httpx.Client | None = None) -> None:
        """Ask the endpoint what it serves.

        Raises:
            UserError: nothing answers there, or not a dtpf endpoint.
        """
        self._url = url.rstrip("/").removesuffix("/fuse")
        self._client = client or httpx.Client(timeout=120.0)
        try:
            answer = self._client.get(f"{self._url}/v1/model")
            answer.raise_for_status()
            served = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UserError(f"--endpoint {url}: no dtpf endpoint answers ({error})") from None
        self.identity = {"endpoint": self._url, "sha256": served.get("sha256", "")}
        super().__init__(ThreadPoolExecutor(workers, "endpoint"), workers)

    def submit(self, visible: FloatImage, infrared: FloatImage) -> "Future[FloatImage]":
        """See `Engine`."""
        return self._pool.submit(self._post, visible, infrared)

    def _post(self, visible: FloatImage, infrared: FloatImage) -> FloatImage:
        files = {
            "visible": ("visible.png", encode_png(visible), "image/png"),
            "infrared": ("infrared.png", encode_png(infrared), "image/png"),
        }
        for last in range(_TRIES):
            try:
                answer = self._client.post(f"{self._url}/fuse", files=files)
            except httpx.HTTPError as error:
                problem, wait = str(error) or type(error).__name__, 0.5 * 2**last
            else:
                if answer.status_code == 200:
                    return decode_visible(answer.content, self._url)
                problem, wait = _described(answer), _wait(answer, last)
                if answer.status_code not in (429, 502, 503, 504):
                    break
            time.sleep(min(wait, _LONGEST_WAIT_S) if last + 1 < _TRIES else 0)
        raise UserError(f"{self._url}: {problem}")


def in_order(
    engine: Engine,
    items: Iterable[Item],
    pair: Callable[[Item], tuple[FloatImage, FloatImage]],
) -> Iterator[tuple[Item, FloatImage | UserError]]:
    """Fuse items and yield them in their order, each with its result or what was wrong with it.

    At most two items a worker are read ahead, so memory stays bounded whatever the length.
    """
    waiting: deque[tuple[Item, Future[FloatImage]]] = deque()
    for item in items:
        waiting.append((item, engine.submit(*pair(item))))
        if len(waiting) >= 2 * engine.workers:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(item: Item, future: "Future[FloatImage]") -> tuple[Item, FloatImage | UserError]:
    try:
        return item, future.result()
    except UserError as error:
        return item, error
    except ValueError as error:  # sizes that a network cannot take
        return item, UserError(str(error))


def _described(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", "")
    except ValueError:
        detail = answer.text[:200]
    return f"{answer.status_code} {detail}"


def _wait(answer: httpx.Response, tried: int) -> float:
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isdigit() else 0.5 * 2**tried


_worker: Fuser | None = None


def _begin_worker(source: str, device: str, threads: int) -> None:
    global _worker
    keep_freed_memory()
    torch.set_num_threads(threads)
    _worker = Fuser.from_bundle(source, device)


def _fuse_here(visible: FloatImage, infrared: FloatImage) -> FloatImage:
    assert _worker is not None
    return _worker.fuse(visible, infrared)
