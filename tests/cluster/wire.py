"""A bad wire in user space: packets are lost and delayed between two network cards.

`tc netem` does this in the kernel, where the kernel has it; many small ones have not. Here both
ends are TAP devices, and a process carries each frame from one to the other, late or never.
"""

import fcntl
import heapq
import multiprocessing
import os
import random
import select
import struct
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

_TUNSETIFF = 0x400454CA
_TAP, _NO_HEADER = 0x0002, 0x1000
_FRAME = 65536


@dataclass
class Wire:
    """Loses a share of the packets and delays the others, in both directions.

    Attributes:
        loss: Share of the packets that never arrive.
        delay_s: Seconds on the way, each direction.
    """

    loss: float
    delay_s: float
    _process: BaseProcess | None = field(default=None, init=False)

    def connect(self, host: int, switch: int, port: str) -> None:
        """Make `eth0` in the namespace of process `host` and `port` in that of `switch`."""
        context = multiprocessing.get_context("spawn")
        made = context.Event()
        self._process = context.Process(
            target=_carry, args=(self.loss, self.delay_s, host, switch, port, made)
        )
        self._process.start()
        if not made.wait(30):
            raise RuntimeError("the wire did not start")

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _carry(loss, delay_s, host, switch, port, made) -> None:
    near, far = _tap(host, "eth0"), _tap(switch, port)
    made.set()
    chance = random.Random(0)
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 1.0
        for source in select.select([near, far], [], [], wait)[0]:
            frame = os.read(source, _FRAME)
            if chance.random() >= loss:
                target = far if source == near else near
                heapq.heappush(under_way, (time.monotonic() + delay_s, count, target, frame))
                count += 1
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(under_way)
            _write(target, frame)


def _write(target: int, frame: bytes) -> None:
    try:
        os.write(target, frame)
    except OSError:  # the card is down: a frame lost
        return


def _tap(pid: int, name: str) -> int:
    """Open a TAP device in the network namespace of a process; it lives as long as the handle."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        _enter(other)
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_HEADER))
        return device
    finally:
        _enter(own)
        os.close(own)
        os.close(other)


def _enter(namespace: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")
