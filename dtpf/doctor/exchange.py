"""What each process does to compare copies between devices: one process a device.

Every pair meets in a group of its own, so that what is wrong with one pair says nothing of others.
Data are random bytes that follow from the pair, so that the receiver knows what must arrive.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dtpf.doctor.pairs import own_pairs

Event = dict[str, Any]
Report = Callable[[Event], None]
# Moves a tensor from rank 0 to rank 1 of a group of two, or back: (tensor, sender) -> tensor.
Copy = Callable[[Tensor, int], Tensor]

# NCCL moves small and large messages in different ways; both sizes are odd on purpose.
SMALL, LARGE_CPU, LARGE_GPU = 4099, 2**20 + 3, 16 * 2**20 + 3
_NUMBERS = 65_537  # of a sum


@dataclass(frozen=True)
class Member:
    """One process of an exchange.

    Attributes:
        rank: its number.
        world: number of all.
        device: `cpu` or such as `cuda:1`.
        backend: `gloo` or `nccl`, the same for all.
        seconds: after which a step that waits is given up.
    """

    rank: int
    world: int
    device: str
    backend: str
    seconds: float


def transfer(tensor: Tensor, sender: int) -> Tensor:
    """Send a tensor to the other of two, or receive one in its place."""
    if dist.get_rank() == sender:
        dist.send(tensor, 1 - sender)
    else:
        dist.recv(tensor, sender)
    return tensor


def run_member(member: Member, store: dist.Store, report: Report, copy: Copy = transfer) -> None:
    """Do the part of one process; every result is reported as soon as it is there.

    Args:
        member: which process this is.
        store: through which the processes find each other.
        report: gets events of plain types.
        copy: what moves a tensor.
    """
    # Otherwise a wait for NCCL cannot be given up, and its watchdog ends the process instead.
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    device = torch.device(member.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    for pair in own_pairs(member.rank, member.world):
        try:
            with _group(member, store, pair, "-".join(map(str, pair))):
                _compare_copies(pair, device, report, copy)
                report(_sum("pair sum", pair, device))
        except RuntimeError as error:  # of torch.distributed, time-outs among them
            reason = str(error).strip().splitlines()[0][:200]
            report({"kind": "error", "pair": list(pair), "detail": reason})
            return
    everyone = tuple(range(member.world))
    try:
        with _group(member, store, everyone, "all"):  # of two, not the pair's name again
            report(_sum("sum", everyone, device))
    except RuntimeError as error:
        report({"kind": "error", "pair": [], "detail": str(error).strip().splitlines()[0][:200]})


def payload(seed: int, size: int) -> Tensor:
    """Return random bytes that are the same wherever they are made."""
    return torch.randint(256, (size,), dtype=torch.uint8, generator=_generator(seed))


def difference(received: Tensor, expected: Tensor) -> int:
    """Return how many bytes differ, 0 where the digests of both are the same."""
    if _digest(received) == _digest(expected):
        return 0
    return int((received.cpu() != expected).sum())


def direct_copies(
    devices: Sequence[str], report: Report, move: Callable[[Tensor, str], Tensor] = Tensor.to
) -> None:
    """Compare copies by the driver alone (`tensor.to(device)`), for every ordered pair."""
    for source, target in permutations(range(len(devices)), 2):
        expected = payload(_seed(source, target, LARGE_GPU), LARGE_GPU)
        moved = move(expected.to(devices[source]), devices[target])
        wrong = difference(moved, expected)
        report({"kind": "direct", "pair": [source, target], "size": LARGE_GPU, "wrong": wrong})


@contextmanager
def _group(member: Member, store: dist.Store, ranks: Sequence[int], name: str) -> Iterator[None]:
    dist.init_process_group(
        member.backend,
        store=dist.PrefixStore(name, store),
        rank=ranks.index(member.rank),
        world_size=len(ranks),
        timeout=timedelta(seconds=member.seconds),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _compare_copies(
    pair: tuple[int, int], device: torch.device, report: Report, copy: Copy
) -> None:
    rank = dist.get_rank()
    for sender in (0, 1):
        source, target = pair[sender], pair[1 - sender]
        for size in (SMALL, LARGE_GPU if device.type == "cuda" else LARGE_CPU):
            expected = payload(_seed(source, target, size), size)
            tensor = (
                expected.to(device) if rank == sender else torch.zeros_like(expected).to(device)
            )
            received = copy(tensor, sender)
            if rank != sender:
                wrong = difference(received, expected)
                event = {"kind": "copy", "pair": [source, target], "size": size, "wrong": wrong}
                report(event)


def _sum(kind: str, ranks: Sequence[int], device: torch.device) -> Event:
    """All-reduce whole numbers over the group, and compare with the sum made on the host."""
    rank = ranks[dist.get_rank()]
    total = _numbers(rank).to(device)
    dist.all_reduce(total)
    expected = sum(map(_numbers, ranks), torch.zeros(_NUMBERS, dtype=torch.int64))
    wrong = int((total.cpu() != expected).sum())
    return {"kind": kind, "pair": list(ranks), "by": rank, "size": _NUMBERS, "wrong": wrong}


def _numbers(rank: int) -> Tensor:
    return torch.randint(-(2**40), 2**40, (_NUMBERS,), generator=_generator(rank))


def _seed(source: int, target: int, size: int) -> int:
    return (source * 65_536 + target) * 2**31 + size


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).digest()
