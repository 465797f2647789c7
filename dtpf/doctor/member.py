"""One process of an exchange on this machine: `python -m dtpf.doctor.member FOLDER JSON`."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dtpf.doctor.exchange import Copy, Event, Member, direct_copies, run_member, transfer

MEETING = "meeting"


def main(folder: Path, member: Member, copy: Copy = transfer) -> None:
    """Do the part of one process; results go to `events-<rank>.jsonl` of the folder."""
    store = dist.FileStore(str(folder / MEETING), member.world)  # listens nowhere, unlike TCP
    with (folder / f"events-{member.rank}.jsonl").open("a", encoding="utf-8") as sink:

        def report(event: Event) -> None:
            sink.write(json.dumps(event) + "\n")
            sink.flush()

        if member.rank == 0 and member.backend == "nccl":
            direct_copies([f"cuda:{index}" for index in range(torch.cuda.device_count())], report)
        run_member(member, store, report, copy)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Member(**json.loads(sys.argv[2])))
