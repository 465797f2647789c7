"""Graphics cards as their driver sees them (nvidia-smi), and as torch does."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dtpf.doctor.findings import Finding, failed, passed, warned

QUERY = (
    "nvidia-smi",
    "--query-gpu=index,name,driver_version,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
_ADVISED_DRIVER = 550
_FREE_SHARE = 0.9
# GeForce cards after the 3090 have neither NVLink nor peer-to-peer over PCIe.
_NO_PEERS = re.compile(r"GeForce RTX [45]\d\d\d")


@dataclass(frozen=True)
class Card:
    """One card as its driver describes it; memory in MiB."""

    index: int
    name: str
    driver: str
    total: float
    free: float


def driver_cards(command: Sequence[str] = QUERY) -> list[Card] | None:
    """Return the cards that the driver sees; None where there is no NVIDIA driver at all.

    Raises:
        OSError: the driver is there and does not answer as it should.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise OSError("nvidia-smi did not answer within 60 s") from None
    if done.returncode:
        raise OSError((done.stdout + done.stderr).strip().splitlines()[0])
    return [_card(line) for line in done.stdout.splitlines() if line.strip()]


def _card(line: str) -> Card:
    index, name, driver, total, free = (part.strip() for part in line.split(","))
    # Cards that share the host's memory answer "[N/A]".
    sizes = [float(size) if size.replace(".", "").isdigit() else 0.0 for size in (total, free)]
    return Card(int(index), name, driver, *sizes)


def check_gpus(command: Sequence[str] = QUERY, seen_by_torch: int | None = None) -> list[Finding]:
    """Look at all cards of this machine."""
    seen = torch.cuda.device_count() if seen_by_torch is None else seen_by_torch
    try:
        cards = driver_cards(command)
    except OSError as error:
        remedy = "look at `nvidia-smi` and `dmesg`; after an update of the driver, reboot"
        return [failed("gpu.driver", str(error), remedy)]
    if not cards:
        missing = "no NVIDIA driver" if cards is None else "a driver without cards"
        if seen:
            remedy = "install nvidia-smi, which comes with the driver"
            return [warned("gpu.seen", f"torch sees {seen}, but {missing} answers", remedy)]
        return [passed("gpu.seen", f"{missing}: this machine computes on its CPUs")]
    return [
        check_seen(cards, seen),
        check_driver(cards),
        check_free_memory(cards),
        check_peer_setting(cards, os.environ.get("NCCL_P2P_DISABLE")),
    ]


def check_seen(cards: Sequence[Card], seen: int) -> Finding:
    """Torch must see the cards that the driver sees."""
    names = ", ".join(sorted({card.name for card in cards}))
    if seen >= len(cards):
        return passed("gpu.seen", f"{len(cards)} x {names}")
    found = f"the driver sees {len(cards)} x {names}, torch sees {seen}"
    if torch.version.cuda is None:
        return failed("gpu.seen", found, "this torch is built for CPUs: install a CUDA build")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return warned("gpu.seen", found, "CUDA_VISIBLE_DEVICES hides the others: unset it")
    return failed(
        "gpu.seen", found, "the driver is too old for this CUDA build of torch, or broken"
    )


def check_driver(cards: Sequence[Card]) -> Finding:
    """Early drivers for cards without peer-to-peer returned wrong copies or hung."""
    versions = sorted({card.driver for card in cards})
    oldest = min(int(re.match(r"\d*", version)[0] or 0) for version in versions)  # type: ignore[index]
    found = f"driver {', '.join(versions)}"
    if oldest < _ADVISED_DRIVER:
        remedy = f"update it to {_ADVISED_DRIVER} or newer: older ones copied wrongly between 4090s"
        return warned("gpu.driver", found, remedy)
    return passed("gpu.driver", found)


def check_free_memory(cards: Sequence[Card]) -> Finding:
    """Recipes count on the whole memory of a card."""
    used = [card for card in cards if card.free < _FREE_SHARE * card.total]
    if not used:
        least = min(card.free for card in cards) / 1024
        return passed("gpu.memory", f"{least:.1f} GiB or more free on each card")
    found = ", ".join(
        f"card {c.index}: {c.free / 1024:.1f} of {c.total / 1024:.1f} GiB" for c in used
    )
    return warned("gpu.memory", f"free: {found}", "`nvidia-smi` names the processes; end them")


def check_peer_setting(cards: Sequence[Card], setting: str | None) -> Finding:
    """On cards without peer-to-peer NCCL must not try it."""
    concerned = [card for card in cards if _NO_PEERS.search(card.name)]
    if len(concerned) < 2:
        return passed("nccl.peers", f"NCCL_P2P_DISABLE={setting or ''} (these cards need none)")
    if setting in (None, "", "0"):
        found = f"{concerned[0].name} has no peer-to-peer and NCCL_P2P_DISABLE is not set"
        remedy = "export NCCL_P2P_DISABLE=1 before `ray start`; 8x4090 recipes set it for training"
        return warned("nccl.peers", found, remedy)
    return passed("nccl.peers", f"NCCL_P2P_DISABLE={setting}")
