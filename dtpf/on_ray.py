"""What every stage on Ray shares: joining a cluster, and news from workers to the driver."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

Event = dict[str, Any]
Send = Callable[[Event], None]

LOGICAL_CPUS = 8  # several stages hold a few actors that mostly wait; a laptop has fewer cores
POLL_SECONDS = 0.5


def connect() -> None:
    """Join the cluster of this job (RAY_ADDRESS), or start one on this machine.

    Output of workers stays in their logs: what a person should see travels as events.
    """
    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        num_cpus=max(LOGICAL_CPUS, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends."""
    ray.shutdown()


@ray.remote(num_cpus=0)
class _Mailbox:
    """Holds the latest events until the driver takes them; the oldest drop first."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=1000)

    def put(self, event: Event) -> None:
        self._events.append(event)

    def take(self) -> list[Event]:
        events = list(self._events)
        self._events.clear()
        return events


class Sender:
    """Sends events to the driver; pickles, and never blocks or fails its worker."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __call__(self, event: Event) -> None:
        """Send one event of plain types."""
        self._mailbox.put.remote(event)


@contextmanager
def relay(receive: Callable[[Event], None]) -> Iterator[Sender]:
    """Call `receive` in the driver, in one thread, with each event that workers send."""
    mailbox = _Mailbox.remote()  # type: ignore[attr-defined]
    done = threading.Event()

    def drain() -> None:
        for event in ray.get(mailbox.take.remote()):
            receive(event)

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            drain()

    thread = threading.Thread(target=poll, name="relay", daemon=True)
    thread.start()
    try:
        yield Sender(mailbox)
    finally:
        done.set()
        thread.join()
        drain()
        ray.kill(mailbox)
