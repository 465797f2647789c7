"""Any URI to a pyarrow filesystem: local paths, file:// and s3:// alike.

S3 credentials, region and endpoint come from the usual AWS variables (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL), which boto3 reads too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from dtpf.core.errors import UserError
from dtpf.core.storage.patience import StorageAway


def normalise_uri(uri: str | os.PathLike[str]) -> str:
    """Return an absolute URI without a trailing slash; plain paths become file:// URIs.

    The path of a file:// URI is taken literally, since file names may hold %, # and ?.
    """
    text = os.fspath(uri)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "s3":
        return text.rstrip("/")
    if scheme == "file":
        return "file://" + (text.removeprefix("file://").rstrip("/") or "/")
    if scheme:
        raise UserError(f"{text}: unknown scheme {scheme!r}; use a path, file:// or s3://")
    return "file://" + os.path.abspath(text)


def join_uri(uri: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def resolve(uri: str | os.PathLike[str]) -> tuple[fs.FileSystem, str]:
    """Return the filesystem of a URI and the path inside it."""
    text = normalise_uri(uri)
    scheme, _, path = text.partition("://")
    if scheme == "file":
        return fs.LocalFileSystem(), path
    return _s3_filesystem(s3_settings()), path


def s3_settings() -> tuple[str, str]:
    """Return (endpoint URL or "", region) from the environment."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return endpoint, region


@lru_cache(maxsize=8)
def _s3_filesystem(settings: tuple[str, str]) -> fs.S3FileSystem:
    endpoint, region = settings
    address = urlsplit(endpoint)
    place = {"endpoint_override": address.netloc, "scheme": address.scheme} if endpoint else {}
    return fs.S3FileSystem(region=region, connect_timeout=10, request_timeout=60, **place)


def read_bytes(uri: str | os.PathLike[str]) -> bytes:
    """Read one whole object; errors are one line that names the URI and the remedy."""
    filesystem, path = resolve(uri)
    with storage_errors(normalise_uri(uri)), filesystem.open_input_file(path) as source:
        return source.read()


def local_path(uri: str) -> Path | None:
    """Return the path of a file:// URI, None for any other."""
    text = normalise_uri(uri)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else None


@contextmanager
def storage_errors(uri: str) -> Iterator[None]:
    """Turn the storage library's errors into a UserError that names the remedy."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file or object") from None
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{uri}: not accessible ({error}); check its rights") from None
    except OSError as error:
        message = str(error)
        if isinstance(error, ConnectionError) or any(mark in message for mark in _AWAY):
            raise StorageAway(
                f"{uri}: the storage server does not answer; check AWS_ENDPOINT_URL"
            ) from None
        raise UserError(f"{uri}: {_remedy(message)}") from None


# Errors that pass when the server is back. An internal error is what some say while they start;
# answers to HEAD have no body that could name it, so that the status has to.
_AWAY = (
    *("NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "curlCode"),
    *(f"(HTTP status {status})" for status in (500, 502, 503, 504)),
)

_REMEDIES = {
    "NO_SUCH_BUCKET": "the bucket does not exist; create it first",
    "NoSuchBucket": "the bucket does not exist; create it first",
    "bucket does not exist": "the bucket does not exist; create it first",
    "INVALID_ACCESS_KEY_ID": "the S3 keys are refused; check AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "the S3 keys are refused; check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the S3 keys are refused; check AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "the S3 keys are refused; check AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "access denied; check the S3 keys and the bucket's policy",
    "AccessDenied": "access denied; check the S3 keys and the bucket's policy",
    "Read-only file system": "the folder is on a read-only file system; choose another --store",
    "No space left": "the disk is full; free some space and run the same command again",
}


def _remedy(message: str) -> str:
    for mark, remedy in _REMEDIES.items():
        if mark in message:
            return remedy
    return message.splitlines()[0]
