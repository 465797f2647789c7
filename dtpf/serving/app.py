"""The HTTP app: one factory, used under uvicorn and inside Ray Serve's replicas alike."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Query, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from dtpf.serving.config import ServeConfig
from dtpf.serving.examples import ExamplePairs
from dtpf.serving.limits import Admission, BodyLimit, Deadline, Envelope
from dtpf.serving.predictor import (
    NotReadyError,
    OutputFormat,
    OutputOptions,
    Prediction,
    Predictor,
)
from dtpf.serving.problems import InputError, Problem, problem_response

PAGE = Path(__file__).with_name("page")


class FuseParts(BaseModel):
    """The two parts of a fusion request."""

    model_config = ConfigDict(extra="forbid")

    visible: UploadFile
    infrared: UploadFile


class FuseQuery(BaseModel):
    """The options of a fusion request; they go into the query string."""

    model_config = ConfigDict(extra="forbid")

    format: OutputFormat = "png"
    quality: int = Field(90, ge=1, le=100, description="JPEG and WebP quality")
    gray: bool = Field(False, description="Return the luminance alone")


def create_app(
    predictor: Predictor, config: ServeConfig, announce_request_id: bool = True
) -> FastAPI:
    """Build the app around a predictor.

    Routes: `POST /fuse`, `GET /v1/model`, `/healthz`, `/readyz`, `/examples`, and the page at `/`.
    `announce_request_id` is off where a proxy adds the X-Request-Id header itself.
    """
    workers = ThreadPoolExecutor(config.max_ongoing_requests, thread_name_prefix="fuse")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        workers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="dtpf",
        summary="Fuses a visible and an infrared image of one scene",
        docs_url=None,  # the interactive documents load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        middleware=_middleware(config, announce_request_id),
    )
    _add_handlers(app)
    _add_fusion(app, predictor, workers)
    _add_status(app, predictor, config)
    _add_page(app)
    return app


def _middleware(config: ServeConfig, announce_request_id: bool) -> list[Middleware]:
    capacity = config.max_ongoing_requests + config.max_queued_requests
    return [
        Middleware(Envelope, announce_id=announce_request_id),
        Middleware(Admission, capacity=capacity),
        Middleware(Deadline, seconds=config.request_timeout_s),
        Middleware(BodyLimit, max_bytes=config.max_body_bytes),
    ]


def _add_fusion(app: FastAPI, predictor: Predictor, workers: ThreadPoolExecutor) -> None:
    @app.post("/fuse", response_class=Response, responses=_FUSE_RESPONSES)
    async def fuse(
        parts: Annotated[FuseParts, Form(media_type="multipart/form-data")],
        query: Annotated[FuseQuery, Query()],
    ) -> Response:
        """Fuse a registered pair of one size (PNG, JPEG, TIFF or WebP) into one image."""
        visible, infrared = await parts.visible.read(), await parts.infrared.read()
        options = OutputOptions(query.format, query.quality, query.gray)
        work = functools.partial(predictor.predict, visible, infrared, options)
        # The pool, not the event loop, bounds the work: a request that timed out gives its
        # thread back only when the model call has really ended.
        prediction = await asyncio.get_running_loop().run_in_executor(workers, work)
        return _image_response(prediction)


def _image_response(prediction: Prediction) -> Response:
    timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in prediction.timings.items())
    headers = {
        "X-Model-Version": prediction.version,
        "X-Fusion-Warnings": prediction.warnings,
        "Server-Timing": timing,
        "Cache-Control": "no-store",
    }
    return Response(prediction.data, media_type=prediction.media_type, headers=headers)


def _add_status(app: FastAPI, predictor: Predictor, config: ServeConfig) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Say whether a model is loaded; 503 until then."""
        return {"status": "ready", "version": str(predictor.info.get("version"))}

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """Describe the served model and the limits of this endpoint."""
        limits = {"max_body_bytes": config.max_body_bytes, "max_pixels": config.max_pixels}
        return {"name": config.name, **predictor.info, "limits": limits}


def _add_page(app: FastAPI) -> None:
    pairs = ExamplePairs()

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/examples")
    def examples() -> list[dict[str, str]]:
        """List the example pairs."""
        return pairs.listing()

    @app.get("/examples/{name}/{modality}.png", response_class=Response)
    def example(name: str, modality: str) -> Response:
        """Return one image of an example pair."""
        try:
            data = pairs.image(name, modality)
        except KeyError:
            raise Problem(404, f"no example {name}/{modality}; GET /examples lists them") from None
        return Response(data, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    app.mount("/static", StaticFiles(directory=PAGE), name="static")


def _add_handlers(app: FastAPI) -> None:
    def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        field = error.field if isinstance(error, Problem) else None
        return problem_response(error.status_code, error.detail, field, error.headers)

    def on_input(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InputError)
        return problem_response(422, str(error), error.field)

    def on_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _validation_problem(error)

    def on_not_ready(_: Request, error: Exception) -> JSONResponse:
        return problem_response(503, str(error), headers={"Retry-After": "5"})

    handlers: dict[Any, Callable[[Request, Exception], JSONResponse]] = {
        HTTPException: on_http,
        InputError: on_input,
        RequestValidationError: on_validation,
        NotReadyError: on_not_ready,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _validation_problem(error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    place, *path = first["loc"]
    field = ".".join(str(part) for part in path)
    detail = f"{field}: {first['msg']}"
    if first["type"] == "extra_forbidden":
        detail = f"{field}: unknown; {_ACCEPTED[str(place)]}"
    elif place == "body":
        detail = f"{field or 'body'}: missing or no file; {_ACCEPTED['body']}"
    return problem_response(422, detail, field or None)


_ACCEPTED = {
    "body": "send multipart/form-data with the files 'visible' and 'infrared' and nothing else",
    "query": f"options of the query are {', '.join(FuseQuery.model_fields)}",
}

_FUSE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The fused image",
        "content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp")},
    },
    **{
        status: {"description": text, "content": {"application/problem+json": {}}}
        for status, text in (
            (408, "The request did not arrive in time"),
            (413, "The body is too large"),
            (422, "An image or an option cannot be used; `field` names it"),
            (503, "Too much to do; `Retry-After` says when to try again"),
            (504, "No answer in time"),
        )
    },
}
