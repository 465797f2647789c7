"""What every stage on Ray shares: joining a cluster, and news from workers to the driver."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dtpf.core.errors import UserError
from dtpf.core.machine import logical_cpus

Event = dict[str, Any]
Send = Callable[[Event], None]

POLL_SECONDS = 0.5
QUOTA_VARIABLE = "DTPF_QUOTA"


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
        "local",  # not what somebody else may have started here
        num_cpus=logical_cpus(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends."""
    ray.shutdown()


def quota() -> dict[str, float]:
    """Return the custom resource of which this job's actors and workers take one each.

    Nodes say how many a tenant may have (`cluster/node.py --quota`), the job's environment whose
    they are (DTPF_QUOTA); without it nothing is taken.
    """
    name = os.environ.get(QUOTA_VARIABLE)
    return {name: 1.0} if name else {}


def outcome_of(trainer: Any) -> dict[str, Any]:
    """Run a Ray Train trainer and return what its leader returned.

    Raises:
        UserError: one that a worker raised, or returned as `{"error": line}`.
    """
    from ray.train import WorkerGroupError

    try:
        outcome: dict[str, Any] = trainer.fit().return_value
    except WorkerGroupError as error:
        for _, failure in sorted(error.worker_failures.items()):
            if isinstance(failure, UserError):
                raise failure from None
        raise
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome


def map_tables(
    tables: Sequence[pa.Table],
    actor: type,
    arguments: tuple[Any, ...],
    *,
    actors: int,
    num_cpus: float,
    num_gpus: float,
    stall_timeout_s: int,
    together: int = 1,
) -> Generator[dict[str, Any], None, None]:
    """Yield the rows that a pool of actors makes of one-row tables, in any order.

    Args:
        tables: one row each; every call of an actor gets one of them.
        actor: a class whose instances turn such a table into another.
        arguments: of its constructor.
        actors: size of the pool.
        num_cpus: of one actor.
        num_gpus: of one actor.
        stall_timeout_s: seconds without an actor or progress after which the run ends.
        together: tables that share a task. The driver keeps something of every task until the
            end. Rows come when a task is done, and a lost actor's whole task is done again.

    Raises:
        UserError: the cluster has no room for the actors.
    """
    from ray.data import DataContext

    with DataContext.current(quiet_data(stall_timeout_s)):
        results = through_pool(
            _grouped(tables, together),
            actor,
            arguments,
            actors=actors,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
        )
    with room_for({"CPU": num_cpus, "GPU": num_gpus, **quota()}, stall_timeout_s):
        yield from results.iter_rows()  # under the context that was current when it was made


@contextmanager
def room_for(each: Mapping[str, float], seconds: int) -> Iterator[None]:
    """Turn Ray Data's word that a pool got no actors into one that says what they ask for."""
    try:
        yield
    except ray.exceptions.GetTimeoutError:
        asked = {kind: amount for kind, amount in each.items() if amount}
        free = {kind: ray.available_resources().get(kind, 0.0) for kind in asked}
        raise UserError(
            f"no actors within {seconds} s: each asks for {_amounts(asked)}; free are "
            f"{_amounts(free)}, over all nodes. Wait for other jobs, ask for fewer or smaller "
            "actors (`resources` in the stage's settings), or start nodes that have what is "
            "missing; where there is room they start slowly, so wait longer (`stall_timeout_s`)"
        ) from None


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


def _grouped(tables: Sequence[pa.Table], size: int) -> list[pa.Table]:
    starts = range(0, len(tables), size)
    return [pa.concat_tables(tables[start : start + size]) for start in starts]


def through_pool(
    tables: Sequence[pa.Table],
    actor: type,
    arguments: tuple[Any, ...],
    *,
    actors: int,
    num_cpus: float,
    num_gpus: float = 0.0,
) -> Any:
    """Return the dataset that a pool of actors makes of tables, a task each, row by row."""
    from ray.data import ActorPoolStrategy, from_arrow

    return from_arrow(list(tables)).map_batches(
        actor,
        fn_constructor_args=arguments,
        batch_format="pyarrow",
        batch_size=1,
        compute=ActorPoolStrategy(size=min(actors, len(tables))),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=quota(),
    )


def quiet_data(stall_timeout_s: int) -> Any:
    """Return a Ray Data context without bars, whose runs end when they cannot get their actors."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = stall_timeout_s
    context.execution_no_progress_timeout_s = stall_timeout_s
    return context


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
    # Beside the driver: on another node it would go with that node, and end a run that goes on.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
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
