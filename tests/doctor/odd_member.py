"""A process of an exchange that goes wrong in one way: `odd_member.py HOW FOLDER JSON`."""

import json
import sys
import time
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from dtpf.doctor.exchange import Member, transfer
from dtpf.doctor.member import main


def one_byte_off(tensor: Tensor, sender: int) -> Tensor:
    """Change one byte of what rank 1 of a pair receives."""
    moved = transfer(tensor, sender)
    if dist.get_rank() == 1 and sender == 0:
        moved[len(moved) // 2] ^= 1
    return moved


def nothing_arrives(tensor: Tensor, sender: int) -> Tensor:
    """Leave the receiver with what it had, as drivers have done."""
    before = tensor.clone()
    moved = transfer(tensor, sender)
    return moved if dist.get_rank() == sender else before


def main_with_wrong_sums(folder: Path, member: Member) -> None:
    """Let each sum be off by one in one place."""
    whole = dist.all_reduce

    def off_by_one(tensor: Tensor) -> None:
        whole(tensor)
        tensor[7] += 1

    dist.all_reduce = off_by_one
    main(folder, member)


if __name__ == "__main__":
    how, place, one = sys.argv[1], Path(sys.argv[2]), Member(**json.loads(sys.argv[3]))
    if how == "byte":
        main(place, one, one_byte_off)
    elif how == "nothing":
        main(place, one, nothing_arrives)
    elif how == "sum":
        main_with_wrong_sums(place, one)
    elif how == "hang" and one.rank == 1:
        time.sleep(3600)
    elif how == "crash":
        raise SystemExit("no such device")
    else:
        main(place, one)
