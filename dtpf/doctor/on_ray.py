"""The checks on every node of a Ray cluster, and those that need the cluster as a whole."""

import os
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.util import get_node_ip_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dtpf.core.errors import UserError
from dtpf.core.storage import keys
from dtpf.core.storage.store import Store
from dtpf.doctor.access import check_agent, check_dashboard, check_mode, check_token, keyed_digest
from dtpf.doctor.clocks import Trip, check_offsets, offset_of
from dtpf.doctor.compare import (
    check_cards_announced,
    check_equal,
    check_settings_equal,
    check_versions_equal,
)
from dtpf.doctor.exchange import Event, Member, run_member
from dtpf.doctor.findings import Finding, failed, guarded
from dtpf.doctor.gpus import driver_cards
from dtpf.doctor.local_exchange import STEP_SECONDS, check_exchange
from dtpf.doctor.machine import check_hardware
from dtpf.doctor.pairs import judge, rounds
from dtpf.doctor.ports import PORTS, SERVE, check_ports
from dtpf.doctor.storage import check_shared, check_store
from dtpf.doctor.versions import here

_TRIPS = 20
_START_SECONDS = 120.0
_NODE_SECONDS = 600.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """What is looked at.

    Attributes:
        store: URI; None leaves the store out.
        exchange: whether copies between devices are compared.
        seconds: after which a step of that is given up.
        environment: variables of the checking processes, as `scaling.environment` of trainings.
    """

    store: str | None = None
    exchange: bool = True
    seconds: float = STEP_SECONDS
    environment: Mapping[str, str] | None = None


class _Doctor:
    """Looks at the node it runs on."""

    def __init__(self, options: Options, announced: float, many_nodes: bool) -> None:
        self._options, self._announced, self._many = options, announced, many_nodes

    def clock(self) -> float:
        return time.time()

    def facts(self, key: bytes) -> dict[str, Any]:
        settings = {k: v for k, v in os.environ.items() if k.startswith(("NCCL_", "GLOO_"))}
        return {
            "versions": here(),
            "settings": settings,
            "token": keyed_digest(os.environ, key),
        }

    def sees(self, key: str, data: bytes, name: str) -> list[Finding]:
        store = self._options.store
        return guarded("store.shared", lambda: check_shared(Store(store or ""), key, data, name))

    def findings(self) -> list[Finding]:
        options: Options = self._options
        node: Any = ray._private.worker._global_node
        agent = f"{get_node_ip_address()}:{node.dashboard_agent_listen_port}"
        folder = node.get_temp_dir_path()
        serve = {SERVE: PORTS[SERVE]}
        found = [
            *guarded("hardware", lambda: check_hardware(folder, self._many)),
            *guarded("gpu.announced", self._cards),
            *guarded("ports", lambda: check_ports(serve, stranger="warn")),
            *guarded("token", lambda: [check_mode(os.environ), check_token(os.environ)]),
            *guarded("token.agent", lambda: [check_agent(agent)]),
        ]
        if options.store:
            found += guarded("store", lambda: check_store(options.store or ""))
        if options.exchange and torch.cuda.device_count() > 1:
            found += guarded("copies", lambda: check_exchange(options.seconds))
        return found

    def _cards(self) -> list[Finding]:
        return [check_cards_announced(self._announced, len(driver_cards() or []))]


class _Member:
    """One process of the exchange over the whole cluster; two threads: one works, one tells."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def has_card(self) -> bool:
        return torch.cuda.is_available()

    def run(self, member: Member, address: str, port: int) -> None:
        store = dist.TCPStore(address, port, is_master=False)
        run_member(member, store, self._events.append)

    def events(self) -> list[Event]:
        return list(self._events)


def check_cluster(options: Options) -> dict[str, list[Finding]]:
    """Return the findings of every node of the cluster that is joined, and of the whole."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    doctors = {_name(node): _doctor(node, options, len(nodes) > 1) for node in nodes}
    try:
        awake, asleep = _awake(doctors)
        whole = guarded("cluster", lambda: _check_whole(awake, options)) if awake else []
        reports = {name: doctor.findings.remote() for name, doctor in awake.items()}
        places = {name: _answer(reports[name]) for name in awake}
    finally:
        for doctor in doctors.values():
            ray.kill(doctor)
    if options.exchange:
        whole += guarded("copies over all", lambda: _check_exchange(nodes, options))
    return {**places, **asleep, "cluster": whole}


def _doctor(node: Mapping[str, Any], options: Options, many_nodes: bool) -> Any:
    arguments = (options, node["Resources"].get("GPU", 0.0), many_nodes)
    return ray.remote(_Doctor).options(**_pinned(node, options), num_cpus=0).remote(*arguments)


def _pinned(node: Mapping[str, Any], options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    }
    if options.environment:
        found["runtime_env"] = {"env_vars": dict(options.environment)}
    return found


def _name(node: Mapping[str, Any]) -> str:
    # Several nodes may share an address, as in tests on one machine.
    return f"node {node['NodeManagerAddress']} ({node['NodeID'][:6]})"


def _awake(doctors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Finding]]]:
    calls = {doctor.clock.remote(): name for name, doctor in doctors.items()}
    ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=_START_SECONDS)
    awake, asleep = {}, {}
    for call in ready:
        try:
            ray.get(call)
            awake[calls[call]] = doctors[calls[call]]
        except ray.exceptions.RayError as error:
            asleep[calls[call]] = [_silent(str(error).strip().splitlines()[-1])]
    for call in late:
        asleep[calls[call]] = [_silent(f"no process within {_START_SECONDS:.0f} s")]
    return awake, asleep


def _silent(reason: str) -> Finding:
    remedy = "install dtpf there as everywhere else, and look at the node's logs"
    return failed("node", f"does not answer: {reason[:200]}", remedy)


def _answer(call: Any) -> list[Finding]:
    try:
        found: list[Finding] = ray.get(call, timeout=_NODE_SECONDS)
        return found
    except ray.exceptions.RayError as error:
        return [_silent(str(error).strip().splitlines()[-1])]


def _check_whole(doctors: Mapping[str, Any], options: Options) -> list[Finding]:
    key = secrets.token_bytes(32)
    facts = {name: ray.get(doctor.facts.remote(key)) for name, doctor in doctors.items()}
    tokens = {name: found["token"] for name, found in facts.items()}
    copy_it = "copy the head's token file to every node, mode 0600, and restart Ray there"
    offsets = {
        name: offset_of([_trip(doctor) for _ in range(_TRIPS)]) for name, doctor in doctors.items()
    }
    dashboard = ray._private.worker.get_dashboard_url()
    return [
        *check_versions_equal({name: found["versions"] for name, found in facts.items()}),
        check_settings_equal({name: found["settings"] for name, found in facts.items()}),
        check_equal("same.token", tokens, copy_it, show=False),
        check_offsets(offsets),
        *([check_dashboard(dashboard)] if dashboard else []),
        *(_check_shared(doctors, options.store) if options.store else []),
    ]


def _trip(doctor: Any) -> Trip:
    sent = time.time()
    other = ray.get(doctor.clock.remote())
    return sent, other, time.time()


def _check_shared(doctors: Mapping[str, Any], uri: str) -> list[Finding]:
    """See whether each node finds what the driver writes; only nodes that do not are named."""
    store, key, data = Store(uri), f"{keys.probe_prefix(uuid.uuid4().hex)}/shared", os.urandom(100)

    def look() -> list[Finding]:
        store.write_bytes(key, data)
        calls = [doctor.sees.remote(key, data, name) for name, doctor in doctors.items()]
        found = [item for answer in ray.get(calls) for item in answer]
        bad = [item for item in found if item.status != "pass"]
        return bad or [Finding("store.shared", "pass", f"the same on all {len(calls)} nodes")]

    try:
        return guarded("store.shared", look)
    finally:
        with suppress(UserError):
            store.delete(key.rpartition("/")[0])


def _check_exchange(nodes: Sequence[Mapping[str, Any]], options: Options) -> list[Finding]:
    """Compare copies and sums between all GPUs of the cluster, or else between its nodes."""
    with_cards = any(node["Resources"].get("GPU") for node in nodes)
    places = [
        (node, f"{node['NodeManagerAddress']} GPU {index}" if with_cards else _name(node))
        for node in nodes
        for index in range(int(node["Resources"].get("GPU", 0)) if with_cards else 1)
    ]
    if len(places) == 1:
        places = [(places[0][0], f"{places[0][1]} process {index}") for index in range(2)]
        with_cards = False
    pool: Any = ray.remote(_Member)
    members = [
        pool.options(
            **_pinned(node, options), num_cpus=0, num_gpus=int(with_cards), max_concurrency=2
        ).remote()
        for node, _ in places
    ]
    try:
        return _run_exchange(members, [name for _, name in places], options.seconds)
    finally:
        for member in members:
            ray.kill(member)


def _run_exchange(members: Sequence[Any], names: Sequence[str], seconds: float) -> list[Finding]:
    calls = [member.has_card.remote() for member in members]
    ready, late = ray.wait(calls, num_returns=len(calls), timeout=_START_SECONDS)
    if late:
        found = f"{len(late)} of {len(calls)} processes got no place: other jobs hold the GPUs"
        return [failed("copies over all", found, "look again when the cluster is idle")]
    cards = all(ray.get(ready))
    # The nodes meet here, beside the driver, as workers of a training meet at their leader.
    meeting = dist.TCPStore(get_node_ip_address(), 0, is_master=True, wait_for_workers=False)
    world = len(members)
    device, backend = ("cuda:0", "nccl") if cards else ("cpu", "gloo")
    runs = [
        member.run.remote(Member(rank, world, device, backend, seconds), meeting.host, meeting.port)
        for rank, member in enumerate(members)
    ]
    deadline = seconds * (len(rounds(world)) + 1)
    ray.wait(runs, num_returns=world, timeout=deadline)
    return judge(_events(members), names, " over all")


def _events(members: Sequence[Any]) -> list[Event]:
    calls = [member.events.remote() for member in members]
    found: list[Event] = []
    for call in calls:
        try:
            found += ray.get(call, timeout=10)
        except ray.exceptions.RayError as error:  # NCCL's watchdog may have ended the process
            reason = str(error).strip().splitlines()[0][:200]
            found.append({"kind": "error", "pair": [], "detail": reason})
    return found
