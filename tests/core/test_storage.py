"""Stores on disk and on a real S3 server behave alike; nothing half-written is visible."""

import os
import pickle
import stat

import pyarrow as pa
import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage import store as store_module
from dtpf.core.storage.keys import stage_keys
from dtpf.core.storage.receipts import Receipt, environment, read_receipt, utc_now, write_receipt
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import join_uri, local_path, normalise_uri, read_bytes


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path) -> Store:
    if request.param == "file":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3_store") + "/some/prefix")


def test_objects_round_trip(store):
    store.check_writable()
    store.write_bytes("a/b.bin", b"one")
    store.write_bytes("a/b.bin", b"two")
    store.write_json("a/c.json", {"x": [1, None]})
    assert store.read_bytes("a/b.bin") == b"two"
    assert read_bytes(store.uri_of("a/b.bin")) == b"two"
    assert store.read_json("a/c.json") == {"x": [1, None]}
    assert store.keys("a") == ["a/b.bin", "a/c.json"]
    assert store.keys("nothing") == []


def test_create_never_replaces(store):
    assert store.create("k", b"first")
    assert not store.create("k", b"second")
    assert store.read_bytes("k") == b"first"


def test_delete_takes_objects_and_prefixes(store):
    for key in ("p/1", "p/q/2", "other"):
        store.write_bytes(key, b"x")
    store.delete("p")
    store.delete("p")
    assert not store.exists("p/1")
    assert store.exists("other")
    store.delete("other")
    assert not store.exists("other")


def test_tables_round_trip_as_one_object_or_many(store):
    for part in range(2):
        table = pa.table({"n": [part, part + 10]})
        store.write_table(f"t/part-{part:05d}.parquet", table)
    assert sorted(store.read_table("t")["n"].to_pylist()) == [0, 1, 10, 11]
    assert store.read_table("t/part-00001.parquet")["n"].to_pylist() == [1, 11]
    with pytest.raises(UserError, match="no Parquet"):
        store.read_table("elsewhere")


def test_a_missing_object_is_named(store):
    with pytest.raises(UserError, match=r"nothing/here: no such file"):
        store.read_bytes("nothing/here")


def test_stores_travel_to_workers(store):
    store.write_bytes("k", b"x")
    assert pickle.loads(pickle.dumps(store)).read_bytes("k") == b"x"


def test_a_failed_write_leaves_the_old_object_and_no_debris(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write_bytes("k", b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full_disk)
    with pytest.raises(UserError, match="disk is full"):
        store.write_bytes("k", b"new")
    assert store.read_bytes("k") == b"old"
    assert os.listdir(tmp_path) == ["k"]


def test_unfinished_writes_are_not_listed(tmp_path):
    store = Store(tmp_path)
    store.write_bytes("p/k", b"x")
    (tmp_path / "p" / ".k.123.tmp").write_bytes(b"half")
    assert store.keys("p") == ["p/k"]


def test_an_unwritable_store_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="file"):
        Store(blocked / "store").check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match="rights"):
        Store(tmp_path / "s").check_writable()


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3_store):
    with pytest.raises(UserError, match="bucket does not exist; create it"):
        Store("s3://there-is-no-such-bucket/x").check_writable()


@pytest.mark.s3
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_refused_keys_name_the_variable(s3_store, monkeypatch, variable):
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(UserError, match=variable):
        Store(s3_store).check_writable()


@pytest.mark.s3
def test_an_absent_server_names_the_variable(s3_store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL"):
        Store(s3_store).check_writable()


def test_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert normalise_uri("data") == f"file://{tmp_path}/data"
    assert normalise_uri("s3://b/p/") == "s3://b/p"
    assert normalise_uri("file:///odd %20#name?/") == "file:///odd %20#name?"
    assert join_uri("s3://b/", "x", "/y/") == "s3://b/x/y"
    assert local_path("s3://b/p") is None
    assert local_path("file:///x") is not None
    with pytest.raises(UserError, match="scheme 'ftp'"):
        normalise_uri("ftp://host/x")


def test_receipts_round_trip(tmp_path):
    store = Store(tmp_path)
    place = stage_keys("teacher", "abc", run="r", dataset="d")
    assert read_receipt(store, place) is None
    receipt = Receipt(
        stage="teacher",
        fingerprint="abc",
        inputs={"caption": "def"},
        outputs={"bundle": "k"},
        config={"width": 8},
        seconds=1.5,
        finished=utc_now(),
        environment=environment(),
    )
    write_receipt(store, place, receipt)
    assert read_receipt(store, place) == receipt
    assert receipt.environment["torch"][0].isdigit()


def test_shared_stages_lie_with_their_data_set():
    assert stage_keys("data", "f", run="r", dataset="d").root == "datasets/d/f"
    assert stage_keys("caption", "f", run="r", dataset="d").root == "captions/d/f"
    assert stage_keys("student", "f", run="r", dataset="d").root == "runs/r/student-f"
