"""The processes that train together: one, those of torchrun, or those of Ray Train.

The loop asks the group instead of torch.distributed, so it reads the same in all three.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """Rank and number of the processes, and the device of this one."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True in the one process that writes to the store."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over the group."""
        if self.world == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def sum(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over the group."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the leader's picklable value in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def current_group(device: torch.device | None = None) -> Group:
    """Return the group of this process, joining the one that torchrun's variables name."""
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if device is None:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if not dist.is_initialized():
        return Group(0, 1, device)
    return Group(dist.get_rank(), dist.get_world_size(), device)
