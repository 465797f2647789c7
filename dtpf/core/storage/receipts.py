"""Receipts: the small JSON document that a stage leaves when it is complete."""

import platform
import subprocess
import time
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from dtpf.core.config import Config
from dtpf.core.storage.keys import StageKeys
from dtpf.core.storage.store import Store


class Receipt(Config):
    """What a stage did: the next stage reads `outputs`, a person reads the rest.

    Attributes:
        stage: name of the stage.
        fingerprint: identifies the inputs and the settings that the result depends on.
        inputs: fingerprints of the stages before it.
        outputs: keys in the store, and digests of contents.
        config: the settings of the stage.
        metrics: numbers worth keeping.
        notes: what a person should know, such as which captioner it was.
        seconds: wall time.
        finished: UTC time in ISO format.
        environment: commit, versions, processor.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    config: dict[str, Any]
    metrics: dict[str, float] = Field(default_factory=dict)
    notes: dict[str, str] = Field(default_factory=dict)
    seconds: float
    finished: str
    environment: dict[str, str]


def read_receipt(store: Store, keys: StageKeys) -> Receipt | None:
    """Return the receipt of a finished stage, None if it has not finished."""
    if not store.exists(keys.receipt):
        return None
    return Receipt.parse(store.read_bytes(keys.receipt), store.uri_of(keys.receipt))


def write_receipt(store: Store, keys: StageKeys, receipt: Receipt) -> None:
    """Write the receipt; from now on the stage counts as complete."""
    store.write_json(keys.receipt, receipt.as_dict())


def utc_now() -> str:
    """Return the UTC time in ISO format, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """Return commit, versions and processor of this process."""
    versions = {name: _version(name) for name in ("dtpf", "torch", "ray", "pyarrow")}
    hardware = {"machine": platform.machine(), "processor": _processor()}
    return {"commit": _commit(), "python": platform.python_version(), **versions, **hardware}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    root = Path(__file__).resolve().parents[3]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
