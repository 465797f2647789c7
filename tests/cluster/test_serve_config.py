"""The endpoint as a file: accepted by Ray Serve's schema, its arguments by ServeConfig."""

import pytest
import torch
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from dtpf.core.bundle import save_bundle
from dtpf.core.errors import UserError
from dtpf.core.models import build as build_model
from dtpf.core.storage.keys import current_key, model_prefix
from dtpf.core.storage.store import Store
from dtpf.serving import on_ray
from dtpf.serving.config import ServeConfig
from tests.cluster.manifests import FOLDER, ROOT


def on_hosts() -> dict:
    return yaml.safe_load((ROOT / "cluster" / "serve.yaml").read_text(encoding="utf-8"))


def on_kubernetes() -> dict:
    service = yaml.safe_load((FOLDER / "service" / "ray_service.yaml").read_text(encoding="utf-8"))
    return yaml.safe_load(service["spec"]["serveConfigV2"])


CONFIGS = pytest.mark.parametrize("load", [on_hosts, on_kubernetes])


@pytest.fixture
def store(tmp_path) -> Store:
    """A store whose model `student` is untrained."""
    torch.manual_seed(0)
    made = Store(tmp_path)
    prefix = model_prefix("student", "v1")
    sha256 = save_bundle(made, prefix, build_model("student_tiny"), provenance={})
    document = {"name": "student", "version": "v1", "uri": made.uri_of(prefix), "sha256": sha256}
    made.write_json(current_key("student"), document)
    return made


@CONFIGS
def test_serves_schema_accepts_it(load):
    schema = ServeDeploySchema.model_validate(load())
    assert schema.model_dump(exclude_unset=True, mode="json") == load()


def test_serves_schema_notices_a_wrong_field():
    config = on_hosts() | {"proxy_location": "Everywhere"}
    with pytest.raises(ValueError, match="proxy_location"):
        ServeDeploySchema.model_validate(config)


@CONFIGS
def test_builder_takes_its_arguments(load, store):
    (app,) = load()["applications"]
    module, _, name = app["import_path"].partition(":")
    assert (module, getattr(on_ray, name)) == (on_ray.__name__, on_ray.build)
    built = on_ray.build(app["args"] | {"store": store.uri})
    assert isinstance(built, serve.Application)


@CONFIGS
def test_the_replicas_own_deadline_comes_first(load):
    config = load()
    settings = config["applications"][0]["args"].copy()
    del settings["store"]
    serving = ServeConfig.parse(settings, "test")
    longest = max(serving.request_timeout_s, serving.archive_timeout_s)
    assert config["http_options"]["request_timeout_s"] == longest + 5


def test_hosts_listen_on_loopback_and_pods_want_tokens():
    assert on_hosts()["http_options"]["host"] == "127.0.0.1"
    assert on_kubernetes()["http_options"]["host"] == "0.0.0.0"
    assert on_kubernetes()["applications"][0]["args"]["tokens_file"]


def test_application_has_the_name_that_the_pipeline_deploys():
    assert {load()["applications"][0]["name"] for load in (on_hosts, on_kubernetes)} == {"dtpf"}


def test_current_models_of_the_store_are_served(store):
    built = on_ray.build({"store": store.uri, "num_replicas": 3, "watch_s": 0.0})
    deployment = built._bound_deployment
    (model,) = deployment._deployment_config.user_config["models"]
    assert model["version"] == "v1"
    assert deployment.num_replicas == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store": None}, "serve config, args: store: name the store"),
        ({"num_gpu": 1.0}, "serve config, args: num_gpu: "),
        ({"name": "teacher"}, r"models/teacher/current\.json"),
    ],
)
def test_wrong_arguments_are_named(store, change, message):
    with pytest.raises(UserError, match=message):
        on_ray.build({"store": store.uri} | change)
