"""The object store: one root URI, keys below it, and nothing half-written ever visible."""

import json
import os
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import fs

from dtpf.core.errors import UserError
from dtpf.core.storage.parquet import rows_of, table_bytes
from dtpf.core.storage.patience import Result, patiently
from dtpf.core.storage.uri import join_uri, normalise_uri, resolve, s3_settings, storage_errors

Params = ParamSpec("Params")
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)


def _patient(
    method: Callable[Concatenate["Store", Params], Result],
) -> Callable[Concatenate["Store", Params], Result]:
    @wraps(method)
    def call(self: "Store", *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return patiently(lambda: method(self, *args, **kwargs), self._patience)

    return call


class Store:
    """Reads and writes objects below one root URI (file:// or s3://).

    A write is atomic: readers see the old object or the new one. On local disks that is a
    temporary file, flushed and renamed; on S3 an object appears when its upload completes.
    Stores pickle as their URI, so they travel to workers, which connect on first use.

    Args:
        uri: the root.
        patience: for how many seconds calls wait for a server that does not answer; `create` and
            `check_writable` never do.
    """

    def __init__(self, uri: str | os.PathLike[str], patience: float = 0.0) -> None:
        self.uri = normalise_uri(uri)
        self._patience = patience

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def uri_of(self, key: str) -> str:
        """Return the absolute URI of a key."""
        return join_uri(self.uri, key) if key else self.uri

    def check_writable(self) -> None:
        """Write, read and delete a probe object.

        Raises:
            UserError: the store cannot be written; the message names it and the remedy.
        """
        if self.uri.startswith("s3://"):
            _check_bucket(self.uri)
        probe, store = f".probe-{uuid.uuid4().hex}", Store(self.uri)
        store.write_bytes(probe, b"probe")
        if store.read_bytes(probe) != b"probe":
            raise UserError(f"{self.uri}: the store does not return what was written to it")
        store.delete(probe)

    @_patient
    def exists(self, key: str) -> bool:
        """Say whether there is an object at `key`."""
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)):
            return bool(filesystem.get_file_info(path).type == fs.FileType.File)

    @_patient
    def read_bytes(self, key: str) -> bytes:
        """Return the object at `key`; a UserError names it when it is missing."""
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)), filesystem.open_input_file(path) as source:
            return bytes(source.read())

    @_patient
    def write_bytes(self, key: str, data: bytes) -> None:
        """Write one object atomically, replacing what was there.

        A process that is killed while it writes to a folder leaves a hidden file (`.NAME.*.tmp`),
        which nothing lists or reads.
        """
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)):
            if isinstance(filesystem, fs.LocalFileSystem):
                _write_local(path, data)
            else:
                with filesystem.open_output_stream(path) as sink:
                    sink.write(data)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none at `key`; False if there is one already."""
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)):
            if isinstance(filesystem, fs.LocalFileSystem):
                return _create_local(path, data)
            return _create_s3(path, data)

    @_patient
    def keys(self, prefix: str) -> list[str]:
        """Return the keys of all objects below a prefix, sorted; temporary files are not listed."""
        filesystem, root = resolve(self.uri)
        selector = fs.FileSelector(f"{root}/{prefix}", recursive=True, allow_not_found=True)
        with storage_errors(self.uri_of(prefix)):
            infos = filesystem.get_file_info(selector)
        found = [info.path[len(root) + 1 :] for info in infos if info.type == fs.FileType.File]
        return sorted(key for key in found if not os.path.basename(key).startswith("."))

    @_patient
    def delete(self, prefix: str) -> None:
        """Delete an object, or everything below a prefix; a missing one is no error."""
        filesystem, path = resolve(self.uri_of(prefix))
        with storage_errors(self.uri_of(prefix)):
            kind = filesystem.get_file_info(path).type
            if kind == fs.FileType.File:
                filesystem.delete_file(path)
            elif kind == fs.FileType.Directory:
                filesystem.delete_dir(path)

    def read_json(self, key: str) -> Any:
        """Read a JSON document."""
        try:
            return json.loads(self.read_bytes(key))
        except json.JSONDecodeError as error:
            raise UserError(f"{self.uri_of(key)}: not valid JSON ({error})") from None

    def write_json(self, key: str, document: Any) -> None:
        """Write a JSON document atomically."""
        self.write_bytes(key, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())

    def read_table(self, key: str) -> pa.Table:
        """Read a Parquet object, or all `*.parquet` objects below a prefix, as one table."""
        keys = [key] if key.endswith(".parquet") else self.keys(key)
        parts = [
            pq.read_table(pa.BufferReader(self.read_bytes(part)))
            for part in keys
            if part.endswith(".parquet")
        ]
        if not parts:
            raise UserError(f"{self.uri_of(key)}: no Parquet files below it")
        return pa.concat_tables(parts)

    @_patient
    def read_rows(
        self, key: str, start: int, stop: int, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read rows [start, stop) of one Parquet object, and of it only the row groups they are in.

        `columns` names those that are read, all by default.
        """
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)), filesystem.open_input_file(path) as source:
            return rows_of(pq.ParquetFile(source), start, stop, columns)

    @_patient
    def row_count(self, key: str) -> int:
        """Return the number of rows of one Parquet object, without reading them."""
        filesystem, path = resolve(self.uri_of(key))
        with storage_errors(self.uri_of(key)), filesystem.open_input_file(path) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)

    def write_table(self, key: str, table: pa.Table, row_group_rows: int | None = None) -> None:
        """Write a table as one Parquet object atomically, in row groups of so many rows."""
        self.write_bytes(key, table_bytes(table, row_group_rows))

    def create_table(self, key: str, table: pa.Table) -> bool:
        """Write a table only if there is no object at `key`; False if there is one already.

        Waits for a server that is away. An answer that was lost on its way reads as False.
        """
        data = table_bytes(table)
        return patiently(lambda: self.create(key, data), self._patience)


def _write_local(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _create_local(path: str, data: bytes) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)  # unlike rename, a link never replaces
        return True
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)


def _write_temporary(path: str, data: bytes) -> str:
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return temporary


def _create_s3(path: str, data: bytes) -> bool:
    bucket, _, key = path.partition("/")
    try:
        _s3_client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        return True
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in (409, 412):
            return False
        raise (ConnectionError if status >= 500 else OSError)(str(error)) from error
    except BotoCoreError as error:  # no answer at all
        raise ConnectionError(str(error)) from error


def _check_bucket(uri: str) -> None:
    """Refuse a bucket that is missing: some servers answer a write to one with "internal error"."""
    bucket = uri.removeprefix("s3://").partition("/")[0]
    try:
        _s3_client().head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            raise UserError(f"s3://{bucket}: the bucket does not exist; create it first") from None
        # Anything else, refused keys above all, the probe object reports better.
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"s3://{bucket}: {error}; check AWS_ENDPOINT_URL and the keys") from None


def _s3_client() -> Any:
    """Return the client of the present settings; making one takes a good part of a second."""
    return _client_of(s3_settings(), tuple(os.environ.get(name) for name in _CREDENTIALS))


@lru_cache(maxsize=8)
def _client_of(settings: tuple[str, str], credentials: tuple[str | None, ...]) -> Any:
    endpoint, region = settings
    # A session of its own: the default one would keep the first credentials it ever saw.
    session = boto3.session.Session()
    return session.client("s3", endpoint_url=endpoint or None, region_name=region)
