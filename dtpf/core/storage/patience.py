"""Waiting for a storage server that does not answer, instead of losing hours of work."""

import time
from collections.abc import Callable
from typing import TypeVar

from dtpf.core.errors import UserError

Result = TypeVar("Result")

# Seconds that long work waits for a server that went away, before it gives up; started again, it
# goes on from what is stored.
STORAGE_PATIENCE = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds; doubled from one to the other


class StorageAway(UserError):
    """The storage server does not answer at present; the same call may succeed later."""


def patiently(action: Callable[[], Result], seconds: float) -> Result:
    """Return what `action` returns, repeating it for so long while the storage is away.

    Args:
        action: something that may be done twice.
        seconds: since the first failure; 0 tries once.

    Raises:
        StorageAway: it stayed away; the message says how long.
    """
    if seconds <= 0:
        return action()
    deadline, pause = None, _FIRST_PAUSE
    while True:
        try:
            return action()
        except StorageAway as error:
            now = time.monotonic()
            deadline = now + seconds if deadline is None else deadline
            if now + pause > deadline:
                raise StorageAway(f"{error} (waited {seconds:g} s)") from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
