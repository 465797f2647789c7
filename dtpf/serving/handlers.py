"""From what goes wrong in a route to the problem document that tells of it."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from dtpf.serving.batching import AbandonedError
from dtpf.serving.predictor import NotReadyError
from dtpf.serving.problems import InputError, Problem, problem_response
from dtpf.serving.requests import ACCEPTED, ArrayQuery, FuseQuery


def add_handlers(app: FastAPI) -> None:
    """Answer every expected error of the app's routes with a problem document."""
    handlers: dict[Any, Callable[[Request, Exception], JSONResponse]] = {
        HTTPException: _on_http,
        InputError: _on_input,
        RequestValidationError: _on_validation,
        NotReadyError: _on_not_ready,
        AbandonedError: _on_not_ready,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    field = error.field if isinstance(error, Problem) else None
    return problem_response(error.status_code, error.detail, field, error.headers)


def _on_input(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InputError)
    return problem_response(422, str(error), error.field)


def _on_not_ready(_: Request, error: Exception) -> JSONResponse:
    return problem_response(503, str(error), headers={"Retry-After": "5"})


def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    route = getattr(request.scope.get("route"), "path", "")
    first = error.errors()[0]
    place, *path = first["loc"]
    field = ".".join(str(part) for part in path)
    detail = f"{field}: {first['msg']}"
    if place == "query" and first["type"] == "extra_forbidden":
        known = ArrayQuery if route == "/fuse/arrays" else FuseQuery
        detail = f"{field}: unknown; options of the query are {', '.join(known.model_fields)}"
    elif place == "body":
        wrong = "unknown" if first["type"] == "extra_forbidden" else "missing or no file"
        detail = f"{field or 'body'}: {wrong}; {ACCEPTED.get(route, '')}"
    return problem_response(422, " ".join(detail.split()), field or None)
