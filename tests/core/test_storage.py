"""Stores on disk and on a real S3 server behave alike; nothing half-written is visible."""

import os
import pickle
import stat
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dtpf.core.errors import UserError
from dtpf.core.storage import store as store_module
from dtpf.core.storage.keys import stage_keys
from dtpf.core.storage.patience import StorageAway
from dtpf.core.storage.receipts import Receipt, environment, read_receipt, utc_now, write_receipt
from dtpf.core.storage.store import Store, _s3_client
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


@pytest.mark.parametrize(
    ("start", "stop"),
    [(4, 5), (3, 6), (2, 7), (0, 10), (8, 12), (9, 10), (10, 12), (20, 30), (0, 0), (4, 4)],
)
def test_rows_are_read_within_groups_across_them_and_past_the_end(store, start, stop):
    table = pa.table({"n": list(range(10)), "text": [f"row {n}" for n in range(10)]})
    store.write_table("t.parquet", table, row_group_rows=3)
    rows = store.read_rows("t.parquet", start, stop)
    assert rows.schema == table.schema
    assert rows.to_pylist() == table.to_pylist()[start:stop]


def test_only_columns_that_are_asked_for_are_read(store):
    table = pa.table({"n": [0, 1, 2, 3], "text": list("abcd"), "other": list("efgh")})
    store.write_table("t.parquet", table, row_group_rows=2)
    rows = store.read_rows("t.parquet", 1, 3, ["other", "n"])
    assert sorted(rows.column_names) == ["n", "other"]
    assert rows.select(["n", "other"]).to_pylist() == [
        {"n": 1, "other": "f"},
        {"n": 2, "other": "g"},
    ]


@pytest.mark.parametrize(("row_group_rows", "groups"), [(3, 4), (10, 1), (None, 1)])
def test_a_table_is_written_in_groups_of_so_many_rows(tmp_path, row_group_rows, groups):
    table = pa.table({"n": list(range(10))})
    Store(tmp_path).write_table("t.parquet", table, row_group_rows)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == groups
    assert Store(tmp_path).read_table("t.parquet") == table


def test_rows_are_read_although_other_row_groups_are_damaged(tmp_path):
    """Which shows that those are not read."""
    store = Store(tmp_path)
    store.write_table("t.parquet", pa.table({"n": list(range(10))}), row_group_rows=3)
    path = tmp_path / "t.parquet"
    metadata, data = pq.read_metadata(path), bytearray(path.read_bytes())
    for group in (0, 2, 3):
        column = metadata.row_group(group).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    assert store.read_rows("t.parquet", 3, 6)["n"].to_pylist() == [3, 4, 5]
    assert store.row_count("t.parquet") == 10
    with pytest.raises(OSError):
        pq.read_table(path)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_rows_are_counted(store, rows):
    store.write_table("t.parquet", pa.table({"n": pa.array(range(rows), pa.int64())}), 3)
    assert store.row_count("t.parquet") == rows
    assert store.read_rows("t.parquet", 0, 9)["n"].to_pylist() == list(range(rows))


def test_a_missing_table_is_named(store):
    with pytest.raises(UserError, match=r"t\.parquet: no such file"):
        store.row_count("t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: no such file"):
        store.read_rows("t.parquet", 0, 1)


def test_create_table_never_replaces(store):
    assert store.create_table("a/t.parquet", pa.table({"n": [1]}))
    assert not store.create_table("a/t.parquet", pa.table({"n": [2, 3]}))
    assert store.read_table("a/t.parquet")["n"].to_pylist() == [1]
    assert store.keys("a") == ["a/t.parquet"]


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


def test_a_client_is_made_once_for_its_settings(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    client = _s3_client()
    assert _s3_client() is client
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "c")
    assert _s3_client() is not client


@pytest.mark.s3
def test_an_absent_server_names_the_variable(s3_store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL"):
        Store(s3_store).check_writable()


class Answer(BaseHTTPRequestHandler):
    """Answers every request with the server's status and code."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        error = f"<Error><Code>{self.server.code}</Code></Error>".encode()
        body = b"" if self.server.status == 200 else error
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        """Answers to HEAD have no body that could say more than the status."""
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def answering(monkeypatch):
    """Return a function that starts a server with one answer, and leads the S3 client to it."""
    with ExitStack() as stack:

        def start(status, code):
            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Answer))
            server.status, server.code = status, code
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            return server

        yield start


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown")]
)
def test_creating_waits_while_a_server_starts(answering, monkeypatch, status, code):
    server = answering(status, code)
    with pytest.raises(StorageAway, match="does not answer"):
        Store("s3://bucket/x").create("key", b"data")

    def server_is_up(seconds):
        server.status = 200

    monkeypatch.setattr("dtpf.core.storage.patience.time.sleep", server_is_up)
    assert Store("s3://bucket/x", patience=60).create_table("key", pa.table({"a": [1]}))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_reading_waits_while_a_server_starts(answering, status):
    """What opens an object asks for its size first, by HEAD."""
    answering(status, "")
    with pytest.raises(StorageAway, match="does not answer"):
        read_bytes("s3://bucket/x/key")


def test_reading_does_not_wait_where_it_is_forbidden(answering):
    answering(403, "")
    with pytest.raises(UserError, match="access denied") as caught:
        read_bytes("s3://bucket/x/key")
    assert not isinstance(caught.value, StorageAway)


def test_creating_waits_for_a_server_that_is_gone(answering, monkeypatch):
    answering(200, "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageAway, match="does not answer"):
        Store("s3://bucket/x").create("key", b"data")


def test_creating_does_not_wait_where_it_is_forbidden(answering):
    answering(403, "AccessDenied")
    with pytest.raises(UserError, match="access denied") as caught:
        Store("s3://bucket/x", patience=60).create("key", b"data")
    assert not isinstance(caught.value, StorageAway)


def test_creating_says_that_somebody_else_was_faster(answering):
    answering(412, "PreconditionFailed")
    assert Store("s3://bucket/x").create("key", b"data") is False


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
