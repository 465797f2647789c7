"""A captioned data set in a store, made once for all training tests."""

import pytest

from dtpf.core.storage.store import Store
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.specs import teacher_spec
from dtpf.pipeline.stages import Context
from dtpf.training.config import TrainSpec
from tests.small import small_config


@pytest.fixture(scope="session")
def captioned(tmp_path_factory) -> Plan:
    plan = Plan(small_config(), Store(tmp_path_factory.mktemp("captioned")))
    context = Context(plan, in_process(), Console(lambda text: None))
    run_stages(context, ["data", "caption"])
    return plan


@pytest.fixture
def spec(captioned, request) -> TrainSpec:
    """A teacher run of its own over the shared data."""
    root = f"runs/{request.node.name.replace('/', '_')}"
    receipts = captioned.need("data"), captioned.need("caption")
    return teacher_spec(captioned.config, captioned.store.uri, root, *receipts)
