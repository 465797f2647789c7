"""A new winner is noticed; whatever goes wrong leaves the present one in place."""

import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage.keys import current_key
from dtpf.core.storage.store import Store
from dtpf.serving.config import ServeConfig
from dtpf.serving.local import follow
from dtpf.serving.predictor import Predictor
from dtpf.serving.service import make_service
from dtpf.serving.watch import CurrentModel, Watcher, read_current
from tests.serving.fakes import MeanFuser, load
from tests.serving.test_batching import until


def fake(uri: str) -> MeanFuser:
    fuser = load(uri)
    fuser.info["uri"] = uri
    return fuser


def publish(store: Store, uri: str, name: str = "student", **changes: str) -> None:
    document = {"name": name, "version": uri, "uri": uri, "sha256": f"sha-{uri}"} | changes
    store.write_json(current_key(name), document)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def predictor(config):
    return Predictor(fake("v1"), config, fake)


@pytest.fixture
def watcher(predictor, store):
    publish(store, "v1")
    return Watcher({"student": predictor}, lambda name: read_current(store.uri, name), 0.01)


def test_new_winner_is_loaded_once(watcher, predictor, store):
    first = predictor._loaded
    watcher.look()
    assert predictor._loaded is first
    publish(store, "v2")
    watcher.look()
    second = predictor._loaded
    watcher.look()
    assert predictor.info["version"] == "v2"
    assert predictor._loaded is second


@pytest.mark.parametrize(
    "spoil",
    [
        lambda store: store.delete(current_key("student")),
        lambda store: store.write_bytes(current_key("student"), b"{"),
        lambda store: store.write_json(current_key("student"), {"uri": "v2"}),
        lambda store: publish(store, "missing"),
        lambda store: publish(store, "nan"),
        lambda store: publish(store, "defect"),
        lambda store: publish(store, "v2", sha256="other"),
    ],
)
def test_what_cannot_be_served_changes_nothing_and_is_told_once(
    watcher, predictor, store, spoil, caplog
):
    spoil(store)
    for _ in range(3):
        watcher.look()
    assert predictor.info["version"] == "v1"
    assert len([r for r in caplog.records if "stays as it is" in r.message]) == 1
    publish(store, "v3")
    watcher.look()
    assert predictor.info["version"] == "v3"


def test_it_goes_on_by_itself_until_it_is_stopped(watcher, predictor, store):
    watcher.start()
    publish(store, "v2")
    until(lambda: predictor.info["version"] == "v2")
    watcher.stop()
    assert not watcher.running


def test_models_are_followed_each_for_itself(store):
    config = ServeConfig(name="day", also=("night",), watch_s=0.01)
    service = make_service(config, fake)
    for name in config.names:
        publish(store, f"{name}-1", name)
        service.predictors[name].load(f"{name}-1")
    sources = {name: store.uri_of(current_key(name)) for name in config.names}
    watcher = follow(service, sources)
    try:
        publish(store, "night-2", "night")
        until(lambda: service.predictors["night"].info["version"] == "night-2")
        assert service.predictors["day"].info["version"] == "day-1"
    finally:
        watcher.stop()
        service.close()


def test_a_bundle_that_cannot_change_is_not_watched(config, store):
    service = make_service(config, fake)
    assert not follow(service, {"student": store.uri_of("models/student/v1")}).running


def test_document_names_what_is_wrong(store):
    store.write_json(current_key("student"), {"name": "student"})
    with pytest.raises(UserError, match=r"current\.json: version"):
        read_current(store.uri, "student")
    assert set(CurrentModel.model_fields) == {"name", "version", "uri", "sha256"}
