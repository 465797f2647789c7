"""The OpenAPI document holds: schemathesis asks what it allows and what it forbids."""

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import Service
from tests.serving.fakes import MeanFuser, load

load_all_checks()


@schemathesis.serializer("application/zip")
def as_bytes(_, value):
    return value if isinstance(value, bytes) else str(value).encode()


# Random bytes are no image, so that 422 may answer a request of the right shape.
NOT_MEANT = ["positive_data_acceptance"]

# Calls of one example each are few and quick, so the routes that fuse get more of them.
EXAMPLES = {"/fuse": 20, "/fuse/arrays": 20, "/fuse/batch": 10}

ROUTES = [
    "GET /examples",
    "GET /examples/{name}/{modality}.png",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/model",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "POST /fuse",
    "POST /fuse/arrays",
    "POST /fuse/batch",
]


@pytest.fixture(scope="module")
def operations():
    config = ServeConfig(log_requests=False)
    app = create_app(Service(config, {"student": Predictor(MeanFuser(), config, load)}))

    async def one_life(scope, receive, send):
        """Keep the app open: schemathesis starts and ends what it calls with each call."""
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        await app(scope, receive, send)

    document = schemathesis.openapi.from_asgi("/openapi.json", one_life)
    found = [result.ok() for result in document.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_document_names_every_route(operations):
    assert sorted(operations) == ROUTES


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES)
def test_app_keeps_to_its_document(operations, route, mode):
    operation = operations[route]

    @hypothesis.settings(
        max_examples=EXAMPLES.get(operation.path, 5),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
        excluded = [CHECKS.get_one(name) for name in NOT_MEANT]
        case.call_and_validate(excluded_checks=excluded)

    try:
        holds()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("nothing that this route could be asked wrongly")
