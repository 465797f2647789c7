"""The routes that fuse: one pair of images, one pair of arrays, a zip of pairs."""

import asyncio
import logging
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, cast

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dtpf.serving import requests as shapes
from dtpf.serving.archive import Members, PairArchive, ZipStream
from dtpf.serving.batching import AbandonedError
from dtpf.serving.predictor import NotReadyError, Prediction, Predictor
from dtpf.serving.problems import InputError
from dtpf.serving.requests import ArrayParts, ArrayQuery, FuseParts, FuseQuery
from dtpf.serving.service import Service

_SPOOL_BYTES = 2**20  # larger archives wait on disk, as uploaded files do
_logger = logging.getLogger(__name__)


def fusion_routes(service: Service) -> APIRouter:
    """Return the routes that fuse with the models of a service."""
    router = APIRouter()

    @router.post("/fuse", response_class=Response, responses=shapes.FUSE)
    async def fuse(
        request: Request,
        parts: Annotated[FuseParts, Form(media_type="multipart/form-data")],
        query: Annotated[FuseQuery, Query()],
    ) -> Response:
        """Fuse a registered pair of images into one image."""
        predictor = service.predictor(query.model)
        visible, infrared = await parts.visible.read(), await parts.infrared.read()
        prediction = await service.predict(predictor.predict, visible, infrared, query.options)
        return _answer(request, prediction)

    @router.post("/fuse/arrays", response_class=Response, responses=shapes.ARRAYS)
    async def fuse_arrays(
        request: Request,
        parts: Annotated[ArrayParts, Form(media_type="multipart/form-data")],
        query: Annotated[ArrayQuery, Query()],
    ) -> Response:
        """Fuse a pair of .npy arrays into one; for programs, without encoding and its losses."""
        predictor = service.predictor(query.model)
        visible, infrared = await parts.visible.read(), await parts.infrared.read()
        prediction = await service.predict(
            predictor.predict_arrays, visible, infrared, query.dtype, query.size
        )
        return _answer(request, prediction)

    @router.post(
        "/fuse/batch",
        response_class=StreamingResponse,
        responses=shapes.BATCH,
        openapi_extra=shapes.ZIP_BODY,
    )
    async def fuse_batch(
        request: Request, query: Annotated[FuseQuery, Query()]
    ) -> StreamingResponse:
        """Fuse a zip of pairs into a zip that streams; a bad pair is told of, not fatal."""
        predictor = service.predictor(query.model)
        version = str(predictor.info.get("version"))
        archive = await _received(request, service)
        request.scope.setdefault("state", {})["fused"] = {"pairs": len(archive.pairs)}
        return StreamingResponse(
            _fused_zip(service, predictor, archive, query),
            media_type="application/zip",
            headers={"X-Model-Version": version, "Cache-Control": "no-store"},
        )

    return router


def _answer(request: Request, prediction: Prediction) -> Response:
    timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in prediction.timings.items())
    request.scope.setdefault("state", {})["fused"] = {
        "version": prediction.version,
        "size": f"{prediction.width}x{prediction.height}",
        **{f"{name}_ms": round(ms, 1) for name, ms in prediction.timings.items()},
    }
    headers = {
        "X-Model-Version": prediction.version,
        "X-Fusion-Warnings": prediction.warnings,
        "Server-Timing": timing,
        "Cache-Control": "no-store",
    }
    return Response(prediction.data, media_type=prediction.media_type, headers=headers)


async def _received(request: Request, service: Service) -> PairArchive:
    """Take the archive from the body; beyond a size it waits on disk, not in memory."""
    # The archive closes it when nobody reads from it any more.
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
    async for chunk in request.stream():
        await asyncio.to_thread(spool.write, chunk)
    limits = service.config.max_archive_pairs, service.config.max_archive_bytes
    return await service.run(PairArchive, spool, *limits)


async def _fused_zip(
    service: Service, predictor: Predictor, archive: PairArchive, query: FuseQuery
) -> AsyncIterator[bytes]:
    """Yield the answer's bytes; some pairs are under way at a time, so that batches fill."""
    stream, report, abandoned = ZipStream(), list[dict[str, Any]](), threading.Event()
    waiting = deque(archive.pairs)
    running: deque[asyncio.Task[dict[str, Any]]] = deque()

    def work(pair: Members) -> dict[str, Any]:
        return _fused_member(predictor, archive, pair, query, abandoned)

    try:
        while waiting or running:
            while waiting and len(running) < service.config.max_batch_size:
                running.append(asyncio.create_task(service.run(work, waiting.popleft())))
            outcome = await running[0]
            running.popleft()
            data = outcome.pop("data", None)
            report.append(outcome)
            if data is not None:
                service.meters.stages(outcome["timings"])
                yield stream.add(outcome["file"], data)
        for piece in stream.end(report):
            yield piece
    finally:
        abandoned.set()
        for task in running:
            task.cancel()


def _fused_member(
    predictor: Predictor,
    archive: PairArchive,
    pair: Members,
    query: FuseQuery,
    abandoned: threading.Event,
) -> dict[str, Any]:
    """Fuse one pair of an archive; whatever goes wrong with it is told, not raised."""
    try:
        for field, member in (("visible", pair.visible), ("infrared", pair.infrared)):
            if member is None:
                raise InputError(field, f"the archive has no {field}/{pair.name}.*")
        assert pair.visible is not None
        assert pair.infrared is not None
        visible = archive.read(pair.visible, "visible")
        infrared = archive.read(pair.infrared, "infrared")
        prediction = predictor.predict(visible, infrared, query.options, abandoned)
    except InputError as error:
        problem = {"field": error.field, "detail": str(error)}
        return {"name": pair.name, "status": "failed", **problem}
    except Exception as error:
        if not isinstance(error, AbandonedError | NotReadyError):
            _logger.exception("pair %r of an archive failed", pair.name)
        return {"name": pair.name, "status": "failed", "detail": "the server failed"}
    return {
        "name": pair.name,
        "status": "fused",
        "file": f"fused/{pair.name}.{query.format}",
        "version": prediction.version,
        "warnings": prediction.warnings,
        "timings": {stage: round(ms, 1) for stage, ms in prediction.timings.items()},
        "data": prediction.data,
    }
