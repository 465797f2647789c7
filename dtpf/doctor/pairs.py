"""Which devices meet in which round, and what their results say together."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from dtpf.doctor.findings import Finding, failed, passed

Pair = tuple[int, int]
_SHOWN = 4

_WRONG = (
    "do not train on these cards as they are: update the driver to 550 or newer, switch the IOMMU "
    "off (BIOS, or iommu=pt), set NCCL_P2P_DISABLE=1, and look again"
)
_WAITS = (
    "set NCCL_P2P_DISABLE=1; between nodes also NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to the "
    "LAN card, and open its ports; NCCL_DEBUG=INFO shows where it waits"
)


def rounds(world: int) -> list[list[Pair]]:
    """Return all pairs in rounds; in each, everybody meets one other at most (circle method)."""
    seats: list[int | None] = [*range(world), *([None] if world % 2 else [])]
    found = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        faced = zip(seats[:half], reversed(seats[half:]), strict=True)
        found.append([(min(a, b), max(a, b)) for a, b in faced if a is not None and b is not None])
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return found


def own_pairs(rank: int, world: int) -> list[Pair]:
    """Return the pairs that a member is in, in the order of the rounds."""
    return [pair for meeting in rounds(world) for pair in meeting if rank in pair]


def judge(
    events: Iterable[Mapping[str, Any]], names: Sequence[str], where: str = ""
) -> list[Finding]:
    """Turn what all members have reported into findings.

    A pair that hangs keeps others from their later rounds: the first that is not done is named.

    Args:
        events: as `run_member` and `direct_copies` report them.
        names: of the devices, by rank.
        where: appended to the findings' names.
    """
    seen = list(events)
    direct = [event for event in seen if event["kind"] == "direct"]
    findings = [
        _copies(f"copies{where}", seen, names),
        _sums(f"all-reduce{where}", seen, names),
    ]
    if direct:
        findings.insert(0, _compared(f"direct copies{where}", direct, names))
    return findings


def _copies(name: str, events: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Finding:
    copies = [event for event in events if event["kind"] == "copy"]
    if any(event["wrong"] for event in copies):
        return _compared(name, copies, names)
    done = {tuple(event["pair"]) for event in copies}
    if done != set(permutations(range(len(names)), 2)):
        return failed(name, _unfinished(events, names), _WAITS)
    return _compared(name, copies, names)


def _compared(name: str, copies: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Finding:
    wrong = [
        f"{_arrow(event['pair'], names)} ({event['wrong']} of {event['size']} bytes)"
        for event in copies
        if event["wrong"]
    ]
    if wrong:
        return failed(name, f"wrong copies: {_list(wrong)}", _WRONG)
    pairs = {tuple(event["pair"]) for event in copies}
    total = sum(event["size"] for event in copies)
    return passed(name, f"{len(pairs)} ordered pairs, {total / 1e6:.0f} MB the same bit by bit")


def _sums(name: str, events: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Finding:
    sums = [event for event in events if event["kind"] in ("pair sum", "sum")]
    wrong = sorted(
        {" + ".join(names[r] for r in event["pair"]) for event in sums if event["wrong"]}
    )
    if wrong:
        return failed(name, f"wrong sums: {_list(wrong)}", _WRONG)
    world = range(len(names))
    done = {(tuple(event["pair"]), event["by"]) for event in sums}
    wanted = {(pair, member) for pair in combinations(world, 2) for member in pair}
    if not done >= wanted:
        return failed(name, _unfinished(events, names), _WAITS)
    if not done >= {(tuple(world), member) for member in world}:
        return failed(name, f"the sum over all {len(names)} did not end{_why(events)}", _WAITS)
    pairs = len(names) * (len(names) - 1) // 2
    return passed(name, f"{pairs} pairs and all {len(names)} together: as computed on the host")


def _unfinished(events: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    ended = {(tuple(event["pair"]), event["by"]) for event in events if event["kind"] == "pair sum"}
    for meeting in rounds(len(names)):
        stuck = [pair for pair in meeting if not {(pair, pair[0]), (pair, pair[1])} <= ended]
        if stuck:
            pairs = _list([f"{names[a]} with {names[b]}" for a, b in stuck])
            return f"did not end: {pairs}{_why(events)}"
    return f"copies are missing{_why(events)}"


def _why(events: Sequence[Mapping[str, Any]]) -> str:
    reasons = [event["detail"] for event in events if event["kind"] == "error"]
    return f" ({reasons[0]})" if reasons else ""


def _arrow(pair: Sequence[int], names: Sequence[str]) -> str:
    return f"{names[pair[0]]} -> {names[pair[1]]}"


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
