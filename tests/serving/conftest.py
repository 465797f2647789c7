from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from dtpf.serving.app import create_app
from dtpf.serving.config import ServeConfig
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import Service
from tests.serving.fakes import MeanFuser, infrared_png, load, visible_png


@pytest.fixture
def config() -> ServeConfig:
    return ServeConfig(max_body_bytes=200_000, max_pixels=4096, request_timeout_s=20.0)


@pytest.fixture
def fuser() -> MeanFuser:
    return MeanFuser(parameters=7)


@pytest.fixture
def predictor(fuser: MeanFuser, config: ServeConfig) -> Predictor:
    return Predictor(fuser, config, load)


@pytest.fixture
def client(predictor: Predictor, config: ServeConfig) -> Iterator[TestClient]:
    with TestClient(create_app(Service(config, {config.name: predictor}))) as opened:
        yield opened


@pytest.fixture
def pair() -> dict[str, bytes]:
    return {"visible": visible_png(), "infrared": infrared_png()}
