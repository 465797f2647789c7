"""Does the store do what the pipeline needs: write, read, list, delete, and refuse to replace?"""

import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from dtpf.core.errors import UserError
from dtpf.core.storage import keys
from dtpf.core.storage.store import Store
from dtpf.core.storage.uri import s3_settings
from dtpf.doctor.clocks import check_store_clock
from dtpf.doctor.findings import Finding, failed, guarded, passed, warned

_LARGE = 8 * 2**20
_ROUNDS = 5
_SERVER = "look at the store's server, or use another store"


def check_store(uri: str) -> list[Finding]:
    """Look at a store with small objects of its own, which are deleted at the end."""
    store, root = Store(uri), keys.probe_prefix(uuid.uuid4().hex)
    try:
        findings = guarded("store.objects", lambda: [check_objects(store, root)])
        if findings[0].status != "fail":
            findings += guarded("store.create", lambda: [check_create(store, root)])
            findings += guarded("store.speed", lambda: [check_speed(store, root)])
    finally:
        with suppress(UserError):
            store.delete(root)
    if store.uri.startswith("s3://"):
        findings += guarded("store.clock", lambda: [check_clock()])
    return findings


def check_objects(store: Store, root: str) -> Finding:
    """Write, read back, list and delete a small object."""
    store.check_writable()
    key, data = f"{root}/object", os.urandom(1000)
    store.write_bytes(key, data)
    if store.read_bytes(key) != data:
        return failed("store.objects", f"{store.uri}: what was written reads otherwise", _SERVER)
    if store.keys(root) != [key]:
        return failed("store.objects", f"{store.uri}: what was written is not listed", _SERVER)
    store.delete(key)
    if store.exists(key):
        return failed("store.objects", f"{store.uri}: what was deleted is still there", _SERVER)
    return passed("store.objects", f"{store.uri}: written, read, listed, deleted")


def check_create(store: Store, root: str) -> Finding:
    """Create an object twice: the second time must leave the first as it is."""
    key = f"{root}/created"
    answers = [store.create(key, data) for data in (b"first", b"second")]
    if answers == [True, False] and store.read_bytes(key) == b"first":
        return passed("store.create", "a second writer of the same object is refused")
    remedy = "the server must know If-None-Match on PUT (conditional writes): update it"
    return failed("store.create", "a second writer replaces what the first has created", remedy)


def check_speed(store: Store, root: str, slowest: float = 10e6, latest: float = 0.5) -> Finding:
    """Measure bytes a second of a larger object, and the seconds that a small one takes to read.

    Args:
        store: to be measured.
        root: prefix of the objects.
        slowest: bytes a second, below which is warned.
        latest: seconds to read a small object, above which is warned.
    """
    large, small, data = f"{root}/large", f"{root}/small", os.urandom(_LARGE)
    writing = _seconds(lambda: store.write_bytes(large, data))
    reading = _seconds(lambda: store.read_bytes(large))
    store.write_bytes(small, b"x")
    delay = statistics.median(_seconds(lambda: store.read_bytes(small)) for _ in range(_ROUNDS))
    speeds = [_LARGE / writing, _LARGE / reading]
    found = f"{speeds[0] / 1e6:.0f} MB/s written, {speeds[1] / 1e6:.0f} MB/s read, "
    found += f"{delay * 1e3:.1f} ms for a small object"
    if min(speeds) < slowest or delay > latest:
        remedy = "look at the link to the store; checkpoints and images go through it"
        return warned("store.speed", found, remedy)
    return passed("store.speed", found)


def check_clock() -> Finding:
    """Hold this machine's clock against the date in an answer of the S3 server."""
    endpoint, region = s3_settings()
    address = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
    url = f"{address.scheme}://{address.netloc.rpartition('@')[2]}/"
    begun = time.time()
    try:
        # Without credentials: a refusal has a date, too.
        answer = httpx.head(url, timeout=10, trust_env=not endpoint)
    except httpx.HTTPError as error:
        found = f"{address.hostname} gives no date ({type(error).__name__})"
        return warned("store.clock", found, "check AWS_ENDPOINT_URL")
    return check_store_clock(answer.headers.get("date"), begun, time.time())


def check_shared(store: Store, key: str, expected: bytes, where: str) -> Iterable[Finding]:
    """See on one node what another has written: a folder may not be the same on both."""
    if store.exists(key) and store.read_bytes(key) == expected:
        yield passed("store.shared", f"{where} sees what the driver wrote")
    else:
        remedy = "use an S3 store, or a folder that all nodes mount at the same path"
        yield failed("store.shared", f"{where} does not see what the driver wrote", remedy)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
