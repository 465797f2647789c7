"""Shared memory, the folder for temporary and spilled data, and the limit of open files."""

import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from dtpf.doctor.findings import Finding, failed, passed, warned

GIB = 2**30
_PROBE_BYTES = 64 * 2**20
_SPILL_LIMIT = 0.95  # Ray's: beyond it no object is spilled, and tasks that need it fail

Usage = Callable[[str], tuple[int, int, int]]  # total, used and free bytes of a folder's disk


def check_shared_memory(path: str = "/dev/shm", usage: Usage = shutil.disk_usage) -> Finding:
    """Look at the shared memory, through which NCCL and Ray's object store work."""
    if not os.path.isdir(path):
        return warned("shared memory", f"there is no {path}", "Ray then keeps objects on disk")
    total, _, _ = usage(path)
    found = f"{total / GIB:.1f} GiB at {path}"
    remedy = "give it 8 GiB or more: --shm-size=16g (Docker), an emptyDir of Memory (Kubernetes)"
    if total < GIB:
        return failed("shared memory", found, remedy)
    if total < 8 * GIB:
        return warned("shared memory", found, remedy)
    return passed("shared memory", found)


def check_disk(
    folder: str | os.PathLike[str],
    fewest_bytes: int = 20 * GIB,
    slowest: float = 100e6,
    usage: Usage = shutil.disk_usage,
) -> list[Finding]:
    """Look at free space and speed of the folder for temporary and spilled data.

    Args:
        folder: of which a missing one is judged by the first folder above it that exists.
        fewest_bytes: fewer free ones are warned of.
        slowest: bytes a second, below which is warned.
        usage: returns what is free.
    """
    place = _existing(Path(folder))
    return [_space(place, fewest_bytes, usage), _speed(place, slowest)]


def check_open_files(limit: int | None = None) -> Finding:
    """Look at the limit of open files: every worker and every connection takes some."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    remedy = "ulimit -n 65536 before `ray start`; LimitNOFILE= (systemd), --ulimit nofile (Docker)"
    found = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at a time"
    if soft == resource.RLIM_INFINITY or soft >= 16_384:
        return passed("open files", found)
    return (failed if soft < 1024 else warned)("open files", found, remedy)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _space(folder: Path, fewest_bytes: int, usage: Usage) -> Finding:
    _, used, free = usage(str(folder))
    # As df counts: blocks that are reserved for root are neither used nor free.
    share = used / max(1, used + free)
    found = f"{free / GIB:.0f} GiB free at {folder}, {share:.0%} used"
    remedy = "free some space, or put it on a larger disk: ray start --temp-dir (keep it short)"
    if share >= _SPILL_LIMIT:
        return failed("disk.space", f"{found}; at 95% Ray stops spilling", remedy)
    if free < fewest_bytes:
        return warned("disk.space", found, remedy)
    return passed("disk.space", found)


def _speed(folder: Path, slowest: float) -> Finding:
    remedy = "put it on a local SSD: ray start --temp-dir"
    try:
        speed = _write_speed(folder / f".dtpf-doctor-{uuid.uuid4().hex}")
    except OSError as error:
        rights = "give this user the right to write there, or choose another --temp-dir"
        return failed("disk.speed", f"{folder}: cannot be written ({error.strerror})", rights)
    found = f"{speed / 1e6:.0f} MB/s written to {folder}"
    return warned("disk.speed", found, remedy) if speed < slowest else passed("disk.speed", found)


def _write_speed(path: Path) -> float:
    data = os.urandom(_PROBE_BYTES)
    try:
        with path.open("xb") as sink:
            begun = time.perf_counter()
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
            return len(data) / (time.perf_counter() - begun)
    finally:
        path.unlink(missing_ok=True)
