"""Which version is current: forward by publishing, back by one command, never lost."""

import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage.keys import current_key, history_key
from dtpf.core.storage.store import Store
from dtpf.pipeline import registry


def version(name: str) -> registry.Version:
    return registry.Version(version=name, uri=f"file:///models/{name}", sha256=name * 4)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    for name in "abc":
        registry.make_current(store, "m", version(name))
    return store


def now(store: Store) -> str:
    return store.read_json(current_key("m"))["version"]


def test_what_is_published_last_is_current_and_the_order_is_kept(store):
    assert now(store) == "c"
    assert [item.version for item in registry.history(store, "m")] == ["a", "b", "c"]
    assert set(store.read_json(current_key("m"))) == {"name", "version", "uri", "sha256"}


def test_back_step_by_step_and_no_further(store):
    assert [item.version for item in registry.roll_back(store, "m")] == ["c", "b"]
    assert registry.withdrawn(store, "m", "c")
    assert not registry.withdrawn(store, "m", "b")
    registry.roll_back(store, "m")
    assert now(store) == "a"
    with pytest.raises(UserError, match=r"no earlier version.*from a"):
        registry.roll_back(store, "m")
    assert now(store) == "a"


def test_back_to_a_named_version_takes_back_what_is_between(store):
    registry.roll_back(store, "m", to="a")
    assert now(store) == "a"
    assert [bool(item.withdrawn) for item in registry.history(store, "m")] == [False, True, True]
    with pytest.raises(UserError, match="no version z"):
        registry.roll_back(store, "m", to="z")


def test_after_a_rollback_the_way_back_skips_what_was_taken_back(store):
    registry.roll_back(store, "m")
    registry.make_current(store, "m", version("d"))
    assert registry.roll_back(store, "m")[1].version == "b"


def test_a_version_made_current_again_is_taken_back_no_more(store):
    registry.roll_back(store, "m")
    registry.make_current(store, "m", version("c"))
    assert not registry.withdrawn(store, "m", "c")
    assert registry.roll_back(store, "m")[1].version == "b"


def test_a_store_from_before_the_history_has_one_version(store):
    store.delete(history_key("m"))
    assert [item.version for item in registry.history(store, "m")] == ["c"]
    registry.make_current(store, "m", version("d"))
    assert registry.roll_back(store, "m")[1].version == "c"


def test_killed_between_both_writes_nothing_is_lost(store, monkeypatch):
    """The history is written, current.json is not: both ways go on from there."""
    monkeypatch.setattr(registry, "_point", lambda *arguments: None)
    registry.make_current(store, "m", version("d"))
    monkeypatch.undo()
    assert now(store) == "c"
    assert registry.roll_back(store, "m")[1].version == "b"
    registry.make_current(store, "m", version("d"))
    assert now(store) == "d"


def test_an_unknown_name_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing is published under 'x'"):
        registry.history(Store(tmp_path), "x")
    assert registry.current(Store(tmp_path), "x") is None
