"""The exchange between all devices of this machine: one process each, ended when time is over."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from dtpf.doctor.exchange import Event, Member
from dtpf.doctor.findings import Finding, failed, passed
from dtpf.doctor.pairs import judge, rounds

MEMBER = (sys.executable, "-m", "dtpf.doctor.member")
STEP_SECONDS = 60.0
_START_SECONDS = 60.0
_POLL_SECONDS = 0.1


def check_exchange(
    seconds: float = STEP_SECONDS,
    processes: int | None = None,
    command: Sequence[str] = MEMBER,
    start_seconds: float = _START_SECONDS,
) -> list[Finding]:
    """Compare copies and sums between all devices: NCCL between GPUs, gloo between two processes.

    Args:
        seconds: after which a step that waits is a failure.
        processes: how many, on CPUs; default two. GPUs get one each.
        command: runs one process.
        start_seconds: that the processes may take to start.
    """
    cards = torch.cuda.device_count()
    if cards == 1:
        return [passed("copies", "one GPU: nothing to copy between")]
    world = cards or processes or 2
    devices = [f"cuda:{rank}" if cards else "cpu" for rank in range(world)]
    backend = "nccl" if cards else "gloo"
    members = [Member(r, world, device, backend, seconds) for r, device in enumerate(devices)]
    with tempfile.TemporaryDirectory(prefix="dtpf-doctor-") as name:
        folder = Path(name)
        deadline = start_seconds + seconds * (len(rounds(world)) + 1)
        codes = _run(members, folder, command, deadline)
        events = _read(folder)
        errors = [(folder / f"stderr-{rank}.log").read_text() for rank in range(world)]
    if not events and any(codes):
        reason = next((lines[-1] for text in errors if (lines := text.splitlines())), "no output")
        remedy = "the processes did not start: mend what the message says"
        return [failed("copies", reason[:200], remedy)]
    shown = devices if cards else [f"process {rank}" for rank in range(world)]
    return judge(events, shown)


def _run(
    members: Sequence[Member], folder: Path, command: Sequence[str], seconds: float
) -> list[int | None]:
    """Run all members until they end or time is over; none is left."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for member in members:
            line = [*command, str(folder), json.dumps(asdict(member))]
            with (folder / f"stderr-{member.rank}.log").open("wb") as sink:
                started.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=sink))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(p.poll() is None for p in started):
            time.sleep(_POLL_SECONDS)
        return [process.poll() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _read(folder: Path) -> list[Event]:
    events = []
    for path in sorted(folder.glob("events-*.jsonl")):
        # The last line of a process that was ended may be half a line.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        events += [json.loads(line) for line in lines]
    return events
