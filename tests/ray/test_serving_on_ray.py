"""The endpoint on a real Ray Serve: one life from the first deployment to the shutdown."""

import io
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import ray
import torch
from numpy.typing import NDArray
from PIL import Image

from dtpf.core.bundle import save_bundle
from dtpf.core.errors import UserError
from dtpf.core.fusion import Fuser
from dtpf.core.machine import free_port
from dtpf.core.models import build
from dtpf.core.storage.keys import current_key, model_prefix
from dtpf.core.storage.store import Store
from dtpf.data.images import decode_infrared, decode_visible
from dtpf.serving.client import Client
from dtpf.serving.config import ServeConfig
from tests.serving.fakes import infrared_png, visible_png

pytestmark = pytest.mark.ray


def publish(store: Store, seed: int, name: str = "student") -> str:
    """Publish an untrained network, that differs well from others; returns its version."""
    torch.manual_seed(seed)
    version = f"v{seed}"
    prefix = model_prefix(name, version)
    model = build("student_tiny")
    with torch.no_grad():
        model.out.weight.mul_(4.0 * seed)
    sha256 = save_bundle(store, prefix, model, provenance={"seed": seed})
    document = {"name": name, "version": version, "uri": store.uri_of(prefix), "sha256": sha256}
    store.write_json(current_key(name), document)
    return version


@pytest.fixture
def served(ray_cluster, tmp_path) -> Iterator[tuple[Store, ServeConfig]]:
    from dtpf.serving import on_ray

    yield (
        Store(tmp_path),
        ServeConfig(port=free_port(), num_cpus=0.5, max_body_bytes=100_000, watch_s=0.0),
    )
    on_ray.shutdown()


def post(url: str, **changes: bytes) -> httpx.Response:
    files = {"visible": visible_png(), "infrared": infrared_png()} | changes
    return httpx.post(f"{url}/fuse", files=files, timeout=60, trust_env=False)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60, trust_env=False)


class Load:
    """Keeps one request under way and counts (status, model version)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: Counter[tuple[int, str]] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = post(self.url)
            self.answers[answer.status_code, answer.headers.get("X-Model-Version", "")] += 1

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(60)


def test_busy_port_is_named_before_serve_starts(served):
    from dtpf.serving import on_ray

    store, config = served
    publish(store, 1)
    with (
        socket.create_server((config.host, config.port)),
        pytest.raises(UserError, match=f"127.0.0.1:{config.port}.*choose another port"),
    ):
        on_ray.deploy(config, store.uri)
    assert on_ray.status("dtpf")["status"] == "NOT_RUNNING"


def test_store_without_a_model_is_named(served):
    from dtpf.serving import on_ray

    store, config = served
    with pytest.raises(UserError, match=r"models/student/current\.json"):
        on_ray.deploy(config, store.uri)
    assert on_ray.status("dtpf")["status"] == "NOT_RUNNING"


def test_life_of_an_endpoint(served):
    from dtpf.serving import on_ray

    store, config = served
    first = publish(store, 1)
    url = on_ray.deploy(config, store.uri)
    assert url == f"http://127.0.0.1:{config.port}"
    assert on_ray.status("dtpf") == {"status": "RUNNING", "message": "", "replicas": {"RUNNING": 1}}
    check_answers(url, first)
    replica = check_changes_over(url, store, config)
    check_refusals(url, store, config)
    assert replica_ids() == replica


def check_answers(url: str, version: str) -> None:
    answer = post(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.headers["X-Model-Version"] == version
    assert len(answer.headers.get_list("X-Request-Id")) == 1
    assert get(f"{url}/v1/model").json()["version"] == version
    assert "<!doctype html>" in get(url).text
    bad = post(url, visible=b"no image")
    assert (bad.status_code, bad.json()["field"]) == (422, "visible")
    large = post(url, visible=bytes(200_000))
    assert (large.status_code, large.headers["Content-Type"]) == (413, "application/problem+json")


def check_changes_over(url: str, store: Store, config: ServeConfig) -> set[str]:
    """A new winner replaces the old one under load, without restart and without a lost request."""
    from dtpf.serving import on_ray

    before = replica_ids()
    assert len(before) == 1
    with Load(url) as load:
        second = publish(store, 2)
        assert on_ray.deploy(config, store.uri) == url
        assert post(url).headers["X-Model-Version"] == second
    assert {status for status, _ in load.answers} == {200}
    assert {version for _, version in load.answers} <= {"v1", "v2"}
    assert replica_ids() == before
    return before


def check_refusals(url: str, store: Store, config: ServeConfig) -> None:
    """What cannot be served leaves the endpoint as it is."""
    from ray import serve

    from dtpf.serving import on_ray

    good = on_ray.read_current(store.uri, "student")
    unfit = good.model_copy(update={"version": "v3", "sha256": "0" * 64})
    application = on_ray.application(config, [unfit], store.uri)
    serve.run(application, name=config.application)  # past deploy's own check
    assert post(url).headers["X-Model-Version"] == "v2"
    store.write_bytes(f"{model_prefix('student', publish(store, 4))}/model.safetensors", b"junk")
    with pytest.raises(UserError, match="v4"):
        on_ray.deploy(config, store.uri)
    publish(store, 5)
    elsewhere = config.model_copy(update={"port": free_port()})
    with pytest.raises(UserError, match="runs already, at another address"):
        on_ray.deploy(elsewhere, store.uri)
    assert post(url).headers["X-Model-Version"] == "v2"
    assert on_ray.status("dtpf")["status"] == "RUNNING"


def test_two_tenants_stand_beside_each_other(served, tmp_path):
    """Other store, other application, other route: neither sees the other's deployments."""
    from dtpf.serving import on_ray

    store, config = served
    config = config.model_copy(update={"num_cpus": 0.1})
    publish(store, 1)
    first = on_ray.deploy(config, store.uri)
    others = Store(tmp_path / "others")
    publish(others, 2)
    night = config.model_copy(update={"application": "night"})
    with pytest.raises(UserError, match=r"application dtpf answers .* serve\.route_prefix=/night"):
        on_ray.check_address(night)
    night = night.model_copy(update={"route_prefix": "/night"})
    second = on_ray.deploy(night, others.uri)
    assert second == f"{first}/night"
    publish(others, 3)
    on_ray.deploy(night, others.uri)
    assert post(first).headers["X-Model-Version"] == "v1"
    assert post(second).headers["X-Model-Version"] == "v3"


def test_nothing_is_lost_or_mixed_up_while_replicas_die_and_models_change(served):
    """Clients try again where a replica died under them; each answer is of the model it names."""
    from dtpf.serving import on_ray

    store, config = served
    changes = {"num_replicas": 2, "watch_s": 0.3, "num_cpus": 0.4, "also": ("other",)}
    config = config.model_copy(update=changes)
    publish(store, 2, "other")
    expected = {publish(store, seed): fused_by(store, seed) for seed in (1, 2)}
    assert np.abs(expected["v1"] - expected["v2"]).max() > 5
    url = on_ray.deploy(config, store.uri)
    answers: Counter[str] = Counter()
    end = threading.Event()

    def work() -> None:
        with Client(url, patience_s=60.0) as client:
            while not end.is_set():
                fused = client.fuse(visible_png(64, 64), infrared_png(64, 64))
                off = np.abs(pixels(fused.data) - expected[fused.version]).max()
                answers["right" if off <= 1.01 else "wrong"] += 1
                answers[fused.version] += 1

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        try:
            for kill in range(3):
                end.wait(3.0)
                publish(store, 1 + kill % 2)
                kill_a_replica()
            end.wait(3.0)
        finally:
            end.set()
        for worker in workers:
            worker.result(120)
    assert answers["wrong"] == 0
    assert answers["right"] > 20
    assert {"v1", "v2"} <= set(answers)
    assert [item["name"] for item in Client(url).models()] == ["student", "other"]
    assert Client(url).fuse(visible_png(), infrared_png(), model="other").version == "v2"


def fused_by(store: Store, seed: int) -> NDArray:
    fuser = Fuser.from_bundle(store.uri_of(model_prefix("student", f"v{seed}")))
    visible = decode_visible(visible_png(64, 64), "visible")
    fused = fuser.fuse(visible, decode_infrared(infrared_png(64, 64), "infrared"))
    return 255.0 * fused


def pixels(data: bytes) -> NDArray:
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.float64)


def kill_a_replica() -> None:
    """Kill one as soon as there is one: on a busy machine a new one may take a while."""
    deadline = time.monotonic() + 60.0
    while not (names := sorted(replica_ids())) and time.monotonic() < deadline:
        time.sleep(0.2)
    ray.kill(ray.get_actor(names[0], namespace="serve"))


def replica_ids() -> set[str]:
    """Return the names of the replicas' actors; each start of a replica makes a new one."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in named if "REPLICA" in actor["name"]}
