"""What this machine offers, and how a process of ours uses its memory."""

import ctypes
import os
import random
import socket
from functools import cache

from dtpf.core.errors import UserError

# Stages hold a few actors that mostly wait; a laptop has fewer cores than that.
_FEWEST = 8

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h


def logical_cpus() -> int:
    """Return how many CPUs a Ray node on this machine shall announce."""
    return max(_FEWEST, os.cpu_count() or 1)


def free_port() -> int:
    """Return a free loopback port below those that systems hand out by themselves."""
    for port in random.sample(range(20_000, 30_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError("no free port between 20000 and 29999")


@cache
def keep_freed_memory() -> bool:
    """Let the C library reuse freed memory instead of giving it back to the system.

    A network frees and takes the same hundreds of megabytes at every call. glibc returns them to
    the system each time, most eagerly in threads other than the first, and fresh pages cost as
    much as the arithmetic (`benchmarks/process_settings.py`). For processes that do little but run
    networks, best before they start threads: the process then holds on to its largest use.

    Returns:
        Whether the C library can do that; others are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_ARENA_MAX: 1, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 2**31 - 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
