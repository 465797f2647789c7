"""The HTTP app: one factory, used under uvicorn and inside Ray Serve's replicas alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from dtpf.serving import meters
from dtpf.serving.access import Door
from dtpf.serving.config import ServeConfig
from dtpf.serving.envelope import REQUEST_ID, Envelope
from dtpf.serving.examples import ExamplePairs
from dtpf.serving.fusing import fusion_routes
from dtpf.serving.handlers import add_handlers
from dtpf.serving.limits import Admission, BodyLimit, Deadline
from dtpf.serving.problems import Problem
from dtpf.serving.requests import problems
from dtpf.serving.service import Service
from dtpf.serving.tokens import TokenFile

PAGE = Path(__file__).with_name("page")

_READABLE = ["X-Model-Version", "X-Fusion-Warnings", "Server-Timing", "Retry-After", REQUEST_ID]


def create_app(service: Service, announce_request_id: bool = True) -> FastAPI:
    """Build the app around a service.

    Routes: `POST /fuse`, `/fuse/arrays` and `/fuse/batch`; `GET /v1/model`, `/v1/models`,
    `/healthz`, `/readyz`, `/metrics`, `/examples`, and the page at `/`.
    `announce_request_id` is off where a proxy adds the X-Request-Id header itself.

    Raises:
        UserError: the tokens file cannot be used.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="dtpf",
        summary="Fuses a visible and an infrared image of one scene",
        docs_url=None,  # the interactive documents load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        middleware=_middleware(service, announce_request_id),
    )
    add_handlers(app)
    app.include_router(fusion_routes(service))
    _add_status(app, service)
    _add_page(app)
    return app


def _middleware(service: Service, announce_request_id: bool) -> list[Middleware]:
    """Return the layers from the outside in; see the modules they come from."""
    config = service.config
    return [
        Middleware(
            Envelope,
            announce_id=announce_request_id,
            meters=service.meters,
            log=config.log_requests,
        ),
        *_doors(config),
        Middleware(Admission, capacity=config.capacity),
        Middleware(
            Deadline,
            seconds=config.request_timeout_s,
            idle_s=config.body_idle_s,
            streamed_s=config.archive_timeout_s,
        ),
        Middleware(BodyLimit, max_bytes=config.max_body_bytes),
    ]


def _doors(config: ServeConfig) -> list[Middleware]:
    doors = []
    if config.cors_origins:
        # Before the tokens: a browser asks leave without one.
        doors.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", REQUEST_ID],
                expose_headers=_READABLE,
            )
        )
    if config.tokens_file is not None:
        doors.append(Middleware(Door, tokens=TokenFile(config.tokens_file)))
    return doors


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses=problems(503))
    async def readyz() -> dict[str, str]:
        """Say whether all models are loaded; 503 until then."""
        versions = [str(item.info.get("version")) for item in service.predictors.values()]
        return {"status": "ready", "version": versions[0]}

    @app.get("/v1/model", responses=problems(401, 503))
    async def model() -> dict[str, Any]:
        """Describe the default model and the limits of this endpoint."""
        return service.describe(service.config.name)

    @app.get("/v1/models", responses=problems(401, 503))
    async def models() -> list[dict[str, Any]]:
        """Describe all served models; the first is the default."""
        return [service.describe(name) for name in service.predictors]

    @app.get("/v1/models/{name}", responses=problems(401, 404, 503))
    async def named_model(name: str) -> dict[str, Any]:
        """Describe one served model."""
        if name not in service.predictors:
            raise Problem(404, f"model {name!r} is not served; GET /v1/models lists them")
        return service.describe(name)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **problems(401)},
    )
    async def metrics() -> Response:
        """Return this process's counters in Prometheus' text format."""
        return Response(service.meters.text(), media_type=meters.MEDIA_TYPE)


def _add_page(app: FastAPI) -> None:
    pairs = ExamplePairs()

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/examples")
    def examples() -> list[dict[str, str]]:
        """List the example pairs."""
        return pairs.listing()

    @app.get(
        "/examples/{name}/{modality}.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems(404)},
    )
    def example(name: str, modality: str) -> Response:
        """Return one image of an example pair."""
        try:
            data = pairs.image(name, modality)
        except KeyError:
            raise Problem(404, f"no example {name}/{modality}; GET /examples lists them") from None
        return Response(data, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    app.mount("/static", StaticFiles(directory=PAGE), name="static")
