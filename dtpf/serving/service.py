"""All that one process serves: its models, their common batcher, its counters and its threads."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dtpf.core.fusion import Fuser
from dtpf.core.machine import keep_freed_memory
from dtpf.serving.config import ServeConfig
from dtpf.serving.meters import Meters
from dtpf.serving.predictor import Loader, NotReadyError, Prediction, Predictor, make_batcher
from dtpf.serving.problems import InputError

ResultT = TypeVar("ResultT")


@dataclass
class Service:
    """What the app works with.

    Attributes:
        config: settings.
        predictors: models by name; that of `config.name` is the default.
        meters: counters.
    """

    config: ServeConfig
    predictors: Mapping[str, Predictor]
    meters: Meters = field(default_factory=Meters)

    def __post_init__(self) -> None:
        self.meters.show_models(self._served)
        # The pool, not the event loop, bounds the work: a request that timed out gives its
        # thread back only when its work has really ended.
        self._pool = ThreadPoolExecutor(self.config.max_ongoing_requests, "fuse")
        self._closed = False

    def predictor(self, name: str | None) -> Predictor:
        """Return a model by name, None for the default; InputError for an unknown one."""
        try:
            return self.predictors[self.config.name if name is None else name]
        except KeyError:
            known = ", ".join(self.predictors)
            raise InputError("model", f"model {name!r} is not served; known: {known}") from None

    async def run(self, work: Callable[..., ResultT], *arguments: Any, **named: Any) -> ResultT:
        """Run blocking work in a thread of the pool."""
        context = contextvars.copy_context()
        call = functools.partial(context.run, work, *arguments, **named)
        if self._closed:
            raise NotReadyError("this endpoint is closing")
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def predict(self, work: Callable[..., Prediction], *arguments: Any) -> Prediction:
        """Run a prediction; if nobody waits for it any more, it ends as early as it can."""
        abandoned = threading.Event()
        try:
            prediction = await self.run(work, *arguments, abandoned=abandoned)
        except BaseException:
            abandoned.set()
            raise
        self.meters.stages(prediction.timings)
        return prediction

    def describe(self, name: str) -> dict[str, Any]:
        """Describe one served model and the limits it is served under."""
        config = self.config
        limits = {
            "max_body_bytes": config.max_body_bytes,
            "max_pixels": config.max_pixels,
            "max_archive_pairs": config.max_archive_pairs,
            "request_timeout_s": config.request_timeout_s,
        }
        return {"name": name, **self.predictors[name].info, "limits": limits}

    def close(self) -> None:
        """End the threads; what still waits in them is given up."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for predictor in self.predictors.values():
            predictor.close()

    def _served(self) -> list[tuple[str, str]]:
        return [
            (name, str(predictor.info.get("version")))
            for name, predictor in self.predictors.items()
            if predictor.ready
        ]


def make_service(config: ServeConfig, loader: Loader = Fuser.from_bundle) -> Service:
    """Return a service whose models are not loaded yet; they share one batcher.

    Lets this process keep the memory that it frees.
    """
    keep_freed_memory()
    meters = Meters()
    batcher = make_batcher(config, meters.batch)
    predictors = {name: Predictor(None, config, loader, batcher) for name in config.names}
    return Service(config, predictors, meters)
