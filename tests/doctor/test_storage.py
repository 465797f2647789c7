"""The store: folders, a real S3 server, and stores that do not keep their promises."""

import os
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from dtpf.core.machine import free_port
from dtpf.core.storage.store import Store
from dtpf.doctor import storage
from dtpf.doctor.storage import check_clock, check_create, check_objects, check_shared, check_store
from tests.doctor.test_access import server


def by_name(found) -> dict:
    return {item.name: item for item in found}


def test_a_folder_passes_and_is_left_as_it_was(tmp_path):
    (tmp_path / "mine").write_text("stays")
    found = by_name(check_store(str(tmp_path)))
    assert set(found) == {"store.objects", "store.create", "store.speed"}
    assert found["store.objects"].status == found["store.create"].status == "pass"
    assert "MB/s" in found["store.speed"].found
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.s3
def test_a_real_s3_server_passes_and_is_left_empty(s3_store):
    found = by_name(check_store(s3_store))
    assert set(found) == {"store.objects", "store.create", "store.speed", "store.clock"}
    assert {found[name].status for name in found if name != "store.speed"} == {"pass"}
    assert Store(s3_store).keys("") == []
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(found)


@pytest.mark.s3
def test_refused_keys_are_a_failure_without_the_secret(s3_store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim-and-wrong")
    found = by_name(check_store(s3_store))
    assert found["store.objects"].status == "fail"
    assert "AWS_SECRET_ACCESS_KEY" in found["store.objects"].remedy
    assert "store.create" not in found  # one line says it
    assert "geheim" not in str(found)


@pytest.mark.s3
def test_a_missing_bucket_is_a_failure_that_says_so(s3_store):
    found = by_name(check_store("s3://no-such-bucket/x"))
    assert found["store.objects"].status == "fail"
    assert "create it first" in found["store.objects"].remedy


def test_a_server_that_does_not_answer_is_a_failure(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    found = by_name(check_store("s3://bucket/x"))
    assert found["store.objects"].status == "fail"
    assert "AWS_ENDPOINT_URL" in found["store.objects"].remedy
    assert found["store.clock"].status == "warn"


def test_a_place_that_cannot_be_written_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert check_store(str(tmp_path / "file/store"))[0].status == "fail"


class Replacing(Store):
    """As a server that does not know conditional writes."""

    def create(self, key: str, data: bytes) -> bool:
        self.write_bytes(key, data)
        return True


class Forgetful(Store):
    """As a server that lists nothing."""

    def keys(self, prefix: str) -> list[str]:
        return []


class Damaging(Store):
    """As a server that returns other bytes."""

    def read_bytes(self, key: str) -> bytes:
        return super().read_bytes(key)[::-1]


def test_a_store_that_replaces_what_was_created_is_a_failure(tmp_path):
    assert check_create(Store(tmp_path), "x").status == "pass"
    found = check_create(Replacing(tmp_path), "y")
    assert found.status == "fail"
    assert "If-None-Match" in found.remedy


@pytest.mark.parametrize("kind", [Forgetful, Damaging])
def test_a_store_that_loses_or_changes_objects_is_a_failure(tmp_path, kind):
    assert check_objects(Store(tmp_path), "x").status == "pass"
    assert check_objects(kind(tmp_path), "y").status == "fail"


def test_a_slow_store_is_warned_of(tmp_path):
    store = Store(tmp_path)
    assert storage.check_speed(store, "x", slowest=0, latest=1e9).status == "pass"
    assert storage.check_speed(store, "x", slowest=1e15, latest=1e9).status == "warn"
    assert storage.check_speed(store, "x", slowest=0, latest=0).status == "warn"


@pytest.mark.parametrize(("ahead", "status"), [(0, "pass"), (-3600, "fail")])
def test_the_date_of_a_refusal_will_do(monkeypatch, ahead, status):
    with server(403, {"Date": formatdate(time.time() + ahead, usegmt=True)}) as (address, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:geheim@{address}")
        found = check_clock()
    assert found.status == status
    assert "geheim" not in str(found)
    assert "Authorization" not in asked[0][2]


def test_a_folder_that_is_another_one_elsewhere_is_a_failure(tmp_path):
    def folder(name: str) -> Store:
        return Store(Path(tmp_path / name))

    folder("here").write_bytes("probe/shared", b"said")
    (found,) = check_shared(folder("here"), "probe/shared", b"said", "node a")
    assert found.status == "pass"
    (found,) = check_shared(folder("there"), "probe/shared", b"said", "node b")
    assert found.status == "fail"
    assert "node b" in found.found
